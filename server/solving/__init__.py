"""One search, from a checked request to its result."""
