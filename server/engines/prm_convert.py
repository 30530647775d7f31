# pyright: basic
"""Conversion of rStar-Math's published PPM format into a standard `*ForSequenceClassification` folder.

`python -m server.engines.prm_convert SOURCE TARGET` reads a causal language model with a `value_head.bin` beside it and
writes what every engine here serves unchanged: tanh of the new model's raw score is the published score.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path as FilePath

import transformers
from safetensors.torch import load_file, save_file

from server.engines.errors import CheckpointError
from server.engines.model_folder import VALUE_HEAD_FILE, ModelFolder
from server.engines.prm.heads import PUBLISHED_SCALE, ValueHead, read_value_head
from server.engines.self_check import write_self_check

_MAX_BIAS = 1e-3
"""Scores move by less than this times the slope of tanh. The pairwise loss gives the bias no gradient at all: it keeps
the millionth that it starts with, and the standard head has none."""
_INDEX = "model.safetensors.index.json"


def convert_value_head(
    source: FilePath, target: FilePath, *, scale: float = PUBLISHED_SCALE, with_self_check: bool = True
) -> None:
    """Write `target`, which must not exist. Raises `CheckpointError` where the conversion would not be exact.

    The note of the self-check wants the whole model in memory, in float32.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists already; name a folder that does not")
    head = read_value_head(source, scale=scale)
    if abs(head.bias / scale) > _MAX_BIAS:
        raise CheckpointError(
            f"{source / VALUE_HEAD_FILE} has a bias of {head.bias:g}, for which a standard checkpoint has no place; "
            "serve the folder as it is (engine torch)"
        )
    config = _config(source)
    target.mkdir(parents=True)
    _copy_rest(source, target)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _write_weights(source, target, head)
    if with_self_check:
        write_self_check(target)


def _config(source: FilePath) -> dict[str, object]:
    config = dict(ModelFolder(source).config)
    causal = [name for name in config.get("architectures") or [] if str(name).endswith("ForCausalLM")]  # pyright: ignore[reportGeneralTypeIssues] # JSON
    if not causal:
        raise CheckpointError(f"{source}: expected a *ForCausalLM model, found {config.get('architectures')}")
    architecture = f"{str(causal[0]).removesuffix('ForCausalLM')}ForSequenceClassification"
    if not hasattr(transformers, architecture):
        raise CheckpointError(f"{source}: transformers has no {architecture}; serve the folder as it is (engine torch)")
    config.pop("auto_map", None)  # code of another class
    end = config.get("eos_token_id")
    return config | {
        "architectures": [architecture],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        # transformers wants to know it for batches, where it looks for the last token that is none.
        "pad_token_id": config.get("pad_token_id", end[0] if isinstance(end, list) else end),
    }


def _copy_rest(source: FilePath, target: FilePath) -> None:
    """The tokenizer and what else lies there, weights and configuration apart."""
    for file in source.iterdir():
        is_weights = file.suffix in {".safetensors", ".bin"} or file.name.endswith(".index.json")
        if file.is_file() and not is_weights and file.name not in {"config.json", "generation_config.json"}:
            shutil.copy2(file, target / file.name)


def _write_weights(source: FilePath, target: FilePath, head: ValueHead) -> None:
    """File by file, since a large model does not fit memory twice; the head comes last, in float32."""
    files = ModelFolder(source).weight_files
    score = {"score.weight": (head.weight_1_H.float() / head.scale).contiguous()}
    places: dict[str, str] = {}
    size = 0
    for number, tensors in enumerate(chain(map(load_file, files), [score]), 1):
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("lm_head.")}
        file = f"model-{number:05}-of-{len(files) + 1:05}.safetensors"
        save_file(kept, target / file, metadata={"format": "pt"})
        places |= dict.fromkeys(kept, file)
        size += sum(tensor.nbytes for tensor in kept.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n")


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m server.engines.prm_convert", description=__doc__)
    parser.add_argument("source", type=FilePath, help="folder of a causal model with value_head.bin")
    parser.add_argument("target", type=FilePath, help="folder to write")
    parser.add_argument("--scale", type=float, default=PUBLISHED_SCALE, help="the score is tanh(value / SCALE)")
    parser.add_argument("--without-self-check", action="store_true", help="for models too large for memory in float32")
    options = parser.parse_args(arguments)
    try:
        convert_value_head(
            options.source, options.target, scale=options.scale, with_self_check=not options.without_self_check
        )
    except CheckpointError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
