# pyright: basic
"""The self-check: scores of fixed paths, written beside a PPM when it is made, and compared before it serves.

A PPM that is read with another head, pooling, activation or tokenizer still gives numbers, only wrong ones. The
reference is computed in float32 by transformers' own class for such models, which no engine uses.

`python -m server.engines.self_check FOLDER` writes the file for a PPM that has none.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath

from search import CandidateStop, Path, PathStep, StepScorer
from server.engines.errors import CheckpointError, SelfCheckFailed
from server.engines.model_folder import ModelFolder
from server.engines.rendering import PathTokens, StepTokenizer

logger = logging.getLogger(__name__)

FILE = "self_check.json"
TOLERANCE = 0.01
"""Engines that compute in float32 agree within 0.0001; a wrong head, pooling or activation moves scores by tenths."""

_PROBLEMS = (
    "What is 12 + 30?",
    "Determine the value of h that satisfies: 132 - 44*h = -2420",
    "Find the Greatest Common Divisor (GCD) of these numbers: 275, 90.",
)
_STEPS = (
    ("\n# Add the numbers\ntotal = 12 + 30\n", CandidateStop.END_OF_STEP, None),
    ("\n# Print the result\nprint(total)\n", CandidateStop.END_OF_CODE, "42"),
    ("\nThe answer is \\boxed{42}.", CandidateStop.END_OF_ANSWER, None),
)
"""Right for the first problem and wrong for the others: the scores should differ."""


def write_self_check(folder: FilePath) -> None:
    """Write the PPM's scores of the fixed paths to its folder. Call it when the weights are final."""
    tokenizer = ModelFolder(folder).step_tokenizer
    scores = _reference_scores(folder, [PathTokens(tokenizer).token_ids(path) for path in _paths(tokenizer)])
    text = json.dumps({"scores": scores}, indent=1)
    (folder / FILE).write_text(text + "\n")


async def check_scores(scorer: StepScorer, folder: FilePath) -> None:
    """Raise `SelfCheckFailed` where `scorer` gives other scores than the file in the PPM's `folder`.

    A folder without that file is served, with a warning that it was not checked.
    """
    file = folder / FILE
    if not file.is_file():
        logger.warning("%s has no %s: its scores are not checked; see server/engines/self_check.py", folder, FILE)
        return
    try:
        noted = [float(score) for score in json.loads(file.read_text())["scores"]]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file}: unreadable ({type(error).__name__}: {error}); write it again") from error
    paths = _paths(ModelFolder(folder).step_tokenizer)
    if len(noted) != len(paths):
        raise CheckpointError(f"{file}: expected {len(paths)} scores, found {len(noted)}; write it again")
    found = await scorer.score(paths)
    worst = max(range(len(paths)), key=lambda index: abs(found[index] - noted[index]))
    if not abs(found[worst] - noted[worst]) <= TOLERANCE:  # also where it is not a number
        raise SelfCheckFailed(
            f"{folder}: the engine scores path {worst} of the self-check {found[worst]:.4f}, noted were "
            f"{noted[worst]:.4f}: it does not compute what the PPM was made for (head, pooling, activation or "
            "tokenizer), or not precisely enough (see RSTAR_VLLM_PPM_DTYPE)"
        )


def _paths(tokenizer: StepTokenizer) -> list[Path]:
    steps = [
        PathStep(text=text, token_ids=tokenizer.encode_step(text, stop), stop=stop, output=output)
        for text, stop, output in _STEPS
    ]
    return [
        Path(problem=problem, steps=tuple(steps[:length])) for problem in _PROBLEMS for length in range(len(steps) + 1)
    ]


def _reference_scores(folder: FilePath, prompts: Sequence[Sequence[int]]) -> list[float]:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        # One by one: a batch would need padding, which is one more thing to get wrong.
        return [torch.tanh(model(torch.tensor([list(ids)])).logits[0, 0]).item() for ids in prompts]


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m server.engines.self_check",
        description=f"Write {FILE}, the scores that engines are held to at each start, into the folder of a PPM.",
    )
    parser.add_argument("folder", type=FilePath, help="a *ForSequenceClassification model; an older note is replaced")
    options = parser.parse_args(arguments)
    try:
        write_self_check(options.folder)
    except (CheckpointError, OSError, ValueError) as error:  # the last two are transformers', on models it cannot read
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
