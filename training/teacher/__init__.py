"""The scripted teacher: writes step-by-step solutions that stand in for a large bootstrap model's."""
