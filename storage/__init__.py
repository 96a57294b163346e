"""PostgreSQL, the truth: pools, migrations, the ledger, boards.

Owns psycopg; knows no Redis.
"""
