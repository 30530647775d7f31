"""Encoded examples: what a training reads, as token ids in files.

Paths are tokenised by the serving engine's own renderer, so that a model is trained on exactly the text that it will be
given. An example that does not fit is left out and counted: cutting it would remove the step to be learnt or judged.

Reward examples come in units, which stay in one batch because they share rows: the pairs of one problem, and the steps
along one solution.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path as FilePath

import numpy as np
from numpy.typing import NDArray

from search import CandidateStop, Path
from search.format import ANSWER, output_segments, prompt_segments
from server.engines.rendering import PathTokens, StepTokenizer
from training.examples.paths import tokenised
from training.examples.preferences import Pair
from training.examples.values import Valued
from training.models.batching import Size
from training.models.sequences import Sequences, SequenceWriter, packed_rows
from training.records import Trajectory

MAX_PAIRS_TOGETHER = 16
"""Pairs in one unit: most of a problem's, since a long path holds the rows of shorter ones (a quarter of the tokens of
units of single nodes), and few enough that batches stay mixed."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence for the policy."""

    token_ids: tuple[int, ...]
    is_target: tuple[bool, ...]
    """True where the policy wrote the token."""


def answer_text(answer: str) -> str:
    """The answer step, as the policy writes it."""
    return f"\n{ANSWER}The answer is \\boxed{{{answer}}}."


def encode(trajectory: Trajectory, tokenizer: StepTokenizer) -> Example:
    """Tokenise step by step, just as search does: no token ever spans a step's border."""
    last = len(trajectory.steps) - 1
    stops = [CandidateStop.END_OF_CODE if index == last else CandidateStop.END_OF_STEP for index in range(last + 1)]
    steps = [tokenizer.encode_step(text, stop) for text, stop in zip(trajectory.steps, stops, strict=True)]
    given = [tokenizer.encode(segment) for segment in prompt_segments(trajectory.question)]
    shown = [tokenizer.encode(segment) for segment in output_segments(trajectory.output)]
    answer = tokenizer.encode_step(answer_text(trajectory.answer), CandidateStop.END_OF_ANSWER)
    token_ids: list[int] = []
    is_target: list[bool] = []
    for pieces, wrote in ((given, False), (steps, True), (shown, False), ([answer], True)):
        for ids in pieces:
            token_ids += ids
            is_target += [wrote] * len(ids)
    return Example(tuple(token_ids), tuple(is_target))


class PolicyExamples:
    """Sequences with the tokens that the policy wrote."""

    def __init__(self, folder: FilePath) -> None:
        self.tokens, self.is_target = Sequences(folder / "tokens"), Sequences(folder / "is_target")

    def sizes(self) -> list[Size]:
        """For the plan of batches."""
        return [
            Size(rows=1, longest=length, prompt=int(self.is_target[index].argmax()))
            for index, length in enumerate(self.tokens.lengths)
        ]


def write_policy_examples(folder: FilePath, examples: Iterable[Example], *, max_length: int) -> dict[str, int]:
    """Write those that fit; the counts of both kinds."""
    tokens, is_target = SequenceWriter(), SequenceWriter(of_flags=True)
    left_out = 0
    for example in examples:
        if len(example.token_ids) > max_length:
            left_out += 1
            continue
        tokens.add(example.token_ids)
        is_target.add(example.is_target)
    tokens.write(folder / "tokens")
    is_target.write(folder / "is_target")
    return {"examples": len(tokens), "left_out": left_out}


RECORD = np.dtype([("path", "i4"), ("worse", "i4"), ("target", "f4"), ("weight", "f4"), ("unit", "i4")])
"""What is known of one path, or of two: of a pair, `path` is the better one; else `worse` is -1. Paths by index."""


class RewardExamples:
    """Paths, and what is known of them."""

    def __init__(self, folder: FilePath) -> None:
        self.paths = Sequences(folder / "paths")
        self.prompts: NDArray[np.int32] = np.load(folder / "prompts.npy")
        """Tokens of each path's problem."""
        records = np.load(folder / "records.npy")
        self.records = records[np.argsort(records["unit"], kind="stable")]
        starts = np.flatnonzero(np.diff(self.records["unit"], prepend=-1)).tolist()
        self.units = [slice(start, end) for start, end in pairwise([*starts, len(records)])]

    def sizes(self) -> list[Size]:
        """For the plan of batches."""
        return [self._size(self.records[unit]) for unit in self.units]

    def _size(self, records: NDArray[np.void]) -> Size:
        paths = distinct_paths(records)
        return Size(
            rows=len(packed_rows([self.paths[path] for path in paths]).rows),
            longest=max(len(self.paths[path]) for path in paths),
            prompt=int(self.prompts[paths[0]]),
            count=len(records),
        )


def distinct_paths(records: NDArray[np.void]) -> list[int]:
    """The paths that records speak of."""
    return sorted({int(path) for path in (*records["path"], *records["worse"]) if path >= 0})


class RewardWriter:
    """Collects what is known of paths, and writes the files that `RewardExamples` reads."""

    def __init__(self, tokenizer: StepTokenizer, *, max_length: int) -> None:
        self._tokenizer, self._tokens, self._max_length = tokenizer, PathTokens(tokenizer), max_length
        self._paths, self._prompts = SequenceWriter(), list[int]()
        self._indices: dict[tuple[int, ...], int] = {}
        self._records: list[tuple[int, int, float, float, int]] = []
        self._unit, self._problem_id, self._room = -1, "", 0
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Pair | Valued) -> None:
        """Pairs of one problem should follow each other."""
        if isinstance(record, Pair):
            better, worse = self._index(record.better), self._index(record.worse)
            if better is not None and worse is not None:
                self._records.append((better, worse, 0.0, record.weight, self._unit_of_pair(record)))
                return
        elif (path := self._index(record.path)) is not None:
            self._records.append((path, -1, record.target, record.weight, -1))
            return
        self.left_out += 1

    def write(self, folder: FilePath) -> None:
        """Write the files."""
        self._paths.write(folder / "paths")
        np.save(folder / "prompts.npy", np.asarray(self._prompts, dtype=np.int32))
        records = np.array(self._records, dtype=RECORD)
        valued = records["worse"] < 0
        row_of = packed_rows([np.asarray(ids, dtype=np.int32) for ids in self._indices]).row_of
        records["unit"][valued] = [row_of[path] for path in records["path"][valued]]
        np.save(folder / "records.npy", records)

    def _index(self, path: Path) -> int | None:
        token_ids = self._tokens.token_ids(tokenised(path, self._tokenizer))
        if len(token_ids) > self._max_length:
            return None
        if token_ids not in self._indices:
            self._indices[token_ids] = self._paths.add(token_ids)
            self._prompts.append(len(self._tokens.encode_prompt(path.problem)))
        return self._indices[token_ids]

    def _unit_of_pair(self, pair: Pair) -> int:
        if pair.problem_id != self._problem_id or not self._room:
            self._unit, self._problem_id, self._room = self._unit + 1, pair.problem_id, MAX_PAIRS_TOGETHER
        self._room -= 1
        return self._unit
