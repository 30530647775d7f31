"""Settings: refused values, and dependence on their arguments alone."""

import pytest

from server.settings.settings import REQUEST_LIMITS, Settings, vllm_server_address
from server.settings.sources import SettingsRefused, load_settings

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RSTAR_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "65536"], "--port: must be less than or equal to 65535, got '65536'"),
        (["--port", "http"], "--port: must be a valid integer"),
        (["--top-p", "0"], "--top-p: must be greater than 0"),
        (["--exploration", "inf"], "--exploration: must be a finite number"),
        (["--temperature", "-1"], "--temperature: must be greater than or equal to 0"),
        (["--max-exploration", "inf"], "--max-exploration: must be a finite number"),
        (["--max-temperature", "nan"], "--max-temperature: must be a finite number"),
        (["--concurrent-searches", "0"], "--concurrent-searches: must be greater than or equal to 1"),
        (["--queued-searches", "-1"], "--queued-searches: must be greater than or equal to 0"),
        (["--max-searches-per-key", "0"], "--max-searches-per-key: must be greater than or equal to 1"),
        (["--drain-s", "-1"], "--drain-s: must be greater than or equal to 0"),
        (["--heartbeat-s", "0"], "--heartbeat-s: must be greater than 0"),
        (["--tokens", "0"], "--tokens: must be greater than or equal to 1"),
        (["--max-tokens", "0"], "--max-tokens: must be greater than or equal to 1"),
        (["--max-beam-width", "0"], "--max-beam-width: must be greater than or equal to 1"),
        (["--low-effort-trajectories", "0"], "--low-effort-trajectories: must be greater than or equal to 1"),
        (["--log-level", "INFO"], "--log-level: must be 'debug', 'info', 'warning' or 'error', got 'INFO'"),
        (["--log-format", "xml"], "--log-format: must be 'text' or 'json', got 'xml'"),
        (["--access-log", "perhaps"], "--access-log: must be a valid boolean"),
        (["--otlp-endpoint", "collector:4317"], "--otlp-endpoint: expected the address of an OTLP collector over HTTP"),
        (["--otlp-endpoint", "http://me:secret@c:1"], "--otlp-endpoint: an address must not hold a password"),
        (["--policy-url", "http://me:secret@c:1"], "give the API key as a setting of its own"),
        (["--cors-origins", "https://a.org/app"], "--cors-origins: expected an origin as browsers send it"),
        (["--cors-origins", "https://A.org"], "--cors-origins: expected an origin as browsers send it"),
        (["--cors-origins", "a.org"], "--cors-origins: expected an origin as browsers send it"),
        (["--cors-origins", "*,https://a.org"], "cors_origins is * and more; * already stands for every origin"),
        (["--engine", "openai", "--policy-url", "http://a:1"], "the engine openai needs policy_url and ppm_url"),
        (["--policy-url", "gpu-1:8000"], "--policy-url: expected an address such as http://gpu-1:8000"),
        (["--vllm-ppm-gpu-fraction", "1"], "--vllm-ppm-gpu-fraction: must be less than 1"),
        (["--vllm-ppm-gpu-fraction", "0.5"], "are 1.05 of a GPU together; at most 1"),
        (["--vllm-policy-kv-gb", "0"], "--vllm-policy-kv-gb: must be greater than 0"),
        (["--vllm-tensor-parallel", "0"], "--vllm-tensor-parallel: must be greater than or equal to 1"),
        (["--policy-model", "/models/policy"], "set both, or neither"),
        (["--trajectories", "300"], "trajectories is 300, above its own limit: max_trajectories is 256"),
        (["--timeout-s", "601"], "timeout_s is 601.0, above its own limit: max_timeout_s is 600.0"),
        (["--candidates", "33"], "candidates is 33, above its own limit: max_candidates is 32"),
        (["--depth", "33"], "depth is 33, above its own limit: max_depth is 32"),
        (["--parallel-rollouts", "17"], "parallel_rollouts is 17, above its own limit: max_parallel_rollouts is 16"),
        (["--tokens", "4000001"], "tokens is 4000001, above its own limit: max_tokens is 4000000"),
        (["--beam-width", "33"], "beam_width is 33, above its own limit: max_beam_width is 32"),
        (["--exploration", "100.5"], "exploration is 100.5, above its own limit: max_exploration is 100.0"),
        (["--temperature", "2.5"], "temperature is 2.5, above its own limit: max_temperature is 2.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(arguments: list[str], reason: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(arguments)
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)


def test_every_limit_on_a_request_has_a_default_within_it() -> None:
    limits = {name.removeprefix("max_") for name in Settings.model_fields if name.startswith("max_")}
    assert [limit.setting for limit in REQUEST_LIMITS if limit.default(Settings()) > limit.most(Settings())] == []
    assert {limit.setting for limit in REQUEST_LIMITS} == limits & set(Settings.model_fields)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ("tooshort", "api_keys: API key 1 has 8 characters; at least 16 are needed"),
        (f"{KEY},{KEY}", "api_keys: key-1 and key-2 are the same API key"),
        (f"a={KEY},a={KEY}2", "api_keys: two API keys have the name a"),
    ],
)
def test_bad_api_keys_are_refused_without_being_printed(
    keys: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSTAR_API_KEYS", keys)
    with pytest.raises(SettingsRefused) as refused:
        load_settings([])
    assert str(refused.value) == reason.replace("api_keys", "RSTAR_API_KEYS")
    with pytest.raises(ValueError, match="1 validation error") as invalid:
        Settings(api_keys=keys)  # pyright: ignore[reportArgumentType] # as it is written by hand
    assert keys not in str(invalid.value)


def test_every_reason_is_on_a_line_of_its_own() -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(["--port", "-1", "--top-p", "2"])
    assert len(str(refused.value).splitlines()) == 2


def test_settings_made_in_code_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_PORT", "9000")
    assert Settings().port == 8000


def test_settings_cannot_be_changed_later() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://gpu-1:8000", "http://gpu-1:8000"),
        (" http://gpu-1:8000/v1/ ", "http://gpu-1:8000"),
        ("https://gateway/models/policy/v1", "https://gateway/models/policy"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://v1/v1", "http://v1"),
        ("http://v1", "http://v1"),
    ],
)
def test_an_address_may_end_in_a_slash_or_v1(given: str, expected: str) -> None:
    assert vllm_server_address(given) == expected


@pytest.mark.parametrize("url", ["gpu-1:8000", "ftp://gpu-1", "http://", "http://user:pw@gpu-1", "http://gpu-1/?a=b"])
def test_a_text_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        vllm_server_address(url)
