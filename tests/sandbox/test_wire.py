"""The frames between server, zygote and nodes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.wire import (
    REPORT_OVERHEAD_BYTES,
    Report,
    ReportStatus,
    TreeOptions,
    cut,
    decode_options,
    decode_report,
    decode_run,
    encode_options,
    encode_report,
    encode_run,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_options_survive_the_journey() -> None:
    options = TreeOptions(1, 2, 3, 4, 5)
    assert decode_options(encode_options(options)) == options


@given(st.integers(0, 2**64 - 1), st.text())
def test_steps_survive_the_journey(seed: int, code: str) -> None:
    assert decode_run(encode_run(seed, code)) == (seed, code)


@given(TEXTS, TEXTS.filter(bool), TEXTS.filter(bool))
def test_reports_survive_the_journey(stdout: str, value: str, error: str) -> None:
    report = Report(ReportStatus.ERROR, 0.5, stdout, value, error)
    frame = encode_report(report)
    assert len(frame) <= REPORT_OVERHEAD_BYTES + 200
    assert decode_report(frame, output_bytes=100) == report


@given(st.binary(max_size=60))
def test_garbage_is_no_report(garbage: bytes) -> None:
    report = decode_report(garbage, output_bytes=10)
    assert report is None or len(garbage) == 22 + sum(struct.unpack_from("<III", garbage, 10))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        struct.pack("<cBdIII", b"H", 0, 0.1, 0, 0, 0),
        struct.pack("<cBdIII", b"D", 99, 0.1, 0, 0, 0),
        struct.pack("<cBdIII", b"D", 0, -1.0, 0, 0, 0),
        struct.pack("<cBdIII", b"D", 0, float("nan"), 0, 0, 0),
        struct.pack("<cBdIII", b"D", 0, float("inf"), 0, 0, 0),
        struct.pack("<cBdIII", b"D", 0, 0.1, 11, 0, 0) + b"x" * 11,
        struct.pack("<cBdIII", b"D", 0, 0.1, 2**32 - 1, 0, 0),
    ],
)
def test_impossible_fields_are_no_report(frame: bytes) -> None:
    assert decode_report(frame, output_bytes=10) is None


@given(st.text(), st.integers(0, 30))
def test_cut_keeps_the_longest_head_that_fits(text: str, max_bytes: int) -> None:
    head = cut(text, max_bytes)
    assert len(head.encode()) <= max_bytes
    if len(text.encode("utf-8", "replace")) <= max_bytes:
        assert head == text.encode("utf-8", "replace").decode()
