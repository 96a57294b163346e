"""The Redis Cluster index: slot map, router, functions, merge.

Owns the Redis driver; knows no PostgreSQL and no rule of a board.
"""
