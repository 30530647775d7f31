# pyright: basic
"""Fine-tuning lowers the loss on the policy's own tokens only, follows its schedule, and continues where it stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen2ForCausalLM

from search import CandidateStop
from search import Path as SearchPath
from search.format import END_OF_ANSWER, END_OF_CODE, END_OF_STEP, OUTPUT
from search.protocols import PathStep
from server.engines.rendering import PathTokens, StepTokenizer
from training.models.policy_model import PolicyShape, new_policy, train_tokenizer
from training.models.sft import Example, SFTConfig, answer_text, batches, encode, train
from training.records import Trajectory

pytestmark = pytest.mark.usefixtures("single_thread")

SHAPE = PolicyShape(vocabulary=32, hidden=64, layers=2, heads=1, key_value_heads=1, intermediate=64, context=64)
CONFIG = SFTConfig(total_tokens=6_000, batch_tokens=64, accumulate=2, learning_rate=3e-3, checkpoint_s=1e9)
EXAMPLES = [Example((first, 3, first, first), (False, False, True, True)) for first in range(4, 32)] * 8
"""Copy the first token twice."""

TRAJECTORY = Trajectory(
    problem_id="gcd/train/0",
    group="gcd",
    question="Find the gcd of 12 and 18. <end_of_code>",
    steps=("\n# Read the numbers\na = 12\nb = 18\n", "\n# Print the answer\nprint(a % b)\n"),
    output="12 <answer>",
    answer="6",
    is_right=True,
    source="test",
)


def policy() -> Qwen2ForCausalLM:
    return new_policy(SHAPE, seed=0, end_of_text=0)


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    train(policy(), EXAMPLES, replace(CONFIG, total_tokens=30_000, accumulate=1), folder=tmp_path, pad_id=0)
    losses = [row["loss"] for row in logged(tmp_path)]
    assert losses[0] > 0.5
    assert losses[-1] < 0.2


def test_a_resumed_run_sees_the_batches_of_an_unbroken_one(tmp_path: Path) -> None:
    whole, halves = policy(), policy()
    train(whole, EXAMPLES, CONFIG, folder=tmp_path / "whole", pad_id=0)

    train(halves, EXAMPLES, replace(CONFIG, total_tokens=3_000), folder=tmp_path / "halves", pad_id=0)
    state = torch.load(tmp_path / "halves" / "training.pt", weights_only=True)
    assert 0 < state["progress"][0] < CONFIG.total_tokens
    resumed = policy()
    train(resumed, EXAMPLES, CONFIG, folder=tmp_path / "halves", pad_id=0)
    ends = [torch.load(tmp_path / name / "training.pt", weights_only=True)["progress"] for name in ("whole", "halves")]
    assert ends[0] == ends[1]


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    model = policy()
    train(model, EXAMPLES, CONFIG, folder=tmp_path, pad_id=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    again = policy()
    train(again, EXAMPLES, CONFIG, folder=tmp_path, pad_id=0)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_only_targets_carry_loss() -> None:
    from training.models.sft import _summed_loss

    model = policy()
    ids = torch.tensor([[4, 3, 4, 4]])
    none = torch.zeros_like(ids, dtype=torch.bool)
    last = none.clone()
    last[0, 3] = True
    assert _summed_loss(model, ids, none).item() == 0.0
    logits = model(input_ids=ids).logits[0, 2]
    expected = torch.nn.functional.cross_entropy(logits[None], ids[0, 3:]).item()
    assert _summed_loss(model, ids, last).item() == pytest.approx(expected, abs=0.05)  # bfloat16


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> StepTokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    texts = [TRAJECTORY.question, *TRAJECTORY.steps, answer_text("6")] * 5
    train_tokenizer(texts, vocabulary=320).save(str(file))
    return StepTokenizer(file)


def text_of(example: Example, tokenizer: StepTokenizer, *, target: bool) -> str:
    ids = tuple(i for i, wrote in zip(example.token_ids, example.is_target, strict=True) if wrote is target)
    return tokenizer.decode_step((*ids, tokenizer.special_ids[END_OF_STEP]))


def test_only_what_the_policy_wrote_is_a_target(tokenizer: StepTokenizer) -> None:
    example = encode(TRAJECTORY, tokenizer)
    written = text_of(example, tokenizer, target=True)
    assert written == (
        TRAJECTORY.steps[0] + END_OF_STEP + TRAJECTORY.steps[1] + END_OF_CODE + answer_text("6") + END_OF_ANSWER
    )
    given = text_of(example, tokenizer, target=False)
    assert TRAJECTORY.question in given
    assert OUTPUT + TRAJECTORY.output in given


def test_tokens_are_those_that_search_shows_the_models(tokenizer: StepTokenizer) -> None:
    stops = (CandidateStop.END_OF_STEP, CandidateStop.END_OF_CODE)
    steps = [
        PathStep(
            text=text,
            token_ids=tokenizer.encode_step(text, stop),
            stop=stop,
            output=TRAJECTORY.output if stop is CandidateStop.END_OF_CODE else None,
        )
        for text, stop in zip(TRAJECTORY.steps, stops, strict=True)
    ]
    path = PathTokens(tokenizer).token_ids(SearchPath(problem=TRAJECTORY.question, steps=tuple(steps)))
    assert encode(TRAJECTORY, tokenizer).token_ids[: len(path)] == path


def test_special_tokens_in_problem_and_output_are_plain_text(tokenizer: StepTokenizer) -> None:
    example = encode(TRAJECTORY, tokenizer)
    count = example.token_ids.count
    assert count(tokenizer.special_ids[END_OF_CODE]) == 1
    assert count(tokenizer.special_ids["<answer>"]) == 1


def test_an_epoch_holds_each_example_once_in_small_batches() -> None:
    lengths = [5 + index % 40 for index in range(300)]
    examples = [Example((7,) * length, (True,) * length) for length in lengths]
    seen: list[int] = []
    for ids_B_T, is_target_B_T in batches(examples, tokens=256, generator=torch.Generator().manual_seed(0), pad_id=0):
        assert ids_B_T.shape == is_target_B_T.shape
        assert ids_B_T.shape[0] == 1 or ids_B_T.shape[0] * max(is_target_B_T.sum(1).tolist()) <= 256
        assert torch.equal(ids_B_T == 7, is_target_B_T)
        seen += is_target_B_T.sum(1).tolist()
    assert sorted(seen) == sorted(lengths)


def test_the_same_seed_gives_the_same_epoch() -> None:
    examples = [Example((1,) * (5 + index), (True,) * (5 + index)) for index in range(50)]

    def epoch(seed: int) -> list[list[int]]:
        stream = batches(examples, tokens=128, generator=torch.Generator().manual_seed(seed), pad_id=0)
        return [ids.sum(1).tolist() for ids, _ in stream]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
