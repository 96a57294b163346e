"""Scheduled work, one thin file each, one runner at a time.

Knows use cases; knows no store.
"""
