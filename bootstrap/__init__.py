"""Settings and wiring: reads the environment once and builds the object graph.

The only room that sees every adapter.
"""
