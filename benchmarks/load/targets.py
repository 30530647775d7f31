"""Targets: the bounds on figures of the service load. A target without a bound is only shown at the end."""

from collections.abc import Iterator

from benchmarks.load.levels import CLIENTS
from benchmarks.steps.report import Target


def targets() -> tuple[Target, ...]:
    """The targets in the order of printing."""
    return (*_of_server("free"), *_of_server("bundled"), *_of_leaving(), *_of_python())


def _of_server(kind: str) -> Iterator[Target]:
    for figure, words in (
        ("first_byte_p50_s", "first byte, s"),
        ("first_event_p50_s", "first event, s"),
        ("whole_p50_s", "whole, p50, s"),
        ("whole_p95_s", "whole, p95, s"),
    ):
        for clients in CLIENTS:
            yield Target(name=f"{kind}/{clients}_clients/{figure}", words=f"{kind}, {clients} clients: {words}")
    for figure, words in (("not_answered", "requests not answered"), ("lost_events", "trajectories without an event")):
        for clients in CLIENTS:
            yield Target(name=f"{kind}/{clients}_clients/{figure}", words=f"{kind}, {clients} clients: {words}", most=0)
    for figure, words, most in (
        ("neither_answered_nor_refused", "requests neither answered nor refused", 0),
        ("left_in_flight", "searches left", 0),
        ("refusal_p95_s", "a refusal, p95, s", 2),
        ("memory_peak_ratio", "memory, peak / before", 1.5),
        ("memory_after_ratio", "memory, after / before", 1.25),
    ):
        yield Target(name=f"{kind}/overload/{figure}", words=f"{kind}, overload: {words}", most=most)


def _of_leaving() -> Iterator[Target]:
    for name, words in (("leaving_all_running", "all running"), ("leaving_most_waiting", "most waiting")):
        begin = f"100 clients left, {words}:"
        yield Target(name=f"{name}/1_s_later/anything", words=f"{begin} still there 1 s later", most=0)
        yield Target(name=f"{name}/tokens/next_5_s", words=f"{begin} tokens in 5 s more", most=0)


def _of_python() -> Iterator[Target]:
    yield Target(name="python/us_per_node", words="our Python for a node, stream and HTTP included, us")
    yield Target(name="python/share", words="our Python / cost of a node", most=0.05)
