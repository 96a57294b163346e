"""The rules, with no I/O: types, the ordering key, errors, ports, and one verb per file.

Knows no driver, no transport and no other room.
"""
