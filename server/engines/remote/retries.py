"""Retries: how often a request to a remote server is repeated, and after how long. Does not wait itself."""

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime

TOO_MANY_REQUESTS = 429
NOT_IMPLEMENTED = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Exponential back-off with jitter; a server's own Retry-After wins where it is longer."""

    attempts: int = 5
    """With the delays below: a server may be gone for 4 to 8 seconds, as long as a restart behind a balancer takes."""
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 30.0
    """A server that asks for more patience has failed: searches have deadlines of minutes."""

    def delay_s(self, attempt: int, *, rng: random.Random, retry_after_s: float | None = None) -> float | None:
        """Seconds to wait after failed attempt number `attempt`, counted from 1; None to give up."""
        if attempt >= self.attempts:
            return None
        if retry_after_s is not None and retry_after_s > self.max_retry_after_s:
            return None
        delay_s = min(self.max_delay_s, self.first_delay_s * 2 ** (attempt - 1))
        # Half of it by chance, so that searches which failed together do not come back together.
        return max(delay_s * rng.uniform(0.5, 1.0), retry_after_s or 0.0)


def is_worth_retrying(status: int) -> bool:
    """Whether the same request may be answered later."""
    return status == TOO_MANY_REQUESTS or (status >= 500 and status != NOT_IMPLEMENTED)


def retry_after_s(header: str | None, *, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, in either of its two forms; None where it says nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
