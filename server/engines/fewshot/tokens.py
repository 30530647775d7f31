"""Few-shot prompts as token ids, for any model with a `tokenizer.json`.

Our marks are plain text to such a model. So that nobody can forge one, a mark inside text from users or programs loses
its shape (`<answer>` becomes `< answer>`), and the model's own special tokens are split there into plain characters.
Steps are the model's own tokens, never tokenised again.
"""

import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path as FilePath
from typing import cast

from tokenizers import Tokenizer

from search.format import SPECIAL_TOKENS, Segment, output_segments
from search.protocols import Path
from server.engines.errors import CheckpointError
from server.engines.fewshot.prompt import Frame
from server.engines.model_folder import existing_file

_PROMPTS_KEPT = 256
"""Problems whose tokens are remembered: a prompt has some thousand tokens, a search asks for it hundreds of times."""


class InstructTokens:
    """The tokenizer of an instruct model, and the prompt that it reads."""

    def __init__(self, file: FilePath, frame: Frame, *, end_ids: Collection[int]) -> None:
        """`end_ids`: the tokens with which the model ends its turn."""
        self._trusted = Tokenizer.from_file(str(file))
        self._untrusted = Tokenizer.from_file(str(file))
        self._untrusted.encode_special_tokens = True
        for tokenizer in (self._trusted, self._untrusted):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self.end_ids = frozenset(end_ids)
        self.size = 1 + max(self._trusted.get_vocab(with_added_tokens=True).values())
        self._before = (*self._first_ids(frame), *self.encode(Segment(frame.before, is_trusted=True)))
        self._after = self.encode(Segment(frame.after, is_trusted=True))
        self._prompt = lru_cache(maxsize=_PROMPTS_KEPT)(self._encode_prompt)

    def encode(self, segment: Segment) -> tuple[int, ...]:
        """The segment's tokens, without anything that the tokenizer would put in front."""
        tokenizer = self._trusted if segment.is_trusted else self._untrusted
        text = segment.text if segment.is_trusted else disarmed(segment.text)
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Collection[int]) -> str:
        """The text, special tokens spelt out."""
        return self._trusted.decode(list(token_ids), skip_special_tokens=False)

    def token_ids(self, path: Path) -> tuple[int, ...]:
        """The path as one sequence. Raises ValueError for a step whose tokens are not this tokenizer's."""
        ids = list(self._prompt(path.problem))
        for step in path.steps:
            if not all(0 <= token < self.size for token in step.token_ids):
                raise ValueError(f"a step holds tokens outside 0 to {self.size - 1}; another model wrote it")
            ids += step.token_ids
            if step.output is not None:
                for segment in output_segments(step.output):
                    ids += self.encode(segment)
        return tuple(ids)

    def _encode_prompt(self, problem: str) -> tuple[int, ...]:
        return (*self._before, *self.encode(Segment(problem, is_trusted=False)), *self._after)

    def _first_ids(self, frame: Frame) -> list[int]:
        """What the model expects in front of any text, unless its chat template has put it there already."""
        with_first = self._trusted.encode("a", add_special_tokens=True).ids
        without = self._trusted.encode("a", add_special_tokens=False).ids
        first = with_first[: len(with_first) - len(without)] if with_first[-len(without) :] == without else []
        return [] if first and frame.before.startswith(self.decode(first)) else first


def read_tokens(folder: FilePath, frame: Frame) -> InstructTokens:
    """The tokenizer in a model's folder. Raises `CheckpointError`."""
    file = existing_file(folder, "tokenizer.json")
    end_ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            value = cast(dict[str, object], json.loads((folder / name).read_text())).get("eos_token_id")
            ids = cast(list[object], value) if isinstance(value, list) else [value]
            end_ids |= {token for token in ids if isinstance(token, int)}
    if not end_ids:
        raise CheckpointError(f"{folder}: no eos_token_id in config.json or generation_config.json; a turn has no end")
    try:
        return InstructTokens(file, frame, end_ids=end_ids)
    except Exception as error:  # The library raises bare Exception for a file it cannot read.
        raise CheckpointError(f"{file}: unreadable tokenizer ({error})") from error


def disarmed(text: str) -> str:
    """Text from outside with our marks broken, and what is not valid Unicode replaced by a question mark."""
    for mark in SPECIAL_TOKENS:
        text = text.replace(mark, f"< {mark[1:]}")
    return text.encode("utf-8", errors="replace").decode("utf-8")
