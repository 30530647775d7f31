"""Evaluation: methods compared on the same problems, intervals, calibration and reports."""
