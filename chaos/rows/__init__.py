"""The rows of the fault matrix: what is broken, how it is mended, and what is expected of it."""
