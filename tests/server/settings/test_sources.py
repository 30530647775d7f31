"""Settings' sources: precedence, refusals at the start, secrets from files, and `--print-config`."""

import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from server.settings.settings import Settings
from server.settings.sources import (
    ADDRESSES,
    SECRETS,
    CommandLine,
    SettingsRefused,
    Source,
    check_variables,
    load_settings,
    settings_as_toml,
)

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CommandLine.model_fields:
        monkeypatch.delenv(f"RSTAR_{name.upper()}", raising=False)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return tmp_path / "rstar.toml"


def test_command_line_beats_environment_beats_file_beats_default(
    monkeypatch: pytest.MonkeyPatch, config_file: Path
) -> None:
    config_file.write_text("port = 1\ncandidates = 1\ndepth = 1\n")
    monkeypatch.setenv("RSTAR_PORT", "2")
    monkeypatch.setenv("RSTAR_CANDIDATES", "2")
    loaded = load_settings(["--config-file", str(config_file), "--port", "3"])
    settings = loaded.settings
    assert (settings.port, settings.candidates, settings.depth, settings.trajectories) == (3, 2, 1, 16)
    assert {name: origin.source for name, origin in loaded.origins.items()} == {
        "port": Source.CLI,
        "candidates": Source.ENVIRONMENT,
        "depth": Source.FILE,
    }


def test_the_file_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, config_file: Path) -> None:
    config_file.write_text('host = "::1"\n')
    monkeypatch.setenv("RSTAR_CONFIG_FILE", str(config_file))
    assert load_settings().settings.host == "::1"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_POLICY_MODEL", "")
    assert load_settings().settings.policy_model is None


