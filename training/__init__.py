"""Offline training: problems, rollouts, labels, fine-tuning, the PPM and evaluation."""
