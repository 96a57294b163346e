"""The calls themselves: method table, chain, servicers, status map. Knows no transport."""
