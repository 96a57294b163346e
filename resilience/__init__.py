"""What keeps a slow dependency from becoming a slow caller.

Knows nothing of ours.
"""
