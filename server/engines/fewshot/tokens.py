"""Few-shot prompts as token ids, for any model with a `tokenizer.json`.

Our marks are plain text to such a model. So that nobody can forge one, a mark inside text from users or programs loses
its shape (`<answer>` becomes `< answer>`), and the model's own special tokens are split there into plain characters.
Steps are the model's own tokens, never tokenised again.
"""

from collections.abc import Collection
from pathlib import Path as FilePath
from typing import cast

from search.format import SPECIAL_TOKENS, Segment
from server.engines.errors import CheckpointError
from server.engines.fewshot.prompt import Frame
from server.engines.model_folder import ModelFolder
from server.engines.rendering import PathTokens, SegmentTokenizer


class DisarmingTokenizer(SegmentTokenizer):
    """A tokenizer to which our marks are plain text."""

    def encode(self, segment: Segment) -> tuple[int, ...]:
        """The segment's tokens, without a mark of ours where it is not to be trusted."""
        return super().encode(segment if segment.is_trusted else Segment(disarmed(segment.text), is_trusted=False))


class InstructTokens(PathTokens):
    """The prompt that an instruct model reads, and the steps that follow it."""

    def __init__(self, file: FilePath, frame: Frame, *, end_ids: Collection[int]) -> None:
        """`end_ids`: the tokens with which the model ends its turn."""
        super().__init__(DisarmingTokenizer(file))
        self.encode, self.decode, self.size = self.tokenizer.encode, self.tokenizer.decode, self.tokenizer.size
        self.end_ids = frozenset(end_ids)
        first = self.tokenizer.first_ids()
        # The chat template may have put it there already.
        has_first = bool(first) and frame.before.startswith(self.tokenizer.decode(first))
        before = self.tokenizer.encode(Segment(frame.before, is_trusted=True))
        self._before = before if has_first else (*first, *before)
        self._after = self.tokenizer.encode(Segment(frame.after, is_trusted=True))

    def encode_prompt(self, problem: str) -> tuple[int, ...]:
        """Instruction and examples included."""
        return (*self._before, *self.tokenizer.encode(Segment(problem, is_trusted=False)), *self._after)


def read_tokens(folder: FilePath, frame: Frame) -> InstructTokens:
    """The tokenizer in a model's folder. Raises `CheckpointError`."""
    model = ModelFolder(folder)
    file = model.file("tokenizer.json")
    end_ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            value = model.read_json(name).get("eos_token_id")
            ids = cast(list[object], value) if isinstance(value, list) else [value]
            end_ids |= {token for token in ids if isinstance(token, int)}
    if not end_ids:
        raise CheckpointError(f"{folder}: no eos_token_id in config.json or generation_config.json; a turn has no end")
    return InstructTokens(file, frame, end_ids=end_ids)


def disarmed(text: str) -> str:
    """Text from outside with our marks broken."""
    for mark in SPECIAL_TOKENS:
        text = text.replace(mark, f"< {mark[1:]}")
    return text
