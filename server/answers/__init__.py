"""Reads and compares answers."""
