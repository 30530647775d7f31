"""Candidates from few-shot completions: the end of a step, and its own tokens."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.format import Segment
from search.outcomes import CandidateStop
from search.protocols import Candidate
from server.engines.fewshot.format import STOP_STRINGS, candidate_of
from server.engines.policy import Completion

END = 0
"""The token with which the fake model ends its turn."""


class PieceTokens:
    """A tokenizer whose tokens are the pieces it has been shown, then single characters."""

    end_ids = frozenset({END})

    def __init__(self) -> None:
        self.pieces = ["<|im_end|>"]

    def learn(self, pieces: Sequence[str]) -> tuple[int, ...]:
        first = len(self.pieces)
        self.pieces += pieces
        return tuple(range(first, first + len(pieces)))

    def encode(self, segment: Segment) -> tuple[int, ...]:
        assert segment.is_trusted
        return self.learn(list(segment.text))

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self.pieces[token] for token in token_ids)


def candidate(
    pieces: Sequence[str], *, code_has_ended: bool = False, ends: bool = False
) -> tuple[Candidate, PieceTokens]:
    tokens = PieceTokens()
    ids = (*tokens.learn(pieces), *([END] if ends else []))
    completion = Completion(token_ids=ids, logprob=-1.5)
    return candidate_of(completion, tokens, code_has_ended=code_has_ended), tokens


@pytest.mark.parametrize(
    ("pieces", "text", "stop"),
    [
        (["\nx = 1\n", "<end_of_step>"], "\nx = 1\n", CandidateStop.END_OF_STEP),
        (["\nx", " = 1\n<end", "_of_", "code>"], "\nx = 1\n", CandidateStop.END_OF_CODE),
        (["\n<answer>\\boxed{1}", "<end_of_answer", ">"], "\n<answer>\\boxed{1}", CandidateStop.END_OF_ANSWER),
    ],
)
def test_a_mark_that_ends_with_a_token_keeps_all_tokens(pieces: list[str], text: str, stop: CandidateStop) -> None:
    found, _ = candidate(pieces)
    assert (found.text, found.stop, found.logprob) == (text, stop, -1.5)
    assert found.token_ids == tuple(range(1, 1 + len(pieces)))


def test_a_token_that_goes_on_behind_the_mark_is_written_again() -> None:
    found, tokens = candidate(["\nx = 1\n", "<end_of_", "step>\n\n#"])
    assert found.stop is CandidateStop.END_OF_STEP
    assert found.text == "\nx = 1\n"
    assert found.token_ids[:2] == (1, 2)
    assert tokens.decode(found.token_ids) == "\nx = 1\n<end_of_step>"


def test_tokens_behind_the_mark_are_dropped() -> None:
    found, _ = candidate(["\nx = 1\n<end_of_step>", "\n# more", "<end_of_step>"])
    assert found.token_ids == (1,)
    assert found.text == "\nx = 1\n"


@pytest.mark.parametrize("ends", [True, False])
def test_without_a_mark_a_candidate_is_cut_off(*, ends: bool) -> None:
    found, tokens = candidate(["\nx = ", "1\n"], ends=ends)
    assert found.stop is CandidateStop.LENGTH
    assert tokens.decode(found.token_ids) == found.text


def test_a_model_that_writes_the_output_itself_is_cut_off() -> None:
    found, _ = candidate(["\nprint(1)\n", "<output>", "1", "<end_of_code>"])
    assert found.stop is CandidateStop.LENGTH


def test_an_answer_closed_by_the_end_of_the_turn_gets_its_mark() -> None:
    pieces = ["\n<answer>It is ", "\\boxed{42}", "."]
    found, tokens = candidate(pieces, code_has_ended=True, ends=True)
    assert found.stop is CandidateStop.END_OF_ANSWER
    assert found.text == "\n<answer>It is \\boxed{42}."
    assert found.token_ids[:3] == (1, 2, 3)
    assert tokens.decode(found.token_ids) == f"{found.text}<end_of_answer>"


@pytest.mark.parametrize(
    ("pieces", "code_has_ended"),
    [
        (["\n<answer>It is ", "\\boxed{42}."], False),
        (["\n<answer>It is 42."], True),
        (["\nIt is \\boxed{42}."], True),
        ([], True),
    ],
)
def test_nothing_else_that_ends_the_turn_is_an_answer(pieces: list[str], *, code_has_ended: bool) -> None:
    found, _ = candidate(pieces, code_has_ended=code_has_ended, ends=True)
    assert found.stop is CandidateStop.LENGTH


def test_nothing_at_all_is_cut_off() -> None:
    found, _ = candidate([], code_has_ended=True)
    assert (found.text, found.token_ids, found.stop) == ("", (), CandidateStop.LENGTH)


TEXTS = st.text(alphabet="ab<>_ \n", max_size=20)


@given(
    before=TEXTS, behind=TEXTS, word=st.sampled_from(STOP_STRINGS[:3]), cuts=st.lists(st.integers(1, 40), max_size=8)
)
def test_text_and_tokens_agree_however_the_text_is_cut(before: str, behind: str, word: str, cuts: list[int]) -> None:
    text = before + word + behind
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    found, tokens = candidate(pieces)
    assert found.text == before
    assert tokens.decode(found.token_ids) == before + word
    kept = sum(token <= len(pieces) for token in found.token_ids)
    whole = sum(len("".join(pieces[: index + 1])) <= len(before + word) for index in range(len(pieces)))
    assert kept == whole  # only a token that goes on behind the mark is written again
