"""Answers: reads the answers of trajectories and decides whether two of them are equal."""
