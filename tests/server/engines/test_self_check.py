"""The self-check: the file it writes, and the scores it accepts."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest

from search.protocols import Path
from server.engines.errors import CheckpointError, SelfCheckFailed
from server.engines.protocols import ScorerEngine
from server.engines.self_check import FILE, TOLERANCE, check_scores, main, write_self_check

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Noted:
    """Gives back the scores of a note, each changed by a function."""

    def __init__(self, folder: FilePath, change: float = 0.0, *, squashed: bool = False) -> None:
        scores: list[float] = json.loads((folder / FILE).read_text())["scores"]
        self.scores = [math.tanh(score) if squashed else score + change for score in scores]

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        assert len(paths) == len(self.scores)
        return self.scores


@pytest.fixture(scope="module")
def noted(ppm_folder: FilePath, tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    folder = FilePath(shutil.copytree(ppm_folder, tmp_path_factory.mktemp("noted") / "ppm"))
    write_self_check(folder)
    return folder


async def test_every_engine_agrees_with_the_note(scorer_engine: ScorerEngine, noted: FilePath) -> None:
    await check_scores(scorer_engine, noted)


async def test_the_noted_scores_differ_from_each_other(noted: FilePath) -> None:
    scores = json.loads((noted / FILE).read_text())["scores"]
    assert len(scores) == 12
    assert max(scores) - min(scores) > 10 * TOLERANCE


async def test_small_differences_pass_and_larger_ones_do_not(noted: FilePath) -> None:
    await check_scores(Noted(noted, 0.009), noted)
    for scorer in (Noted(noted, 0.011), Noted(noted, math.nan), Noted(noted, squashed=True)):
        with pytest.raises(SelfCheckFailed, match=r"head, pooling, activation or tokenizer"):
            await check_scores(scorer, noted)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scores": 7}', '{"scores": ["high"]}', '{"scores": [0.1]}'])
async def test_a_note_that_cannot_be_read_is_refused(noted: FilePath, tmp_path: FilePath, text: str) -> None:
    folder = FilePath(shutil.copytree(noted, tmp_path / "ppm"))
    scorer = Noted(folder)
    (folder / FILE).write_text(text)
    with pytest.raises(CheckpointError, match="write it again"):
        await check_scores(scorer, folder)


async def test_the_command_writes_the_note(ppm_folder: FilePath, tmp_path: FilePath) -> None:
    folder = FilePath(shutil.copytree(ppm_folder, tmp_path / "ppm"))
    (folder / FILE).unlink(missing_ok=True)
    main([str(folder)])
    assert len(json.loads((folder / FILE).read_text())["scores"]) == 12


@pytest.mark.parametrize(
    ("arguments", "exit_code"), [([], 2), (["--help"], 0), (["/nothing"], "/nothing: no such model folder")]
)
async def test_the_command_says_in_words_what_is_wrong(arguments: list[str], exit_code: int | str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == exit_code
