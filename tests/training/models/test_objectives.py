# pyright: basic
"""Losses are those of the formulas, summed by weight; they see neither padding nor what the policy was given."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from search import CandidateStop, PathStep
from search import Path as SearchPath
from server.engines.rendering import END_OF_TEXT, StepTokenizer
from training.examples.preferences import Pair
from training.examples.values import Valued
from training.models.encoded import Example, PolicyExamples, RewardExamples, RewardWriter, write_policy_examples
from training.models.folders import open_policy, open_reward_model
from training.models.objectives import PolicyObjective, RewardKind, RewardObjective, path_scores

pytestmark = pytest.mark.usefixtures("single_thread")

TEXTS = ("\na = 1\n", "\na = 2\n", "\nlonger = 3 + 4\n", "\nb = 5\n")


@pytest.fixture(scope="module")
def policy(start: Path) -> PreTrainedModel:
    return open_policy(start)


@pytest.fixture
def reward_model(start: Path) -> PreTrainedModel:
    model = open_reward_model(start, seed=0)
    torch.nn.init.normal_(model.get_parameter("score.weight"), std=0.5, generator=torch.Generator().manual_seed(1))
    return model


def policy_objective(folder: Path, examples: Sequence[Example]) -> PolicyObjective:
    write_policy_examples(folder, examples, max_length=160)
    return PolicyObjective(PolicyExamples(folder))


def path(*texts: str) -> SearchPath:
    steps = [PathStep(text=text, token_ids=(), stop=CandidateStop.END_OF_STEP, output=None) for text in texts]
    return SearchPath(problem="What is twice 7?", steps=tuple(steps))


def reward_objective(
    kind: RewardKind, start: Path, folder: Path, records: Sequence[Pair | Valued], *, auxiliary: float = 0.0
) -> RewardObjective:
    writer = RewardWriter(StepTokenizer(start / "tokenizer.json"), max_length=160)
    for record in records:
        writer.add(record)
    writer.write(folder)
    return RewardObjective(kind, RewardExamples(folder), auxiliary=auxiliary)


def pairs(*weights: float) -> list[Pair]:
    """Pairs of different problems, without a path in common."""
    sides = [(path(TEXTS[0]), path(TEXTS[1])), (path(TEXTS[2]), path(TEXTS[3]))]
    return [
        Pair(better=better, worse=worse, weight=weight, problem_id=f"p{index}")
        for index, ((better, worse), weight) in enumerate(zip(sides, weights, strict=False))
    ]


def values(*targets: float) -> list[Valued]:
    """Values along one solution, which share a row."""
    return [
        Valued(path=path(*TEXTS[: index + 1]), target=target, weight=1.0, problem_id="p")
        for index, target in enumerate(targets)
    ]


def gradient(model: PreTrainedModel, objective: RewardObjective, units: Sequence[int]) -> torch.Tensor:
    model.zero_grad()
    objective.loss(model, objective.batch(units)).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def test_the_policy_loss_is_that_of_its_own_tokens(policy: PreTrainedModel, tmp_path: Path) -> None:
    ids, is_target = (40, 41, 42, 43, 44), (False, False, True, False, True)
    objective = policy_objective(tmp_path, [Example(ids, is_target)])
    batch = objective.batch([0])
    logits = policy(input_ids=torch.tensor([ids])).logits[0]
    expected = functional.cross_entropy(logits[[1, 3]], torch.tensor([42, 44]), reduction="sum")
    assert objective.loss(policy, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert batch["weight"].item() == 2


def test_loss_and_weight_of_a_batch_are_those_of_its_rows(policy: PreTrainedModel, tmp_path: Path) -> None:
    lengths = (4, 37, 16)
    examples = [Example(tuple(range(30, 30 + n)), (False,) * (n // 2) + (True,) * (n - n // 2)) for n in lengths]
    objective = policy_objective(tmp_path, examples)
    together, alone = objective.batch([0, 1, 2]), [objective.batch([index]) for index in range(3)]
    assert together["weight"] == sum(batch["weight"] for batch in alone)
    losses = [objective.loss(policy, batch).item() for batch in alone]
    assert objective.loss(policy, together).item() == pytest.approx(sum(losses), rel=1e-4)


def test_an_end_token_is_learnt_though_it_is_also_padding(policy: PreTrainedModel, start: Path, tmp_path: Path) -> None:
    end = StepTokenizer(start / "tokenizer.json").special_ids[END_OF_TEXT]
    assert end == policy.config.pad_token_id
    objective = policy_objective(
        tmp_path, [Example((40, 41, end), (False, False, True)), Example((40,) * 9, (True,) * 9)]
    )
    labels_B_K = objective.batch([0, 1])["labels"]
    assert (labels_B_K[0] == end).sum() == 1


def test_logits_are_computed_where_some_row_has_a_target(tmp_path: Path) -> None:
    examples = [
        Example((40,) * 6, (False,) * 4 + (True,) * 2),
        Example((41,) * 6, (False,) * 3 + (True,) + (False,) * 2),
    ]
    assert policy_objective(tmp_path, examples).batch([0, 1])["positions"].tolist() == [2, 3, 4]


def test_scores_depend_neither_on_batch_nor_on_padding(reward_model: PreTrainedModel) -> None:
    import numpy as np

    paths = [np.arange(5, 5 + length, dtype=np.int32) for length in (3, 17, 40)]
    device = torch.device("cpu")
    alone = [path_scores(reward_model, [one], device=device)[0] for one in paths]
    assert path_scores(reward_model, paths, device=device) == pytest.approx(alone, abs=1e-5)
    assert all(-1 <= score <= 1 for score in alone)


def scored(model: PreTrainedModel, start: Path, one: SearchPath) -> torch.Tensor:
    from server.engines.rendering import PathTokens
    from training.examples.paths import tokenised

    tokenizer = StepTokenizer(start / "tokenizer.json")
    ids = PathTokens(tokenizer).token_ids(tokenised(one, tokenizer))
    return model(input_ids=torch.tensor([ids])).logits[0, -1, 0]


def test_the_ppm_loss_is_bradley_terry_of_bounded_scores(
    reward_model: PreTrainedModel, start: Path, tmp_path: Path
) -> None:
    objective = reward_objective(RewardKind.PPM, start, tmp_path, pairs(1.0, 3.0))
    batch = objective.batch([0, 1])
    expected = 0.0
    for pair in pairs(1.0, 3.0):
        better, worse = (torch.tanh(scored(reward_model, start, side)) for side in (pair.better, pair.worse))
        expected -= pair.weight * functional.logsigmoid(better - worse).item()
    assert objective.loss(reward_model, batch).item() == pytest.approx(expected, rel=1e-4)
    assert batch["weight"].item() == 4.0


def test_doubling_a_weight_doubles_its_gradient(reward_model: PreTrainedModel, start: Path, tmp_path: Path) -> None:
    objectives = [
        reward_objective(RewardKind.PPM, start, tmp_path / str(index), pairs(*weights))
        for index, weights in enumerate([(1.0, 1.0), (2.0, 1.0)])
    ]
    first, second, both, doubled = (
        gradient(reward_model, objective, units)
        for objective, units in zip((objectives[0],) * 3 + (objectives[1],), ([0], [1], [0, 1], [0, 1]), strict=True)
    )
    assert first.abs().max() > 1e-3
    assert torch.allclose(both, first + second, atol=1e-6)
    assert torch.allclose(doubled, 2 * first + second, atol=1e-6)


def test_the_pqm_loss_is_the_squared_error_of_q(reward_model: PreTrainedModel, start: Path, tmp_path: Path) -> None:
    found = values(0.5, -0.25, 1.0)
    objective = reward_objective(RewardKind.PQM, start, tmp_path, found)
    batch = objective.batch([0])
    expected = sum((torch.tanh(scored(reward_model, start, one.path)).item() - one.target) ** 2 for one in found)
    assert objective.loss(reward_model, batch).item() == pytest.approx(expected, rel=1e-4)
    assert batch["input_ids"].shape[0] == 1


def test_the_orm_loss_is_cross_entropy_of_the_score(reward_model: PreTrainedModel, start: Path, tmp_path: Path) -> None:
    found = values(1.0, -1.0)
    objective = reward_objective(RewardKind.ORM, start, tmp_path, found)
    expected = 0.0
    for one in found:
        is_right = (1 + torch.tanh(scored(reward_model, start, one.path))) / 2  # what serving makes of a score
        expected -= torch.log(is_right if one.target > 0 else 1 - is_right).item()
    assert objective.loss(reward_model, objective.batch([0])).item() == pytest.approx(expected, rel=1e-4)


def test_the_auxiliary_loss_is_that_of_each_solution_token(
    reward_model: PreTrainedModel, start: Path, tmp_path: Path
) -> None:
    from server.engines.rendering import PathTokens

    found = values(-1.0)
    plain, with_tokens = (
        reward_objective(RewardKind.ORM, start, tmp_path / str(weight), found, auxiliary=weight)
        for weight in (0.0, 0.5)
    )
    batch = with_tokens.batch([0])
    prompt = len(PathTokens(StepTokenizer(start / "tokenizer.json")).encode_prompt(found[0].path.problem))
    last = int(batch["last"][0])
    head_T = reward_model(input_ids=batch["input_ids"]).logits[0, prompt : last + 1, 0]
    on_tokens = functional.binary_cross_entropy_with_logits(2 * head_T, torch.zeros_like(head_T))
    expected = plain.loss(reward_model, plain.batch([0])) + 0.5 * on_tokens
    assert with_tokens.loss(reward_model, batch).item() == pytest.approx(expected.item(), rel=1e-4)


def test_tokens_that_a_pair_shares_are_half_right(start: Path, tmp_path: Path) -> None:
    common, first, second = TEXTS[0], TEXTS[1], TEXTS[3]
    pair = Pair(better=path(common, first), worse=path(common, second), weight=1.0, problem_id="p")
    batch = reward_objective(RewardKind.PPM, start, tmp_path, [pair], auxiliary=1.0).batch([0])
    right_R = batch["token_right"].sum(1)[batch["row"]]
    assert right_R[batch["path"]].item() == pytest.approx(0.5)
    assert right_R[batch["worse"]].item() == 0.0
    assert batch["token_weight"].sum().item() == pytest.approx(1.0)
