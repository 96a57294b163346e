"""Measures a deployment against what the same machine can do at all.

It starts floors and the product in processes of their own, puts load on them in turn, and tells
medians and ratios. It judges speed only: whether promises hold is for tests and for chaos.
"""
