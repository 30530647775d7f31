# pyright: basic
"""The converter: a published value head becomes a standard checkpoint with the same scores."""

import json
from pathlib import Path as FilePath

import pytest
import torch
import transformers

from search.protocols import Path
from server.engines.errors import CheckpointError
from server.engines.model_folder import ModelFolder, PpmKind
from server.engines.prm_convert import convert_value_head, main
from server.engines.rendering import PathTokens, StepTokenizer
from server.engines.self_check import check_scores
from server.engines.torch.checkpoint import load_ppm
from server.engines.torch.ppm import torch_scorer
from server.engines.torch.runtime import TorchRuntime
from tests.server.engines.built import prm_scorer
from tests.server.engines.tiny_models import save_value_head_model

PATHS = [Path(problem="What is 12 + 30?"), Path(problem="Another one " * 20), Path(problem="")]


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_converted_model_scores_alike_on_every_engine(
    tmp_path: FilePath, one_thread: TorchRuntime, shards: int
) -> None:
    source, target = save_value_head_model(tmp_path / "published", shards=shards), tmp_path / "converted"
    convert_value_head(source, target)
    assert ModelFolder(target).ppm_kind is PpmKind.STANDARD
    async with prm_scorer(source, one_thread, reads_policy_tokens=True) as published:
        expected = list(await published.score(PATHS))
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        target, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values())
    tokens = PathTokens(StepTokenizer(target / "tokenizer.json"))
    with torch.inference_mode():
        by_transformers = [
            torch.tanh(model.eval()(torch.tensor([tokens.token_ids(path)])).logits[0, 0]).item() for path in PATHS
        ]
    assert by_transformers == pytest.approx(expected, abs=1e-5)
    async with torch_scorer(load_ppm(target), runtime=one_thread) as scorer:
        assert list(await scorer.score(PATHS)) == pytest.approx(expected, abs=1e-4)
        await check_scores(scorer, target)


def test_conversion_keeps_the_head_in_float32_only(tmp_path: FilePath) -> None:
    from safetensors import safe_open

    source, target = save_value_head_model(tmp_path / "published"), tmp_path / "converted"
    convert_value_head(source, target, scale=2.0, with_self_check=False)
    places = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    assert not any("lm_head" in name for name in places)
    with safe_open(target / places["score.weight"], framework="pt") as weights:
        found = weights.get_tensor("score.weight")
    head = torch.load(source / "value_head.bin", weights_only=True)["v_head.summary.weight"]
    assert found.dtype is torch.float32
    assert torch.equal(found, head / 2.0)
    assert not (target / "self_check.json").exists()
    assert not list(target.glob("*.bin"))


def test_a_bias_that_matters_is_refused(tmp_path: FilePath) -> None:
    source = save_value_head_model(tmp_path / "published", bias=0.5)
    with pytest.raises(CheckpointError, match=r"bias of 0.5, .* serve the folder as it is"):
        convert_value_head(source, tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


def test_nothing_is_written_over(value_head_folder: FilePath, tmp_path: FilePath) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        convert_value_head(value_head_folder, tmp_path)


@pytest.mark.parametrize(
    ("architectures", "message"),
    [(["BertModel"], "expected a \\*ForCausalLM model"), (["NoSuchForCausalLM"], "no NoSuchForSequenceClassification")],
)
def test_conversion_refuses_a_model_of_another_class(
    tmp_path: FilePath, architectures: list[str], message: str
) -> None:
    source = save_value_head_model(tmp_path / "published")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
    with pytest.raises(CheckpointError, match=message):
        convert_value_head(source, tmp_path / "converted")


def test_the_command_converts_and_refuses_in_words(value_head_folder: FilePath, tmp_path: FilePath) -> None:
    target = tmp_path / "converted"
    main([str(value_head_folder), str(target)])
    assert (target / "self_check.json").is_file()
    with pytest.raises(SystemExit, match="exists already"):
        main([str(value_head_folder), str(target)])