@pytest.mark.parametrize("name", ["RSTAR_API_KEYS", "RSTAR_API_KEYS_FILE", "rstar_policy_api_key"])
def test_a_variable_for_a_secret_must_not_be_empty(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    with pytest.raises(SettingsRefused, match=f"{name} is set and empty"):
        load_settings()


def test_origins_are_split_at_commas_and_may_be_repeated(monkeypatch: pytest.MonkeyPatch, config_file: Path) -> None:
    both = ("https://a.org", "http://localhost:3000")
    assert load_settings(["--cors-origins", both[0], "--cors-origins", both[1]]).settings.cors_origins == both
    monkeypatch.setenv("RSTAR_CORS_ORIGINS", ", ".join(both))
    assert load_settings().settings.cors_origins == both
    monkeypatch.delenv("RSTAR_CORS_ORIGINS")
    config_file.write_text(f"cors_origins = {list(both)}\n")
    assert load_settings(["--config-file", str(config_file)]).settings.cors_origins == both


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RSTAR_PROT", "RSTAR_PORT"),
        ("RSTAR_TRAJECTORY", "RSTAR_TRAJECTORIES"),
        ("rstar_policy_modle", "RSTAR_POLICY_MODEL"),
        ("RSTAR_CONFIG", "RSTAR_CONFIG_FILE"),
        ("RSTAR_API_KEY_FILE", "RSTAR_API_KEYS_FILE"),
        ("RSTAR_PRINT_CONFIG", "RSTAR_CONFIG_FILE"),
        ("RSTAR_", "RSTAR_PORT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(SettingsRefused, match=f"{name} is set .*the nearest is {nearest}"):
        check_variables({name: "1", "HOME": "/", "RSTAR_HOST": "::1", "RSTAR_API_KEYS_FILE": "/keys"})


SECRET = "hunter2-and-some-more"


@pytest.mark.parametrize(
    "address",
    [
        f"http://user:p@{SECRET}@gpu",
        f"ws://user:{SECRET}@gpu",
        f"user:{SECRET}@gpu",
        f"user:{SECRET}",
        f"http://user:{SECRET}",
        f"http://user:{SECRET}\u2100",
        f"http://user:p/{SECRET}@gpu:8000",
        f"http://[{SECRET}",
        f"http://gpu?key={SECRET}",
        f"http://gpu/#{SECRET}",
        "http://gpu:65536",
        "http://gpu:0",
    ],
)
@pytest.mark.parametrize("name", sorted(ADDRESSES))
def test_an_address_that_is_refused_is_not_quoted(name: str, address: str, config_file: Path) -> None:
    option = f"--{name.replace('_', '-')}"
    config_file.write_text(f'{name} = ["http://a.org", "{address}"]\n')
    for arguments in ([option, address], [f"{option}={address}"], ["--config-file", str(config_file)]):
        with pytest.raises(SettingsRefused, match=name.replace("_", "[_-]")) as refused:
            load_settings(arguments)
        assert "hunter2" not in str(refused.value)


def test_all_settings_that_take_addresses_are_known_as_such() -> None:
    assert {name for name in Settings.model_fields if name.endswith(("_url", "_endpoint", "_origins"))} == ADDRESSES


def test_an_address_in_the_wrong_place_is_not_quoted_either() -> None:
    for arguments in (["--port", f"http://a:{SECRET}@gpu"], [f"--policy-urlhttp://a:{SECRET}@gpu"]):
        with pytest.raises(SettingsRefused, match=r"--port: must be|no option --policy-url\.\.\.;") as refused:
            load_settings(arguments)
        assert "hunter2" not in str(refused.value)


def test_the_wrong_one_of_several_origins_is_numbered() -> None:
    with pytest.raises(SettingsRefused, match=r"--cors-origins: expected .* or \*, see number 2$"):
        load_settings(["--cors-origins", "https://a.org,https://b.org/app"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", f"-{SECRET}"], "--host lacks its value; one that begins with - is written --host=VALUE"),
        (["--host"], "--host lacks its value"),
        (["--host", "a", SECRET], "argument 3 of the command line is neither an option nor the value of one"),
        (["-p", SECRET], "argument 1 of the command line is neither an option nor the value of one"),
        ([f"--print-config={SECRET}"], "argument 1 of the command line is neither an option nor the value of one"),
        (["--prot", "1"], "there is no option --prot; the nearest is --port"),
    ],
)
def test_a_wrong_command_line_is_explained_without_secrets(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(arguments)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api-keys", SECRET],
        [f"--api-keys={SECRET}"],
        ["--api-keyss", SECRET],
        ["--api-keys-fil", SECRET],
        ["--api_keys", SECRET],
        ["--API-KEYS", SECRET],
        ["--port", "1", f"--api-keys{SECRET}"],
        ["--api-keys"],
    ],
)
def test_a_secret_as_option_is_refused_with_the_remedy(arguments: list[str]) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(arguments)
    assert str(refused.value) == (
        "--api-keys is no option, because others can read a command line; set RSTAR_API_KEYS, or --api-keys-file to "
        "the path of a file that holds the secret"
    )


@pytest.mark.parametrize(
    ("arguments", "port", "temperature"),
    [(["--port", "7"], 7, 1.0), (["--port=7", "--temperature", ".5"], 7, 0.5), (["--no-print-config"], 8000, 1.0)],
)
def test_what_is_right_on_the_command_line_passes(arguments: list[str], port: int, temperature: float) -> None:
    settings = load_settings(arguments).settings
    assert (settings.port, settings.temperature) == (port, temperature)


def test_a_negative_number_is_a_value_and_refused_as_one() -> None:
    with pytest.raises(SettingsRefused, match="--port: must be greater than or equal to 0"):
        load_settings(["--port", "-1"])


def test_a_misspelt_variable_stops_the_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_PROT", "1")
    with pytest.raises(SettingsRefused, match="RSTAR_PROT"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("prot = 1\n", "{}: there is no setting prot; the nearest is port"),
        ("[search]\ndepth = 3\n", "{}: there is no setting search; the nearest is"),
        ('config_file = "x"\n', "{}: there is no setting config_file; the nearest is"),
        ("port = 65536\n", "{}: port: must be less than or equal to 65535, got 65536"),
        ("port = 2030-01-01\n", "{}: port: must be a valid integer"),
        ('api_keys = "tooshort"\n', "{}: api_keys: API key 1 has 8 characters; at least 16 are needed"),
        ("api_keys = 12345\n", "{}: api_keys: must be a valid string"),
        ("api_keys_file = 1\n", "{}: api_keys_file: must be the path of a file, got a value of type int"),
        ("port =\n", "the config file {} is not TOML: "),
        ("\xff", "the config file {} is not TOML: "),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(config_file: Path, content: str, reason: str) -> None:
    config_file.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsRefused) as refused:
        load_settings(["--config-file", str(config_file)])
    assert str(refused.value).startswith(reason.format(config_file))
    assert "tooshort" not in str(refused.value)
    assert "12345" not in str(refused.value)


def test_a_missing_file_is_refused(config_file: Path) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(["--config-file", str(config_file)])
    assert str(refused.value) == f"the config file {config_file} cannot be read: No such file or directory"


def test_every_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = {name: f"{name}-0123456789" for name in ("api_keys", "policy_api_key", "ppm_api_key")}
    secrets["redis_url"] = "rediss://app:a-password@redis-1:6379/0"
    assert secrets.keys() == SECRETS
    for name, secret in secrets.items():
        (tmp_path / name).write_text(f"{secret}\n")
        monkeypatch.setenv(f"RSTAR_{name.upper()}_FILE", str(tmp_path / name))
    settings = load_settings().settings
    for name, secret in secrets.items():
        read = getattr(settings, name)
        assert isinstance(read, SecretStr)
        assert read.get_secret_value() == secret


@pytest.mark.parametrize("url", ["redis-1:6379", "http://app:hunter2@redis-1", "redis://", "redis://app:hunter2@r:0"])
def test_a_redis_url_that_is_none_is_refused_unquoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RSTAR_REDIS_URL", url)
    with pytest.raises(SettingsRefused, match="RSTAR_REDIS_URL: expected redis://host:6379, rediss://") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_a_list_of_keys_may_have_a_line_for_each(tmp_path: Path, config_file: Path) -> None:
    (tmp_path / "keys").write_text(f"alice={KEY}\r\nbob={KEY}2\r\n")
    config_file.write_text(f'api_keys_file = "{tmp_path / "keys"}"\n')
    keys = load_settings(["--config-file", str(config_file)]).settings.api_keys
    assert keys is not None
    assert keys.get_secret_value() == f"alice={KEY}\nbob={KEY}2"


def test_a_secret_given_twice_by_one_source_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RSTAR_API_KEYS", KEY)
    monkeypatch.setenv("RSTAR_API_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(SettingsRefused, match="RSTAR_API_KEYS and RSTAR_API_KEYS_FILE are both set; set one of them"):
        load_settings()


def test_a_file_on_the_command_line_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from the file")
    monkeypatch.setenv("RSTAR_PPM_API_KEY", "from the variable")
    key = load_settings(["--ppm-api-key-file", str(tmp_path / "key")]).settings.ppm_api_key
    assert key is not None
    assert key.get_secret_value() == "from the file"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("RSTAR_POLICY_API_KEY_FILE", str(path))
    with pytest.raises(SettingsRefused) as refused:
        load_settings()
    assert str(refused.value) == f"RSTAR_POLICY_API_KEY_FILE: {path} {reason}"


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load_settings(["--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in CommandLine.model_fields.items():
        assert (f"--{name.replace('_', '-')} " in text) == (name not in SECRETS)
        assert field.description
    assert "{auto,torch,vllm,openai}" in text
    assert "(default: 8000)" in text


def test_printed_settings_read_back_as_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config_file: Path
) -> None:
    secret = tmp_path / "key"
    secret.write_text("a key\n")
    odd = 'C:\\models "π" \x7f'
    monkeypatch.setenv("RSTAR_POLICY_MODEL", odd)
    monkeypatch.setenv("RSTAR_PPM_MODEL", odd)
    monkeypatch.setenv("RSTAR_PPM_API_KEY_FILE", str(secret))
    monkeypatch.setenv("RSTAR_CORS_ORIGINS", "https://a.org,https://b.org")
    loaded = load_settings(["--print-config", "--timeout-s", "1e-3", "--stop-when-decided", "false"])
    assert loaded.print_config
    config_file.write_text(settings_as_toml(loaded))
    for name in ("POLICY_MODEL", "PPM_MODEL", "PPM_API_KEY_FILE", "CORS_ORIGINS"):
        monkeypatch.delenv(f"RSTAR_{name}")
    again = load_settings(["--config-file", str(config_file)])
    assert again.settings == loaded.settings
    assert not again.print_config


def test_printed_settings_name_origins_and_hide_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config_file: Path
) -> None:
    (tmp_path / "key").write_text("the first secret\n")
    config_file.write_text("depth = 3\n")
    monkeypatch.setenv("RSTAR_POLICY_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("RSTAR_API_KEYS", "the-second-secret")
    text = settings_as_toml(load_settings(["--config-file", str(config_file), "--port", "1"]))
    lines = text.splitlines()
    assert "port = 1  # cli" in lines
    assert "depth = 3  # file" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    assert f'policy_api_key_file = "{tmp_path / "key"}"  # environment' in lines
    assert "# api_keys is set, and not shown  # environment" in lines
    assert "# ppm_api_key is not set  # default" in lines
    assert "secret" not in text
    assert set(tomllib.loads(text)) < {*Settings.model_fields, "policy_api_key_file"}
    assert len(lines) == 1 + len(Settings.model_fields)
