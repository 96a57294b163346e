"""Hours of ordinary trouble between callers and a server: calls that are given up, connections that
break, streams that nobody reads; and whether every answer is right all the same.

Everybody who writes here is the only writer of a board, and so knows at any time what it must show.
"""
