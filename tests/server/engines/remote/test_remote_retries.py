"""Retries: how often, and after how long."""

import random
from datetime import UTC, datetime

import pytest

from server.engines.remote.retries import Retries, is_worth_retrying, retry_after_s

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def test_delays_double_up_to_a_limit_and_half_of_each_is_chance() -> None:
    retries = Retries(attempts=6, first_delay_s=1.0, max_delay_s=6.0)
    rng = random.Random(1)
    for attempt, full_s in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 6.0), (5, 6.0)):
        delays = [retries.delay_s(attempt, rng=rng) or 0.0 for _ in range(200)]
        assert full_s / 2 <= min(delays) < 0.6 * full_s
        assert 0.9 * full_s < max(delays) <= full_s
    assert retries.delay_s(6, rng=rng) is None


def test_a_server_may_ask_for_more_time_but_not_for_any_amount() -> None:
    retries = Retries(first_delay_s=1.0, max_retry_after_s=20.0)
    rng = random.Random(1)
    assert retries.delay_s(1, rng=rng, retry_after_s=7.5) == 7.5
    assert 0.5 <= (retries.delay_s(1, rng=rng, retry_after_s=0.0) or 0.0) <= 1.0
    assert retries.delay_s(1, rng=rng, retry_after_s=20.5) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("3", 3.0),
        ("Wed, 04 Mar 2026 12:00:09 GMT", 9.0),
        ("Wed, 04 Mar 2026 12:00:09 -0000", 9.0),
        ("Wed, 04 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, now=NOW) == expected


def test_what_may_pass_is_retried_and_what_is_wrong_is_not() -> None:
    statuses = (200, 302, 400, 401, 404, 422, 429, 500, 501, 502, 503, 504)
    assert [status for status in statuses if is_worth_retrying(status)] == [429, 500, 502, 503, 504]
