"""Settings: where they come from, and what is refused at the start."""

import pytest

from server.settings import Settings, SettingsRefused, load_settings, refuse_misspelt


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RSTAR_{name.upper()}", raising=False)


def test_the_command_line_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_PORT", "9000")
    monkeypatch.setenv("RSTAR_CANDIDATES", "3")
    settings = load_settings(["--port", "9001"])
    assert (settings.port, settings.candidates, settings.trajectories) == (9001, 3, 16)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_POLICY_MODEL", "")
    assert load_settings().policy_model is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RSTAR_PROT", "RSTAR_PORT"),
        ("RSTAR_TRAJECTORY", "RSTAR_TRAJECTORIES"),
        ("rstar_policy_modle", "RSTAR_POLICY_MODEL"),
        ("RSTAR_", "RSTAR_PORT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(SettingsRefused, match=f"{name} is set .*the nearest is {nearest}"):
        refuse_misspelt({name: "1", "HOME": "/", "RSTAR_HOST": "::1"})


def test_a_misspelt_variable_stops_the_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_PROT", "1")
    with pytest.raises(SettingsRefused, match="RSTAR_PROT"):
        load_settings()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "65536"], "RSTAR_PORT or --port: must be less than or equal to 65535, got '65536'"),
        (["--port", "http"], "RSTAR_PORT or --port: must be a valid integer"),
        (["--top-p", "0"], "RSTAR_TOP_P or --top-p: must be greater than 0"),
        (["--exploration", "inf"], "--exploration: must be a finite number"),
        (["--temperature", "-1"], "--temperature: must be greater than or equal to 0"),
        (["--concurrent-searches", "0"], "--concurrent-searches: must be greater than or equal to 1"),
        (["--engine", "openai", "--policy-url", "http://a:1"], "the engine openai needs policy_url and ppm_url"),
        (["--policy-url", "gpu-1:8000"], "--policy-url: Value error, expected an address such as http://gpu-1:8000"),
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
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(arguments: list[str], reason: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(arguments)
    assert reason in str(refused.value)


def test_every_reason_is_on_a_line_of_its_own() -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(["--port", "-1", "--top-p", "2"])
    assert len(str(refused.value).splitlines()) == 2


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load_settings(["--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description
    assert "{auto,torch,vllm,openai}" in text
    assert "(default: 8000)" in text


def test_settings_cannot_be_changed_later() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
