"""Real servers as children of this process: a Redis Cluster and a PostgreSQL on loopback ports.

For the demo and the tests; a deployment points STANDINGS_POSTGRES_DSN and STANDINGS_REDIS_NODES at
servers of its own and never comes here. `stack.EmbeddedStack` is the way in. Knows no other room.
"""
