"""Settings: every value an operator can set, declared with its default and its bounds.

`Settings` is a frozen value and reads nothing. `server.settings.sources` reads command line, environment and file.
"""

import re
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, DirectoryPath, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliSuppress, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from server.settings.api_keys import read_api_keys

PREFIX = "RSTAR_"
"""First part of the name of every environment variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimit:
    """One number that a request may choose up to a cap."""

    setting: str
    """Its default. `max_<setting>` is the cap."""
    field: str
    """Field of the request, dotted."""

    def default(self, settings: BaseModel) -> float:
        return getattr(settings, self.setting)

    def most(self, settings: BaseModel) -> float:
        return getattr(settings, f"max_{self.setting}")

    def asked(self, request: BaseModel) -> float | None:
        """The number in the request, if it has one."""
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
"""The checks of settings and of requests and the OpenAPI document all use this table."""

_NEVER_IN_ADDRESSES = "@?#"
"""Marks of passwords, queries and fragments, refused anywhere: `http://me:p/w@gpu` has its `@` in the path."""


def _checked_api_keys(keys: SecretStr) -> SecretStr:
    read_api_keys(keys.get_secret_value())
    return keys


def _checked_redis_url(url: SecretStr) -> SecretStr:
    """It may hold a password, so no message quotes it."""
    expected = "redis://host:6379, rediss://host:6379 for TLS, or unix:///path/of/socket"
    try:
        parts = urlsplit(url.get_secret_value())
        is_address = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"expected {expected}") from None
    if not (is_address or (parts.scheme == "unix" and parts.path)):
        raise ValueError(f"expected {expected}")
    return url


def web_address(text: str, *, expected: str, secrets: str) -> str:
    """The address of an HTTP server without a final slash. Connects to nothing.

    Raises ValueError that says what was `expected`, or where `secrets` belong. It never quotes the text, which may hold
    a password by mistake.
    """
    text = text.strip()
    if any(sign in text for sign in _NEVER_IN_ADDRESSES):
        raise ValueError(f"an address must not hold a password, nor any of {' '.join(_NEVER_IN_ADDRESSES)}; {secrets}")
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # unmatched brackets or an impossible port; some of these messages quote the text
        raise ValueError(f"expected {expected}") from None
    if not is_address:
        raise ValueError(f"expected {expected}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def vllm_server_address(url: str) -> str:
    """The address of a vLLM server without a final slash or `/v1`. Raises ValueError, see `web_address`."""
    secrets = "give the API key as a setting of its own"
    address = web_address(url, expected="an address such as http://gpu-1:8000", secrets=secrets)
    return re.sub(r"(?<!/)/v1$", "", address).rstrip("/")


def _otlp_address(url: str) -> str:
    expected = "the address of an OTLP collector over HTTP, such as http://collector:4318"
    secrets = "OTEL_EXPORTER_OTLP_HEADERS takes what the collector asks for"
    return web_address(url, expected=expected, secrets=secrets)


def _origin(text: str) -> str:
    expected = "an origin as browsers send it, such as https://app.example.org, or *"
    if text == "*":
        return text
    address = web_address(text, expected=expected, secrets="browsers send none of them")
    if text != address.lower() or text.count("/") > len("//"):
        raise ValueError(f"expected {expected}")
    return text


def _split_at_commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Engine = Literal["auto", "torch", "vllm", "openai"]
"""Spelt out as literals, not as an enumeration, for the sake of `--help`."""

Count = Annotated[int, Field(ge=1)]
RemoteURL = Annotated[str, AfterValidator(vllm_server_address)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Gigabytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ZeroOrMore = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ApiKeys = Annotated[SecretStr, AfterValidator(_checked_api_keys)]
RedisURL = Annotated[SecretStr, AfterValidator(_checked_redis_url)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split_at_commas)]
OtlpAddress = Annotated[str, AfterValidator(_otlp_address)]


class Settings(BaseSettings):
    """Serve maths problems over HTTP. Options can also be RSTAR_<NAME> in the environment, or <name> in a TOML file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
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
    served_model_name: Annotated[str, Field(min_length=1, max_length=256)] = "rstar"
    """The model that clients of the OpenAI API name."""

    trajectories: Count = 16
    """Budget of a request that names none."""
    max_trajectories: Count = 256
    """Largest budget a request may ask for."""
    low_effort_trajectories: Count = 4
    """Budget of a request that asks for low effort; at most max_trajectories, as of the other two."""
    medium_effort_trajectories: Count = 16
    """Budget of a request that asks for medium effort."""
    high_effort_trajectories: Count = 64
    """Budget of a request that asks for high effort."""
    tokens: Count = 1_000_000
    """Tokens that a request which names no limit of its own may generate."""
    max_tokens: Count = 4_000_000
    """Most tokens a request may ask for."""
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
    exploration: ZeroOrMore = 2.0
    """c of UCT and PUCT, where the request does not say."""
    max_exploration: ZeroOrMore = 100.0
    """Largest c a request may ask for."""
    parallel_rollouts: Count = 4
    """Rollouts of one search in flight at once, where the request does not say; 1 makes searches repeatable."""
    max_parallel_rollouts: Count = 16
    """Most rollouts in flight a request may ask for."""
    beam_width: Count = 8
    """Paths that step_beam follows at once, where the request does not say."""
    max_beam_width: Count = 32
    """Most paths a request may ask for; all candidates of each are in flight at once."""
    stop_when_decided: bool = True
    """End a search whose answer cannot be overtaken any more within its budget, unless the request says otherwise."""

    temperature: ZeroOrMore = 1.0
    """Of sampling candidates, where the request does not say; the greedy strategy always decides at 0."""
    max_temperature: ZeroOrMore = 2.0
    """Highest temperature a request may ask for."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the probability mass that candidates are sampled from, where the request does not say."""
    max_step_tokens: Count = 256
    """Length of one step; longer candidates are cut off and dropped."""

    policy_url: RemoteURL | None = None
    """Address of the vllm server that serves the policy, for the engine openai."""
    ppm_url: RemoteURL | None = None
    """Address of the vllm server that serves the PPM."""
    policy_api_key: CliSuppress[SecretStr | None] = None
    """Sent to the policy's server, where it asks for one."""
    ppm_api_key: CliSuppress[SecretStr | None] = None
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

    tree_cache_mb: ZeroOrMore = 256.0
    """Memory for the trees of earlier searches, which answer problems that come again; 0 keeps none."""
    tree_ttl_s: Seconds = 86_400.0
    """Time after which a tree that no search has added to is forgotten."""
    redis_url: CliSuppress[RedisURL | None] = None
    """Redis or Valkey that holds the trees instead, for several servers: redis://, rediss:// (TLS) or unix://."""
    redis_timeout_s: Seconds = 0.5
    """Time allowed to one call of Redis; the server goes on without it when it takes longer."""

    max_problem_chars: Count = 8000
    """Length of a problem; the policy's context sets a second limit, in tokens."""
    record_folder: DirectoryPath | None = None
    """Folder to write a record of each search to, problem included: `python -m server.replay` runs it again."""
    max_body_bytes: Count = 65536
    """Size of a request body."""
    body_timeout_s: Seconds = 30.0
    """Time that a client may take to send its body."""
    concurrent_searches: Count = 16
    """Searches that run at once; more wait for their turn, within their own time limit."""
    queued_searches: Annotated[int, Field(ge=0)] = 64
    """Searches that may wait; more are refused at once."""
    max_searches_per_key: Count | None = None
    """Searches, running and waiting, of one API key; without keys, of one client's address. No limit by default."""
    heartbeat_s: Seconds = 10.0
    """Time after which a stream with nothing to say sends a comment, so that no proxy takes it for dead."""
    drain_s: SecondsOrZero = 30.0
    """Time that running searches get to end by themselves after SIGTERM; then each gives its best answer so far."""
    sandbox_workers: Count = 2
    """Code steps that run at once."""
    sandbox_min_level: Literal["full", "reduced"] = "full"
    """How well steps must be confined for the server to start; reduced: without namespaces or without Landlock."""

    api_keys: CliSuppress[ApiKeys | None] = None
    """Keys, one of which each request has to show: key or name=key, between commas or line ends. Open by default."""
    cors_origins: Origins = ()
    """Origins, between commas, whose web pages may use the server from a browser; * for all, none by default."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum log level; problems and answers appear at debug only."""
    log_format: Literal["text", "json"] = "text"
    """How entries are written on stderr: lines for people, or one JSON object a line."""
    access_log: bool = True
    """Log each request when it is over."""
    otlp_endpoint: OtlpAddress | None = None
    """Address of an OpenTelemetry collector (OTLP over HTTP) that gets traces; needs the extra otel."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: settings made in code do not change with the environment."""
        return (init_settings,)

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
        for limit in REQUEST_LIMITS:
            name, default, most = limit.setting, limit.default(self), limit.most(self)
            if default > most:
                raise ValueError(f"{name} is {default}, above its own limit: max_{name} is {most}")
        if "*" in self.cors_origins and len(self.cors_origins) > 1:
            raise ValueError("cors_origins is * and more; * already stands for every origin")
        return self
