"""Settings: everything an operator can turn, from the command line, the environment (`RSTAR_*`) or a default.

Read once, at the start; a frozen value from then on. Nothing misspelt or out of range gets past the reading.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.engines.remote_client import base_url

PREFIX = "RSTAR_"


Engine = Literal["auto", "torch", "vllm", "openai"]
"""Spelt out as literals, not as an enumeration, for the sake of `--help`."""

Count = Annotated[int, Field(ge=1)]
RemoteURL = Annotated[str, AfterValidator(base_url)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Gigabytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Serve maths problems over HTTP. Each option can also be set as RSTAR_<NAME>; the command line wins."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_prog_name="python -m server",
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    engine: Engine = "auto"
    """What runs the models: torch, vllm, openai (vllm servers elsewhere), or auto: vllm beside a GPU, else torch."""
    policy_model: Path | None = None
    """Folder of the policy; the bundled one by default."""
    ppm_model: Path | None = None
    """Folder of the PPM made for that policy."""

    trajectories: Count = 16
    """Budget of a request that names none."""
    max_trajectories: Count = 256
    """Largest budget a request may ask for."""
    timeout_s: Seconds = 120.0
    """Time allowed to a request that names none."""
    max_timeout_s: Seconds = 600.0
    """Longest time a request may ask for."""
    candidates: Count = 8
    """Candidates per expansion, where the request names none."""
    max_candidates: Count = 32
    """Most candidates per expansion a request may ask for."""
    depth: Count = 16
    """Steps of a trajectory at most, where the request does not say."""
    max_depth: Count = 32
    """Greatest depth a request may ask for."""
    exploration: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 2.0
    """c of UCT and PUCT, where the request does not say."""
    parallel_rollouts: Count = 4
    """Rollouts of one search in flight at once, where the request does not say; 1 makes searches repeatable."""
    max_parallel_rollouts: Count = 16
    """Most rollouts in flight a request may ask for."""
    stop_when_decided: bool = True
    """End a search whose answer cannot be overtaken any more within its budget, unless the request says otherwise."""

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Of sampling candidates; the greedy strategy always decides at 0."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the probability mass that candidates are sampled from."""
    max_step_tokens: Count = 256
    """Length of one step; longer candidates are cut off and dropped."""

    policy_url: RemoteURL | None = None
    """Address of the vllm server that serves the policy, for the engine openai."""
    ppm_url: RemoteURL | None = None
    """Address of the vllm server that serves the PPM."""
    policy_api_key: SecretStr | None = None
    """Sent to the policy's server, where it asks for one."""
    ppm_api_key: SecretStr | None = None
    """Sent to the PPM's server."""
    remote_timeout_s: Seconds = 120.0
    """Time allowed to one answer of those servers."""
    vllm_policy_gpu_fraction: Fraction = 0.55
    """Share of each GPU's memory for the policy on vllm: its weights, and the paths and candidates in flight."""
    vllm_ppm_gpu_fraction: Fraction = 0.35
    """The PPM's share."""
    vllm_policy_kv_gb: Gigabytes = 1.0
    """Memory for the policy's paths and candidates on vllm without a GPU, beside its weights."""
    vllm_ppm_kv_gb: Gigabytes = 0.5
    """The PPM's."""
    vllm_ppm_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """What the PPM computes in on vllm; bfloat16 takes half the memory, moves scores, and may fail the self-check."""
    vllm_tensor_parallel: Count = 1
    """GPUs over which vllm spreads each model."""

    max_problem_chars: Count = 8000
    """Length of a problem; the policy's context sets a second limit, in tokens."""
    max_body_bytes: Count = 65536
    """Size of a request body."""
    concurrent_searches: Count = 4
    """Searches that run at once; more wait for their turn, within their own time limit."""
    sandbox_workers: Count = 2
    """Code steps that run at once."""
    sandbox_min_level: Literal["full", "reduced"] = "full"
    """How well steps must be confined for the server to start; reduced: without namespaces or without Landlock."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.engine == "openai" and (self.policy_url is None or self.ppm_url is None):
            raise ValueError("the engine openai needs policy_url and ppm_url: the addresses of two vllm servers")
        if (self.policy_model is None) != (self.ppm_model is None):
            raise ValueError("policy_model and ppm_model are made for each other: set both, or neither")
        shares = self.vllm_policy_gpu_fraction + self.vllm_ppm_gpu_fraction
        if shares > 1:
            raise ValueError(
                f"vllm_policy_gpu_fraction and vllm_ppm_gpu_fraction are {shares:g} of a GPU together; at most 1"
            )
        for name in ("trajectories", "timeout_s", "candidates", "depth", "parallel_rollouts"):
            default, limit = getattr(self, name), getattr(self, f"max_{name}")
            if default > limit:
                raise ValueError(f"{name} is {default}, above its own limit: max_{name} is {limit}")
        return self


class SettingsRefused(Exception):
    """The settings make no sense; one line per reason."""


def load_settings(arguments: Sequence[str] = ()) -> Settings:
    """Command line over environment over defaults. Raises `SettingsRefused`; `--help` prints and exits."""
    refuse_misspelt(os.environ)
    try:
        # pydantic-settings takes this keyword, which type checkers cannot see.
        return Settings(_cli_parse_args=list(arguments))  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        lines = (_line(detail["loc"], detail["msg"], detail["input"]) for detail in error.errors(include_url=False))
        raise SettingsRefused("\n".join(lines)) from None


def refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Raise `SettingsRefused` for a variable with our prefix that nothing reads."""
    valid = [PREFIX + name.upper() for name in Settings.model_fields]
    unknown = [name for name in sorted(environment) if name.upper().startswith(PREFIX) and name.upper() not in valid]
    lines: list[str] = []
    for name in unknown:
        (nearest,) = difflib.get_close_matches(name.upper(), valid, n=1, cutoff=0.0)
        lines.append(f"{name} is set in the environment, but there is no such setting; the nearest is {nearest}")
    if lines:
        raise SettingsRefused("\n".join(lines))


def _line(location: tuple[int | str, ...], message: str, value: object) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    name = str(location[0])
    message = message.replace("Input should be", "must be")
    return f"{PREFIX}{name.upper()} or --{name.replace('_', '-')}: {message}, got {value!r}"
