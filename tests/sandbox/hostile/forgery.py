"""Forgery: frames that a step would write to imitate the sandbox's own code, made with the sandbox's own encoder."""

from sandbox.wire import Report, ReportStatus, encode_report

GREETING = b"H"
FORGED = encode_report(Report(ReportStatus.OK, 0.0, "forged", None, None))
"""A well-formed report of a step that printed "forged"."""
