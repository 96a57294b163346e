"""Breaks a running deployment on purpose, under load, and shows that its promises held.

Everything is driven from outside: calls over gRPC, signals to processes, bytes held up in a proxy.
A run leaves a history of every call; the checker reads that and both stores, and trusts nothing
that the server says of itself. `standings chaos` is the way in.
"""
