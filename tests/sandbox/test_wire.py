"""The bytes between server, zygote and steps."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.wire import (
    Exit,
    Fork,
    Kill,
    Report,
    Status,
    Step,
    cut,
    decode_command,
    decode_exit,
    decode_program,
    decode_report,
    encode_command,
    encode_exit,
    encode_program,
    encode_report,
    max_report_bytes,
    program_length,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("command", [Fork(1, 2, 3, 4, 5, 6), Kill(2**40)])
def test_commands_survive_the_journey(command: Fork | Kill) -> None:
    assert decode_command(encode_command(command)) == command


def test_exits_survive_the_journey() -> None:
    assert decode_exit(encode_exit(Exit(7, -9, 0.25))) == Exit(7, -9, 0.25)


@given(st.lists(st.builds(Step, st.integers(0, 2**64 - 1), st.text())))
def test_programs_survive_the_journey(steps: list[Step]) -> None:
    message = encode_program(steps)
    assert program_length(message) == len(message)
    assert decode_program(message) == steps


@given(TEXTS, TEXTS.filter(bool), TEXTS.filter(bool))
def test_reports_survive_the_journey(stdout: str, value: str, error: str) -> None:
    report = Report(Status.ERROR, 0.5, stdout, value, error)
    message = encode_report(report)
    assert len(message) <= max_report_bytes(100)
    assert decode_report(message, output_bytes=100) == report


@given(st.binary(max_size=60))
def test_garbage_is_no_report(garbage: bytes) -> None:
    report = decode_report(garbage, output_bytes=10)
    assert report is None or len(garbage) == 21 + sum(struct.unpack_from("<III", garbage, 9))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        struct.pack("<BdIII", 99, 0.1, 0, 0, 0),
        struct.pack("<BdIII", 0, -1.0, 0, 0, 0),
        struct.pack("<BdIII", 0, float("nan"), 0, 0, 0),
        struct.pack("<BdIII", 0, float("inf"), 0, 0, 0),
        struct.pack("<BdIII", 0, 0.1, 11, 0, 0) + b"x" * 11,
        struct.pack("<BdIII", 0, 0.1, 2**32 - 1, 0, 0),
    ],
)
def test_impossible_fields_are_no_report(message: bytes) -> None:
    assert decode_report(message, output_bytes=10) is None


@given(st.text(), st.integers(0, 30))
def test_cut_keeps_the_longest_head_that_fits(text: str, max_bytes: int) -> None:
    head = cut(text, max_bytes)
    assert len(head.encode()) <= max_bytes
    if len(text.encode("utf-8", "replace")) <= max_bytes:
        assert head == text.encode("utf-8", "replace").decode()
