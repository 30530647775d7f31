"""Reward models of other makes as PPM."""
