# pyright: basic
"""Reward models of other makes: their scores are those that transformers gives, worked out independently."""

import shutil
from pathlib import Path as FilePath

import pytest
import torch
import transformers
from safetensors.torch import load_file

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep, PathTooLong
from server.engines.errors import CheckpointError, EngineClosed, EngineFailed
from server.engines.model_folder import ModelFolder
from server.engines.prm.heads import read_two_class_head, read_value_head
from server.engines.prm.rendering import PrmTokens
from server.engines.prm.scorer import transformers_scorer
from server.engines.remote.client import RemoteAddress
from server.engines.rendering import PathTokens, StepTokenizer
from server.engines.torch.checkpoint import load_ppm
from server.engines.torch.ppm import torch_scorer
from server.engines.torch.runtime import TorchRuntime
from tests.server.engines.built import prm_scorer, remote_scorer_of
from tests.server.engines.tiny_models import CONTEXT_TOKENS, save_weights

STEPS = (
    PathStep(text="\n# Add\ntotal = 12 + 30\n", token_ids=(40, 41, 42), stop=CandidateStop.END_OF_STEP),
    PathStep(text="\nprint(total)\n", token_ids=(50, 51), stop=CandidateStop.END_OF_CODE, output="42"),
    PathStep(text="\n<answer>It is \\boxed{42}.", token_ids=(60,), stop=CandidateStop.END_OF_ANSWER),
)
PATHS = [
    *(Path(problem="What is 12 + 30?", steps=STEPS[:length]) for length in range(4)),
    Path(problem="Another one " * 20, steps=STEPS[:1]),
    Path(problem="", steps=STEPS),
]


def process_rewards(folder: FilePath, ids: tuple[int, ...]) -> list[float]:
    """The probability of the second class at every separator, as the model card computes it."""
    weights = load_file(folder / "model.safetensors")
    backbone = transformers.Qwen2Model(transformers.Qwen2Config.from_pretrained(folder)).eval()
    backbone.load_state_dict({name.removeprefix("model."): value for name, value in weights.items() if name[0] == "m"})
    head = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    head.load_state_dict({name.removeprefix("score."): value for name, value in weights.items() if name[0] == "s"})
    separator = PrmTokens(folder / "tokenizer.json").separator_id
    with torch.inference_mode():
        logits = head(backbone(torch.tensor([ids])).last_hidden_state)[0]
    return [logits[place].softmax(-1)[1].item() for place, token in enumerate(ids) if token == separator]


async def test_a_process_reward_model_scores_the_last_separator(prm_folder: FilePath, one_thread: TorchRuntime) -> None:
    tokens = PrmTokens(prm_folder / "tokenizer.json")
    rewards = [process_rewards(prm_folder, tokens.token_ids(path)) for path in PATHS]
    assert [len(reward) for reward in rewards] == [1, 1, 2, 3, 1, 3]
    async with prm_scorer(prm_folder, one_thread, reads_policy_tokens=False) as scorer:
        found = await scorer.score(PATHS)
    assert list(found) == pytest.approx([2 * reward[-1] - 1 for reward in rewards], abs=1e-5)
    assert max(found) - min(found) > 0.05


@pytest.mark.parametrize("reads_policy_tokens", [True, False])
async def test_a_value_head_gives_tanh_of_a_fifth_of_its_value(
    value_head_folder: FilePath, one_thread: TorchRuntime, *, reads_policy_tokens: bool
) -> None:
    model = transformers.Qwen2ForCausalLM.from_pretrained(value_head_folder, dtype=torch.float32).eval()
    head = torch.load(value_head_folder / "value_head.bin", weights_only=True)
    tokenizer = StepTokenizer(value_head_folder / "tokenizer.json")
    paths = PATHS if reads_policy_tokens else [_encoded(path, tokenizer) for path in PATHS]
    expected: list[float] = []
    for path in paths:
        with torch.inference_mode():
            ids = torch.tensor([PathTokens(tokenizer).token_ids(path)])
            hidden = model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
        value = torch.nn.functional.linear(hidden, head["v_head.summary.weight"], head["v_head.summary.bias"])
        expected.append(torch.tanh(value / 5).item())
    async with prm_scorer(value_head_folder, one_thread, reads_policy_tokens=reads_policy_tokens) as scorer:
        found = await scorer.score(PATHS)
    assert list(found) == pytest.approx(expected, abs=1e-5)
    assert max(found) - min(found) > 0.05


async def test_our_ppm_reads_another_policy_s_steps_as_text(ppm_folder: FilePath, one_thread: TorchRuntime) -> None:
    tokenizer = StepTokenizer(ppm_folder / "tokenizer.json")
    async with torch_scorer(load_ppm(ppm_folder), runtime=one_thread) as own:
        expected = await own.score([_encoded(path, tokenizer) for path in PATHS])
    async with prm_scorer(ppm_folder, one_thread, reads_policy_tokens=False) as scorer:
        found = await scorer.score(PATHS)
    assert list(found) == pytest.approx(list(expected), abs=1e-4)
    assert max(found) - min(found) > 0.05


