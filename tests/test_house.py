"""The house rules that no linter checks: shape of modules, records of downloads, the commands."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sandbox", "search", "server", "training")
MAX_MODULE_LINES = 400
MAX_TEST_NAME_CHARS = 60
TARGETS = {"install", "vllm-cpu", "demo", "serve", "unit", "test", "check", "fmt", "bench", "help"}

# Written so that this file does not itself contain what it looks for.
DOWNLOAD_ADDRESSES = re.compile(
    r"\b(files\.)?(py[p]i|pytho[n]hosted)\.org\b"
    r"|\bregistry\.(npm[j]s|yar[n]pkg)\."
    r"|\bdownload\.(pyt[o]rch|d[o]cker)\."
    r"|\b(de[b]|securit[y]|ftp)\.debian\.org\b"
    r"|https?://[^\s\"')]+\.(whl|tar\.gz|tgz|deb)\b"
    r'|"resolve[d]": *"'
    r"|^\s*--(extra-)?inde[x]-url\b"
    r"|^\s*--fin[d]-links\b",
    re.MULTILINE,
)
LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}
UNTYPED_LIBRARIES = {
    "accelerate",
    "datasets",
    "math_verify",
    "matplotlib",
    "peft",
    "reasoning_gym",
    "schemathesis",
    "sympy",
    "torch",
    "transformers",
    "vllm",
}


def _repository_files() -> list[Path]:
    """What git tracks or would track; without git's records, everything but hidden and generated folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return sorted(_walk())
    paths = (ROOT / name for name in listing.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def _walk() -> list[Path]:
    found: list[Path] = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if not name.startswith(".v") and name not in _GENERATED]
        found += [Path(folder, name) for name in names]
    return found


_GENERATED = {".git", "__pycache__", "runs", "dist", ".pytest_cache", ".ruff_cache", ".hypothesis"}
FILES = _repository_files()
MODULES = [path for path in FILES if path.suffix == ".py"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _constraints(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def _imported_packages(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_a_module_has_a_docstring_and_at_most_400_lines(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "say in the first line what this module owns"
    assert source.count("\n") <= MAX_MODULE_LINES, "a module this long holds more than one idea"


def test_test_names_have_at_most_60_characters() -> None:
    long: list[str] = []
    for module in MODULES:
        if module.name.startswith("test_"):
            names = re.findall(r"^(?:async )?def (test_\w+)", module.read_text(encoding="utf-8"), re.MULTILINE)
            long += [f"{_name(module)}: {name}" for name in names if len(name) > MAX_TEST_NAME_CHARS]
    assert long == []


def test_folders_of_the_product_hold_few_files() -> None:
    folders = Counter(module.parent for module in MODULES if module.relative_to(ROOT).parts[0] in PACKAGES)
    limits = {"search": 23, "sandbox": 24}  # the others: 16 modules and __init__.py
    full = {_name(folder): files for folder, files in folders.items() if files > limits.get(_name(folder), 17)}
    assert full == {}
    assert len([path for path in (ROOT / "server").iterdir() if not path.name.startswith("__pycache__")]) <= 14


def test_only_importers_of_untyped_libraries_relax_pyright() -> None:
    relaxed: list[str] = []
    for module in MODULES:
        source = module.read_text(encoding="utf-8")
        if re.search(r"^# pyright: *basic", source, re.MULTILINE) and not (
            _imported_packages(ast.parse(source)) & UNTYPED_LIBRARIES
        ):
            relaxed.append(_name(module))
    assert relaxed == []


def test_only_search_and_sandbox_export_from_their_init_files() -> None:
    exporting: list[str] = []
    for module in MODULES:
        if module.name == "__init__.py" and _name(module) not in {"search/__init__.py", "sandbox/__init__.py"}:
            statements = ast.parse(module.read_text(encoding="utf-8")).body
            if len(statements) > 1:
                exporting.append(_name(module))
    assert exporting == []


def test_search_and_sandbox_import_little_but_the_stdlib() -> None:
    allowed = {"search": {"search"}, "sandbox": {"sandbox", "sympy", "numpy", "mpmath"}}
    foreign: list[str] = []
    for module in MODULES:
        package = _name(module).partition("/")[0]
        if package in allowed:
            imported = _imported_packages(ast.parse(module.read_text(encoding="utf-8")))
            foreign += [f"{_name(module)}: {name}" for name in imported - sys.stdlib_module_names - allowed[package]]
    assert foreign == []


def test_test_folders_mirror_packages_and_are_no_packages() -> None:
    tests = [module.relative_to(ROOT / "tests") for module in MODULES if _name(module).startswith("tests/")]
    assert [path.as_posix() for path in tests if path.name == "__init__.py"] == []
    folders = {path.parts[0] for path in tests if len(path.parts) > 1}
    assert folders <= {*PACKAGES, "deploy", "benchmarks", "golden"}


def test_no_file_records_a_registry_host_or_download_address() -> None:
    recorded: list[str] = []
    for path in FILES:
        if path.name in LOCK_FILES:
            recorded.append(_name(path))
        content = path.read_bytes()
        if b"\0" not in content[:4096]:
            match = DOWNLOAD_ADDRESSES.search(content.decode("utf-8", errors="replace"))
            recorded += [f"{_name(path)}: {match.group()}"] if match else []
    assert recorded == []


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-vllm.txt"])
def test_constraints_are_sorted_lines_of_name_and_version(name: str) -> None:
    lines = _constraints(name)
    pattern = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*")  # no local version: it would name one build
    assert [line for line in lines if not pattern.fullmatch(line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


def test_the_vllm_constraints_only_add_to_the_common_ones() -> None:
    common, added = (
        {line.partition("==")[0] for line in _constraints(name)} for name in ("constraints.txt", "constraints-vllm.txt")
    )
    assert common & added == set()


def test_every_declared_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["train"], *extras["test"], *extras["dev"]]
    names = {re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in declared} - {project["name"]}
    assert names - {line.partition("==")[0] for line in _constraints("constraints.txt")} == set()


def test_the_makefile_has_and_describes_the_documented_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)) >= TARGETS


@pytest.mark.parametrize(
    "problem",
    [
        "a $x' b",
        "$(shell touch injected) `touch injected` $$(touch injected)",
        'Solve "$x^2$"; touch injected',
        "",
        "# 7 % 3",
    ],
)
def test_a_problem_reaches_the_demo_untouched_by_make_and_shell(problem: str, tmp_path: Path) -> None:
    makefile = ROOT / "Makefile"
    (tmp_path / "constraints.txt").write_text("torch==0\n", encoding="utf-8")
    show = f"show:\n\t@{sys.executable} -c 'import os; print(ascii(os.environ[\"PROBLEM\"]))'"
    command = ["make", "--silent", "--file", str(makefile), f"--eval={show}", "show", f"PROBLEM={problem}"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert shown.strip() == ascii(problem)
    assert {path.name for path in tmp_path.iterdir()} == {"constraints.txt"}
