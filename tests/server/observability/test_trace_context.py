"""Trace context: what of the W3C headers is taken, and what counts as absent."""

import pytest

from server.observability.trace_context import TraceContext, new_trace_context, read_trace_context

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def _read(*headers: tuple[str, str]) -> TraceContext | None:
    return read_trace_context([(name.encode(), value.encode("latin-1")) for name, value in headers])


def test_a_valid_context_is_read_and_written_as_it_was() -> None:
    context = _read(("traceparent", PARENT), ("tracestate", "vendor=a:1,other@sys=b c"))
    assert context == TraceContext(trace_id=TRACE, span_id=SPAN, flags=1, state="vendor=a:1,other@sys=b c")
    assert context is not None
    assert context.headers == {"traceparent": PARENT, "tracestate": "vendor=a:1,other@sys=b c"}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + "-more",
        PARENT + " x",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00_{TRACE}_{SPAN}_01",
        PARENT + "\n",
        f"01-{TRACE}-{SPAN}-01.more",
    ],
)
def test_a_malformed_parent_counts_as_absent(parent: str) -> None:
    assert _read(("traceparent", parent), ("tracestate", "a=b")) is None


def test_no_parent_or_two_of_them_are_none() -> None:
    assert _read() is None
    assert _read(("tracestate", "a=b")) is None
    assert _read(("traceparent", PARENT), ("traceparent", PARENT)) is None


@pytest.mark.parametrize("parent", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what.the-future-brings"])
def test_a_later_version_is_read_as_far_as_it_is_known(parent: str) -> None:
    context = _read(("traceparent", parent))
    assert context is not None
    assert context.traceparent == PARENT


def test_flags_that_mean_nothing_yet_are_not_passed_on() -> None:
    context = _read(("traceparent", f" 00-{TRACE}-{SPAN}-ff\t"))
    assert context is not None
    assert context.traceparent.endswith("-03")


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1 , ,b=2,"], "a=1,b=2"),
        (["a=1=2"], ""),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a"], ""),
        (["a="], ""),
        (["a=ü"], ""),
        (["1a=1"], ""),
        (["1a@v=1"], "1a@v=1"),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
        ([",".join(f"k{number}=v" for number in range(33))], ""),
        ([f"a={'x' * 256},b={'x' * 256}"], ""),
        ([f"a={'x' * 257}"], ""),
    ],
)
def test_a_state_is_passed_on_whole_or_not_at_all(states: list[str], kept: str) -> None:
    context = _read(("traceparent", PARENT), *(("tracestate", state) for state in states))
    assert context is not None
    assert context.state == kept
    assert ("tracestate" in context.headers) == bool(kept)


def test_a_new_context_is_valid_distinct_and_not_sampled() -> None:
    first, second = new_trace_context(), new_trace_context()
    assert _read(("traceparent", first.traceparent)) == first
    assert first.trace_id != second.trace_id
    assert first.traceparent.endswith("-00")
