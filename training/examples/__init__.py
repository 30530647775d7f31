"""Training examples read off searched trees: labels, solutions, preferences and values. Pure."""
