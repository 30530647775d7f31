"""Request limits: the one table of the numbers that a request may choose up to a cap. Pure; the caps are the settings'.

The check of settings, the check of requests and the OpenAPI document all go through it.
"""

from dataclasses import dataclass
from functools import reduce

from pydantic import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimit:
    """One number of a request."""

    setting: str
    """What a request gets that names none; `max_<setting>` is the most it may ask for."""
    field: str
    """Of the request, dotted."""

    def default(self, settings: BaseModel) -> float:
        return getattr(settings, self.setting)

    def most(self, settings: BaseModel) -> float:
        return getattr(settings, f"max_{self.setting}")

    def asked(self, request: BaseModel) -> float | None:
        """What the request names, if anything."""
        return reduce(getattr, self.field.split("."), request)


REQUEST_LIMITS = (
    RequestLimit(setting="trajectories", field="trajectories"),
    RequestLimit(setting="tokens", field="max_tokens"),
    RequestLimit(setting="timeout_s", field="timeout_s"),
    RequestLimit(setting="temperature", field="temperature"),
    RequestLimit(setting="candidates", field="search.candidates"),
    RequestLimit(setting="depth", field="search.depth"),
    RequestLimit(setting="exploration", field="search.exploration"),
    RequestLimit(setting="parallel_rollouts", field="search.parallel_rollouts"),
    RequestLimit(setting="beam_width", field="search.beam_width"),
)
