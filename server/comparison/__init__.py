"""Comparison: reads answers with a small grammar of our own and decides whether two of them are equal."""
