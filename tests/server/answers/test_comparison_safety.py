"""Answers are never run: text written by a model reaches no evaluator, and costs bounded time in the server."""

import ast
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.outcomes import Verdict
from server.answers.comparison import compare, decide_exactly
from server.answers.equality import EqualityPool

_PACKAGE = Path(__file__).parents[3] / "server" / "answers"


def _programs(target: Path) -> list[str]:
    """Python that would create `target`, in forms that evaluators fall for."""
    return [
        f"__import__('os').system('touch {target}')",
        f'__import__("pathlib").Path("{target}").touch()',
        f"open('{target}', 'w')",
        f"(lambda: open('{target}', 'w'))()",
        f'f\'{{open("{target}", "w")}}\'',
        f"[open('{target}', 'w') for x in [1]][0]",
        "().__class__.__base__.__subclasses__()",
        f"sympify(\"open('{target}','w')\")",
        f"1 + exec(\"open('{target}', 'w')\")",
        f"\\text{{__import__('os').system('touch {target}')}}",
        f"\\frac{{open('{target}','w')}}{{2}}",
        f"$open('{target}', 'w')$",
        f"x_{{open('{target}','w')}}",
        f"Symbol(open('{target}','w'))",
        "lambda: 0",
        "os.abort()",
        "exit()",
    ]


def test_answer_that_is_a_program_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "proof"
    for program in _programs(target):
        assert compare(program, program) is Verdict.SAME
        for other in ("5", "x+1", r"\sqrt{2}", "2*5"):
            assert compare(program, other) is compare(other, program) is not Verdict.SAME
    assert not target.exists()


async def test_program_sent_to_the_pool_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "proof"
    async with EqualityPool() as equality:
        for program in _programs(target):
            assert await equality.same(program, r"\sqrt{2}") is not Verdict.SAME
            assert await equality.same(program, program) is Verdict.SAME
    assert not target.exists()


def test_no_module_names_an_evaluator_or_a_sympy_parser() -> None:
    forbidden = {"eval", "exec", "compile", "__import__", "sympify", "parse_expr", "parse_latex", "latex2sympy", "S"}
    names: set[str] = set()
    for module in _PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "re"):
                names.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
    assert names & forbidden == set()


def test_pool_does_not_import_sympy() -> None:
    """The server process reads answers without it. Looked up in a fresh interpreter, since other tests import it."""
    source = "import sys; from server.answers.equality import EqualityPool; sys.exit('sympy' in sys.modules)"
    root = _PACKAGE.parent.parent
    assert subprocess.run([sys.executable, "-c", source], cwd=root, check=False).returncode == 0


_LONG = [
    ("(" * 500, ")" * 500),
    ("(" * 15 + "1" + ")" * 15, "1"),
    ("-" * 999, "1"),
    ("^".join("9" * 300), "1"),
    ("1/" * 400 + "1", "2"),
    ("5" + "%" * 900, "5" + "%" * 899),
    ("5" + "!" * 900, "5"),
    ("*".join(["9999991"] * 120), "*".join(["9999991"] * 119 + ["3"])),
    (",".join("1" * 64), ",".join("2" * 64)),
    (
        "{" + ",".join(f"9^{{999}}+{i}" for i in range(60)) + "}",
        "{" + ",".join(f"9^{{999}}+{i}" for i in range(1, 61)) + "}",
    ),
    (",".join([r"\sqrt[3]{9^{999}}"] * 50), ",".join([r"\sqrt[3]{9^{998}}"] * 50)),
    ("\\{" * 20 + "1\\pm2," + "\\}" * 20, "1"),
    ("9**9**9", "9**9**9**9"),
    ("10^{10^{10}}", "10^{10^{11}}"),
    ("1e999999999", "1"),
    ("99999999!", "1"),
    (r"\sqrt[999999]{2}", "1"),
    ("$" * 1000, "$" * 999),
    ("|" * 1000, "|" * 999),
    ("a " * 500, "b " * 500),
    ("5" * 5_000, "6" * 5_000),
    ("x" * 100_000, "y" * 100_000),
]


@pytest.mark.parametrize(("a", "b"), _LONG)
def test_time_spent_in_the_server_process_is_bounded(a: str, b: str) -> None:
    started = time.process_time()
    decide_exactly(a, b)
    assert time.process_time() - started < 0.5


def test_any_text_is_read_or_refused_without_exception() -> None:
    rng = random.Random(20)
    pieces = [*"0123456789xyzabie+-*/^(){}[],.;:=<>!%$\\ |_±√π'\"", r"\frac", r"\sqrt", r"\text{", r"\pm", r"\sin "]
    pieces += [
        r"\{",
        r"\}",
        r"\left(",
        "^{",
        r"\infty",
        " or ",
        " and ",
        "cm",
        r"\begin{pmatrix}",
        r"\\",
        "&",
        "\n",
        "é",
        "\0",
    ]
    for _ in range(3_000):
        a, b = ("".join(rng.choices(pieces, k=rng.choice((2, 4, 8, 40)))) for _ in range(2))
        assert decide_exactly(a, b) is decide_exactly(b, a)
        assert decide_exactly(a, a) is Verdict.SAME
