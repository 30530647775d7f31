"""Paths of examples: problems and steps as texts, tokenised only for the model that is about to read them.

Examples hold no token ids. The policies of two rounds may have different tokenizers, and no policy wrote a perturbed
step. The policy's own tokens are not missed: fewer than one in a thousand of the bundled policy's steps are tokenised
otherwise than their texts. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search import CandidateStop, Path, PathStep
from search.codec import items, mapping, member, optional, text
from server.engines.rendering import StepTokenizer


def tokenised(path: Path, tokenizer: StepTokenizer) -> Path:
    """The path with tokens made from the texts, step by step as in SFT: no token spans a step's border."""
    steps = (replace(step, token_ids=tokenizer.encode_step(step.text, step.stop)) for step in path.steps)
    return replace(path, steps=tuple(steps))


def without_tokens(step: PathStep) -> PathStep:
    """The step as examples hold it."""
    return replace(step, token_ids=())


def path_record(path: Path) -> dict[str, object]:
    """The path as a JSON object."""
    return {"problem": path.problem, "steps": steps_record(path.steps)}


def read_path(record: Mapping[str, object]) -> Path:
    """Read a path back."""
    return Path(problem=text(record["problem"]), steps=read_steps(record["steps"]))


def steps_record(steps: Sequence[PathStep]) -> list[dict[str, str]]:
    """Steps as JSON objects, without their tokens."""
    return [
        {"text": step.text, "stop": step.stop.value} | ({} if step.output is None else {"output": step.output})
        for step in steps
    ]


def read_steps(records: object) -> tuple[PathStep, ...]:
    """Read steps back."""
    return tuple(_step(mapping(record)) for record in items(records))


def _step(record: Mapping[str, object]) -> PathStep:
    return PathStep(
        text=text(record["text"]),
        token_ids=(),
        stop=member(record["stop"], CandidateStop),
        output=optional(record.get("output"), text),
    )
