"""Golden commands: the options of each `python -m` command that the documents name, the settings, and refusals."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.golden.golden_files import check_json, check_lines

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("run_modules.py")
API_KEY = "golden-0123456789"

QUICK: dict[str, list[tuple[str, ...]]] = {
    "server": [()],
    "server.replay": [()],
    "server.demo": [()],
    "server.engines.self_check": [()],
    "sandbox": [(), ("run",), ("doctor",), ("bench",)],
    "tests.sandbox.hostile": [()],
}
"""Modules that documents name as commands, each with its subcommands."""
SLOW: dict[str, list[tuple[str, ...]]] = {
    "server.engines.prm_convert": [()],
    "training": [(), ("evaluate",), ("evolve",), ("fetch",), ("published",), ("release",)],
}
"""The same for those that import a model library first."""
OTHERS = {"pytest", "venv", "pip"}
"""Commands in the documents that are not ours."""

MAY_GO = {"--api-keys", "--policy-api-key", "--ppm-api-key"}
"""Options that no golden file holds: everybody sees a secret on the command line, so they are to be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A command as a shell would start it."""

    module: str = "server"
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a command printed."""

    exit_code: int
    stdout: str
    stderr: str


def run(runs: Sequence[Run], folder: Path = ROOT) -> list[Ended]:
    """All in one process, in that folder, without settings from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSTAR_")}
    orders = [{"module": one.module, "arguments": list(one.arguments), "environment": one.environment} for one in runs]
    process = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"},
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    return [Ended(**end) for end in json.loads(process.stdout)]


def options_of(usage: str) -> list[str]:
    """Options and choices in the order of the usage line."""
    found = re.findall(r"(?<![\w-])--?[a-z][\w-]*|\{[^}]*\}", usage.replace("python -m ", ""))
    return [option for option in found if option not in MAY_GO]


def helps_of(commands: Mapping[str, Sequence[tuple[str, ...]]]) -> list[Run]:
    """Ask each command for its help."""
    return [
        Run(module=module, arguments=(*subcommand, "--help"))
        for module, subcommands in commands.items()
        for subcommand in subcommands
    ]


def check_options(name: str, runs: Sequence[Run], ends: Sequence[Ended]) -> None:
    """Each command has its golden options and ended well."""
    assert [end.stderr for end in ends if end.exit_code] == []
    check_json(
        name,
        {
            " ".join(["python -m", one.module, *one.arguments[:-1]]): options_of(end.stdout.partition("\n\n")[0])
            for one, end in zip(runs, ends, strict=True)
        },
    )


def test_quick_commands_have_the_golden_options() -> None:
    runs = helps_of(QUICK)
    check_options("commands.json", runs, run(runs))


@pytest.mark.slow
def test_slow_commands_have_the_golden_options() -> None:
    runs = [helps_of({module: subcommands}) for module, subcommands in SLOW.items()]
    with ThreadPoolExecutor() as threads:
        ends = [end for ends in threads.map(run, runs) for end in ends]
    check_options("commands_slow.json", [one for module in runs for one in module], ends)


def test_every_command_in_the_documents_is_checked_here() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("s*/**/README.md")]
    text = "".join(document.read_text(encoding="utf-8") for document in documents)
    named = set(re.findall(r"python3? -m ([\w.]*\w)", text)) - OTHERS
    assert {"server", "training", "sandbox"} <= named <= {*QUICK, *SLOW}


def test_installed_commands_have_the_golden_names() -> None:
    scripts: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert sorted(scripts) == ["rstar", "rstar-sandbox", "rstar-train"]
    assert all(find_spec(target.partition(":")[0]) for target in scripts.values())


def _settings(end: Ended) -> list[str]:
    """Lines that say a setting; the heading is prose."""
    assert (end.exit_code, end.stderr) == (0, "")
    return [line for line in end.stdout.splitlines() if re.match(r"(# )?\w+ (=|is )", line)]


def test_printed_settings_are_the_golden_ones(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"golden={API_KEY}\n")
    (tmp_path / "settings.toml").write_text('candidates = 4\ntemperature = 0.5\ndepth = 3\napi_keys_file = "keys"\n')
    options = (
        "--config-file",
        "settings.toml",
        "--depth",
        "5",
        "--cors-origins",
        "https://a.example,https://b.example",
    )
    variables = {"RSTAR_PORT": "9000", "RSTAR_TEMPERATURE": "0.25", "RSTAR_PPM_API_KEY": "golden-secret"}
    defaults, chosen = run(
        [
            Run(arguments=("--print-config",)),
            Run(arguments=("--print-config", *options), environment=variables),
        ],
        tmp_path,
    )
    check_lines("settings.txt", _settings(defaults))
    changed = [line for line in _settings(chosen) if line not in _settings(defaults)]
    check_lines("settings_with_origins.txt", changed)
    assert "golden" not in chosen.stdout


REFUSED = {
    "misspelt_option": Run(arguments=("--prot", "1")),
    "misspelt_option_with_value": Run(arguments=("--max-trajectory=7",)),
    "misspelt_variable": Run(environment={"RSTAR_PROT": "1"}),
    "misspelt_in_file": Run(arguments=("--config-file", "misspelt.toml")),
    "no_option": Run(arguments=("8000",)),
    "lacks_value": Run(arguments=("--port", "--depth", "3")),
    "wrong_option": Run(arguments=("--port", "high")),
    "wrong_variable": Run(environment={"RSTAR_ENGINE": "torhc", "RSTAR_DEPTH": "0"}),
    "wrong_in_file": Run(arguments=("--config-file", "wrong.toml")),
    "above_limit": Run(arguments=("--trajectories", "300")),
    "engine_without_addresses": Run(arguments=("--engine", "openai")),
    "one_model_only": Run(arguments=("--policy-model", "policy")),
    "no_file": Run(arguments=("--config-file", "missing.toml")),
    "no_toml": Run(arguments=("--config-file", "broken.toml")),
    "empty_secret": Run(environment={"RSTAR_API_KEYS": ""}),
    "short_secret": Run(environment={"RSTAR_API_KEYS": "hunter2"}),
    "secret_twice": Run(environment={"RSTAR_API_KEYS": API_KEY, "RSTAR_API_KEYS_FILE": "keys"}),
    "no_secret_file": Run(environment={"RSTAR_PPM_API_KEY_FILE": "missing"}),
    "password_in_address": Run(environment={"RSTAR_POLICY_URL": "http://user:hunter2@gpu"}),
}


def test_refused_settings_get_the_golden_messages(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(API_KEY)
    (tmp_path / "misspelt.toml").write_text("prot = 1\n")
    (tmp_path / "wrong.toml").write_text('port = "high"\ndepth = 0\n')
    (tmp_path / "broken.toml").write_text("port: 1\n")
    ends = dict(zip(REFUSED, run(list(REFUSED.values()), tmp_path), strict=True))
    assert {name: (end.exit_code, end.stdout) for name, end in ends.items()} == dict.fromkeys(REFUSED, (2, ""))
    printed = "".join(end.stderr for end in ends.values())
    assert "hunter2" not in printed
    assert API_KEY not in printed
    check_json("refused_settings.json", {name: end.stderr for name, end in ends.items()})


@pytest.mark.slow
def test_program_in_the_sandbox_gets_the_golden_output(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("x = 3\nprint(x)\nx + 1\n")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    good, bad = (_sandboxed(tmp_path, *arguments) for arguments in (("good.py", "--json"), ("bad.py",)))
    result = json.loads(good.stdout)
    assert result.pop("cpu_seconds") >= 0
    assert (good.exit_code, result) == (0, {"outcome": "ok", "stdout": "3\n", "value": "4", "error": None})
    assert (bad.exit_code, bad.stdout) == (1, "outcome: error\nerror: ZeroDivisionError: division by zero\n")


def _sandboxed(folder: Path, *arguments: str) -> Ended:
    process = subprocess.run(
        [sys.executable, "-m", "sandbox", "run", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return Ended(exit_code=process.returncode, stdout=process.stdout, stderr=process.stderr)
