"""docs/openai.md: its examples run as they stand, against a server; its lists are those of the code."""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import pytest

from search import Candidate, Path
from server.http.openai.errors import CODES
from server.parts.fakes import fake_parts
from server.solving.refusals import RefusalKind
from tests.server.http.openai.openai_server import FLAWLESS, openai_server

ROOT = FilePath(__file__).parents[4]
DOCUMENT = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:8000"


@dataclass(frozen=True, slots=True)
class OneSum:
    """Solves the same sum whatever it is asked."""

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        return await FLAWLESS.propose(replace(path, problem="1+2+36"), n, seed=seed)


def test_there_are_examples_of_curl_python_and_both_clients() -> None:
    assert [language for language, _ in BLOCKS] == ["bash", "python", "python", "python"]
    assert [word for word in ("curl", "urlopen", "OpenAI(", "ChatOpenAI(") if word not in DOCUMENT] == []


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_an_example_runs_and_prints_the_answer(number: int) -> None:
    language, code = BLOCKS[number]
    shell = ["bash", "-euc"] if language == "bash" else [sys.executable, "-c"]
    async with openai_server(parts=fake_parts(policy=OneSum())) as server, asyncio.timeout(100):
        assert ADDRESS in code
        address = server.url.removeprefix("http://").removesuffix("/v1")
        process = await asyncio.create_subprocess_exec(
            *shell, code.replace(ADDRESS, address), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    # JSON writes each backslash twice.
    assert r"\boxed{39}" in output.decode().replace("\\\\", "\\")


def test_every_code_of_an_error_is_in_the_table() -> None:
    # Pages of other origins are refused before they can read an answer.
    kinds = set(RefusalKind) - {RefusalKind.ORIGIN_REFUSED}
    codes = {CODES.get(kind, kind.replace("-", "_")) for kind in kinds}
    assert {code for code in codes if f"`{code}`" not in DOCUMENT} == set()


def test_the_task_file_holds_50_problems_that_are_held_out() -> None:
    from training.problems.families import family_problems

    lines = (ROOT / "benchmarks" / "lm_eval" / "problems.jsonl").read_text(encoding="utf-8").splitlines()
    families = ("chain_sum", "gcd", "lcm", "leg_counting", "simple_equations")
    expected = [problem for name in families for problem in family_problems(name, 10)]
    assert [json.loads(line) for line in lines] == [
        {"id": problem.id, "question": problem.question, "answer": problem.answer} for problem in expected
    ]
    assert len(lines) == 50
