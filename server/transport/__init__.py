"""What carries bytes between a socket and the chain. Knows no rule."""
