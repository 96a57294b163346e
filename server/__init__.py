"""Everything that listens: the method table, the chain, the servicers and the transports.

Knows use cases and the contract; knows no store.
"""
