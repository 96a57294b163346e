"""What keeps a benchmark from being run."""


class BenchFailed(Exception):
    """Nothing could be measured; the text says why, and what to do about it."""
