"""Bootstrap: from nothing to a served policy and PPM, in stages on disk that a second run does not repeat.

    demonstrations/   the teacher's solutions of training problems, a file a family
    tokenizer.json    learnt from them
    policy/           the base policy (and sft/, its training checkpoint)
    rollouts/         searched trees of problems that the policy has not seen, a file a family
    pairs.jsonl       preference pairs read off the trees
    ppm/              the first PPM
    manifest.json     how all this was made: settings, versions, counts

Each stage is skipped where its result exists and picks up where it stopped where a part of it does. Removing a stage's
result makes the next run build it, and what follows from it, again.
"""

import asyncio
import itertools
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from search.format import prompt_segments
from server.engines.checkpoint import load_policy
from server.engines.rendering import END_OF_TEXT, PathTokens, StepTokenizer
from training import rollouts, sft
from training.bootstrap_config import BootstrapConfig
from training.policy_model import new_policy, save_for_serving
from training.ppm import accuracy, new_ppm, train_ppm
from training.ppm_data import encode_pairs, read_pairs, split_by_problem, write_pairs
from training.preferences import pairs
from training.problems import FAMILIES, Family, Split
from training.sft_data import answer_text, encode
from training.teacher.demonstrate import demonstrations, unseen
from training.tokenizer import save_tokenizer, train_tokenizer
from training.trajectories import read_trajectories, write_trajectories
from training.workbench import Sampling, open_workbench

logger = logging.getLogger(__name__)


def bootstrap(folder: Path, config: BootstrapConfig) -> None:
    """Run every stage that is still missing."""
    _demonstrate(folder, config)
    _learn_tokenizer(folder, config)
    _train_policy(folder, config)
    asyncio.run(_roll_out(folder, config))
    _choose_pairs(folder, config)
    _train_ppm(folder, config)
    _write_manifest(folder, config)


def _demonstrate(folder: Path, config: BootstrapConfig) -> None:
    missing = [name for name in FAMILIES if not _demonstrations(folder, name).exists()]
    if not missing:
        return
    logger.info("demonstrations: %d families", len(missing))
    with ProcessPoolExecutor(config.processes, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(partial(_demonstrate_family, folder=folder, config=config), missing):
            pass


def _demonstrate_family(name: str, *, folder: Path, config: BootstrapConfig) -> None:
    count = config.demonstrations_of.get(name, config.demonstrations)
    write_trajectories(_demonstrations(folder, name), demonstrations(Family(name), count, seed=config.seed))


def _learn_tokenizer(folder: Path, config: BootstrapConfig) -> None:
    file = folder / "tokenizer.json"
    if not file.exists():
        logger.info("tokenizer: %d tokens", config.shape.vocabulary)
        train_tokenizer(_tokenizer_texts(folder), vocabulary=config.shape.vocabulary).save(str(file))


def _tokenizer_texts(folder: Path) -> Iterator[str]:
    for name in FAMILIES:
        # gsm_symbolic has the words, the others have the forms: three times as many of it.
        count = 7500 if name == "gsm_symbolic" else 2500
        for trajectory in itertools.islice(read_trajectories(_demonstrations(folder, name)), count):
            yield from (segment.text for segment in prompt_segments(trajectory.question))
            yield from trajectory.steps
            yield answer_text(trajectory.answer)


def _train_policy(folder: Path, config: BootstrapConfig) -> None:
    target = folder / "policy"
    if target.exists():
        return
    tokenizer = StepTokenizer(folder / "tokenizer.json")
    examples = [
        encode(trajectory, tokenizer)
        for name in FAMILIES
        for trajectory in read_trajectories(_demonstrations(folder, name))
    ]
    logger.info("policy: %d demonstrations, %d tokens", len(examples), config.sft.total_tokens)
    pad_id = tokenizer.special_ids[END_OF_TEXT]
    model = new_policy(config.shape, seed=config.seed, end_of_text=pad_id)
    sft.train(model, examples, config.sft, folder=folder / "sft", pad_id=pad_id)
    with _whole(target) as partial_folder:
        save_for_serving(model, partial_folder)
        save_tokenizer(folder / "tokenizer.json", partial_folder, max_length=config.shape.context)


async def _roll_out(folder: Path, config: BootstrapConfig) -> None:
    missing = [name for name in FAMILIES if not _rolled_out(folder, name).exists()]
    if not missing:
        return
    async with open_workbench(folder / "policy", None, sampling=Sampling(), processes=config.processes) as workbench:
        for name in missing:
            family = Family(name)
            file = folder / "rollouts" / f"{name}.jsonl"
            problems = unseen(family, Split.SEARCH, config.searched_problems)
            await rollouts.make_rollouts(family, problems, config.rollouts, workbench=workbench, file=file)
            _rolled_out(folder, name).touch()
            logger.info("rollouts: %s", name)


def _choose_pairs(folder: Path, config: BootstrapConfig) -> None:
    file = folder / "pairs.jsonl"
    if not file.exists():
        trees = (
            tree for name in FAMILIES for _, tree in rollouts.read_rollouts(folder / "rollouts" / f"{name}.jsonl")
        )
        count = write_pairs(file, (pair for tree in trees for pair in pairs(tree, config.pairs)))
        logger.info("pairs: %d", count)


def _train_ppm(folder: Path, config: BootstrapConfig) -> None:
    target = folder / "ppm"
    if target.exists():
        return
    tokens = PathTokens(load_policy(folder / "policy").tokenizer)
    encoded = list(encode_pairs(read_pairs(folder / "pairs.jsonl"), tokens, context=config.shape.context))
    training, validation = split_by_problem(encoded, held_out=config.held_out_pairs)
    logger.info("ppm: %d pairs, %d held out", len(training), len(validation))
    model = new_ppm(folder / "policy", seed=config.seed)
    train_ppm(model, training, config.ppm, log=folder / "ppm.log.jsonl")
    in_order = accuracy(model, validation)
    logger.info("ppm: %.3f of the held-out pairs in order", in_order)
    (folder / "ppm.json").write_text(json.dumps({"pairs": len(training), "held_out_accuracy": in_order}))
    with _whole(target) as partial_folder:
        save_for_serving(model, partial_folder)
        save_tokenizer(folder / "tokenizer.json", partial_folder, max_length=config.shape.context)


def _write_manifest(folder: Path, config: BootstrapConfig) -> None:
    packages = ("torch", "transformers", "tokenizers", "reasoning-gym")
    manifest = {
        "config": asdict(config),
        "versions": {package: version(package) for package in packages},
        "demonstrations": {
            name: sum(1 for _ in read_trajectories(_demonstrations(folder, name))) for name in FAMILIES
        },
        "ppm": json.loads((folder / "ppm.json").read_text()),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


class _whole:
    """A folder that appears under its name only once it is complete."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(target.name + ".partial")

    def __enter__(self) -> Path:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._partial.rename(self._target)


def _demonstrations(folder: Path, name: str) -> Path:
    return folder / "demonstrations" / f"{name}.jsonl"


def _rolled_out(folder: Path, name: str) -> Path:
    return folder / "rollouts" / f"{name}.done"