def _encoded(path: Path, tokenizer: StepTokenizer) -> Path:
    steps = tuple(
        PathStep(
            text=step.text, token_ids=tokenizer.encode_step(step.text, step.stop), stop=step.stop, output=step.output
        )
        for step in path.steps
    )
    return Path(problem=path.problem, steps=steps)


async def test_scores_do_not_depend_on_what_else_is_in_the_batch(
    prm_folder: FilePath, one_thread: TorchRuntime
) -> None:
    async with prm_scorer(prm_folder, one_thread, reads_policy_tokens=False) as scorer:
        together = await scorer.score(PATHS)
        backwards = await scorer.score(PATHS[::-1])
        alone = [(await scorer.score([path]))[0] for path in PATHS]
        assert list(await scorer.score([])) == []
        assert scorer.stats.requests == 2 + len(PATHS)
    assert list(together) == pytest.approx(alone, abs=1e-5)
    assert list(backwards)[::-1] == pytest.approx(alone, abs=1e-5)


async def test_a_long_path_does_not_make_a_huge_padded_batch(
    prm_folder: FilePath, one_thread: TorchRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = PrmTokens(prm_folder / "tokenizer.json")
    short, long = PATHS[0], PATHS[4]
    limit = 2 * len(tokens.token_ids(long))
    assert 3 * len(tokens.token_ids(short)) + len(tokens.token_ids(long)) <= limit
    monkeypatch.setattr("server.engines.torch.ppm._STEP_TOKENS", limit)
    rows: list[int] = []

    def count_rows(hidden_B_H: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden_B_H))
        return hidden_B_H[:, 0]

    async with transformers_scorer(ModelFolder(prm_folder), tokens, count_rows, runtime=one_thread) as scorer:
        await scorer.score([short] * 3 + [long] + [short] * 2)
    assert rows == [3, 2, 1]


async def test_a_path_longer_than_the_context_is_refused(prm_folder: FilePath, one_thread: TorchRuntime) -> None:
    async with prm_scorer(prm_folder, one_thread, reads_policy_tokens=False) as scorer:
        assert scorer.context_tokens == CONTEXT_TOKENS
        with pytest.raises(PathTooLong):
            await scorer.score([PATHS[0], Path(problem="1" * 5000)])
        assert len(await scorer.score(PATHS[:1])) == 1
        assert scorer.fault is None
    with pytest.raises(EngineClosed):
        await scorer.score(PATHS[:1])


def broken_head(hidden_B_H: torch.Tensor) -> torch.Tensor:
    raise ArithmeticError(f"no score for {hidden_B_H.shape}")


async def test_a_model_that_breaks_says_so_and_stays_broken(prm_folder: FilePath, one_thread: TorchRuntime) -> None:
    tokens = PrmTokens(prm_folder / "tokenizer.json")
    async with transformers_scorer(ModelFolder(prm_folder), tokens, broken_head, runtime=one_thread) as scorer:
        for _ in range(2):
            with pytest.raises(EngineFailed, match="ArithmeticError: no score"):
                await scorer.score(PATHS)
        assert scorer.fault is not None


def test_a_value_head_on_a_vllm_server_is_refused(value_head_folder: FilePath) -> None:
    with pytest.raises(CheckpointError, match=r"convert it by server\.engines\.prm_convert"):
        remote_scorer_of(RemoteAddress(url="http://gpu-1:8000"), value_head_folder, reads_policy_tokens=True)


def test_heads_of_another_shape_are_refused(prm_folder: FilePath, value_head_folder: FilePath, tmp_path) -> None:
    file = tmp_path / "value_head.bin"
    with pytest.raises(CheckpointError, match=r"value_head\.bin is missing"):
        read_value_head(tmp_path)
    for content in ({"v_head.summary.weight": torch.zeros(2, 8)}, {"summary.bias": torch.zeros(1)}, {}):
        torch.save(content, file)
        with pytest.raises(CheckpointError, match=r"expected summary.weight of one row"):
            read_value_head(tmp_path)
    torch.save([1, 2], file)
    with pytest.raises(CheckpointError, match="expected named tensors"):
        read_value_head(tmp_path)
    file.write_bytes(b"not a pickle")
    with pytest.raises(CheckpointError, match="unreadable"):
        read_value_head(tmp_path)
    weights = load_file(prm_folder / "model.safetensors")
    save_weights(tmp_path, {name: value for name, value in weights.items() if name != "score.2.bias"})
    with pytest.raises(CheckpointError, match=r"missing: \['score.2.bias'\]"):
        read_two_class_head(tmp_path)


class Malice:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: FilePath, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"v_head.summary.weight": Malice()}, tmp_path / "value_head.bin")
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_value_head(tmp_path)
    assert "must not run" not in capsys.readouterr().out


def test_a_backbone_with_missing_weights_is_refused(prm_folder: FilePath, tmp_path: FilePath) -> None:
    folder = tmp_path / "model"
    shutil.copytree(prm_folder, folder)
    weights = load_file(folder / "model.safetensors")
    save_weights(folder, {name: value for name, value in weights.items() if "layers.1.mlp" not in name})
    with pytest.raises(CheckpointError, match="weights are missing"):
        prm_scorer(folder, TorchRuntime(), reads_policy_tokens=False)
