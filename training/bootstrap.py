"""Bootstrap: from nothing to a served policy and PPM, in stages on disk that a second run does not repeat.

    demonstrations/   the teacher's solutions of training problems, a file a family
    tokenizer.json    learnt from them
    policy/           the base policy (and sft/, its training checkpoint)
    rollouts/         searched trees of problems drawn from other seeds than the demonstrations, a file a family
    pairs.jsonl       preference pairs read off the trees
    ppm/              the first PPM
    config.json       the settings
    manifest.json     how all this was made: settings, versions, counts

Each stage is skipped where its result exists, and goes on where it stopped where a part of it does. To build a stage
again, remove its result and all that follow. A folder holds the results of one set of settings; others are refused.
"""

import asyncio
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from search.format import prompt_segments
from server.engines.rendering import END_OF_TEXT, PathTokens, StepTokenizer
from server.engines.self_check import write_self_check
from server.engines.torch.checkpoint import load_policy
from server.engines.torch.matrices import Precision
from training import rollouts, sft
from training.bootstrap_config import BootstrapConfig
from training.policy_model import new_policy, save_for_serving
from training.ppm import accuracy, new_ppm, train_ppm
from training.ppm_data import encode_pairs, read_pairs, split_by_problem, write_pairs
from training.preferences import pairs
from training.problems import Family, Split
from training.sft_data import answer_text, encode
from training.teacher.demonstrate import demonstrations, unseen
from training.tokenizer import save_tokenizer, train_tokenizer
from training.trajectories import read_trajectories, write_trajectories
from training.workbench import Sampling, open_workbench
from training.worker_pool import worker_pool

logger = logging.getLogger(__name__)


class NothingToLearnFrom(Exception):
    """A stage left the next one nothing to train on."""


def bootstrap(folder: Path, config: BootstrapConfig) -> None:
    """Run every stage that is still missing. Raises ValueError where the folder was begun with other settings."""
    _claim(folder, config)
    _demonstrate(folder, config)
    _learn_tokenizer(folder, config)
    _train_policy(folder, config)
    _roll_out(folder, config)
    _choose_pairs(folder, config)
    _train_ppm(folder, config)
    _write_manifest(folder, config)


def _claim(folder: Path, config: BootstrapConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    settings = json.dumps(asdict(config), indent=2)
    if file.exists() and json.loads(file.read_text()) != json.loads(settings):
        raise ValueError(f"{folder} was begun with other settings ({file}); name another folder, or use those again")
    file.write_text(settings + "\n")


def _demonstrate(folder: Path, config: BootstrapConfig) -> None:
    missing = [name for name in config.families if not _demonstrations(folder, name).exists()]
    _for_each(missing, partial(_demonstrate_family, folder=folder, config=config), config)


def _demonstrate_family(name: str, *, folder: Path, config: BootstrapConfig) -> None:
    count = config.demonstrations_of.get(name, config.demonstrations)
    write_trajectories(_demonstrations(folder, name), demonstrations(Family(name), count, seed=config.seed))


def _learn_tokenizer(folder: Path, config: BootstrapConfig) -> None:
    file = folder / "tokenizer.json"
    if not file.exists():
        logger.info("tokenizer: %d tokens", config.shape.vocabulary)
        train_tokenizer(_tokenizer_texts(folder, config), vocabulary=config.shape.vocabulary).save(str(file))


def _tokenizer_texts(folder: Path, config: BootstrapConfig) -> Iterator[str]:
    for name in config.families:
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
        for name in config.families
        for trajectory in read_trajectories(_demonstrations(folder, name))
    ]
    logger.info("policy: %d demonstrations, %d tokens", len(examples), config.sft.total_tokens)
    pad_id = tokenizer.special_ids[END_OF_TEXT]
    model = new_policy(config.shape, seed=config.seed, end_of_text=pad_id)
    sft.train(model, examples, config.sft, folder=folder / "sft", pad_id=pad_id)
    with _WholeFolder(target) as partial_folder:
        save_for_serving(model, partial_folder)
        save_tokenizer(folder / "tokenizer.json", partial_folder, max_length=config.shape.context)


def _roll_out(folder: Path, config: BootstrapConfig) -> None:
    missing = [name for name in config.families if not _rolled_out(folder, name).exists()]
    _for_each(missing, partial(_roll_out_family, folder=folder, config=config), config)


def _roll_out_family(name: str, *, folder: Path, config: BootstrapConfig) -> None:
    asyncio.run(_search_family(name, folder, config))
    _rolled_out(folder, name).touch()


async def _search_family(name: str, folder: Path, config: BootstrapConfig) -> None:
    family = Family(name)
    file = folder / "rollouts" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    problems = unseen(family, Split.SEARCH, config.searched_problems)
    sampling = Sampling(precision=Precision.BFLOAT16)
    async with open_workbench(folder / "policy", None, sampling=sampling) as workbench:
        await rollouts.make_rollouts(family, problems, config.rollouts, workbench=workbench, file=file)


def _choose_pairs(folder: Path, config: BootstrapConfig) -> None:
    file = folder / "pairs.jsonl"
    if not file.exists():
        trees = (
            tree
            for name in config.families
            for _, tree in rollouts.read_rollouts(folder / "rollouts" / f"{name}.jsonl")
        )
        chosen = [pair for tree in trees for pair in pairs(tree, config.pairs)]
        if not chosen:
            raise NothingToLearnFrom(
                "the rollouts hold no pair of a right and a wrong step; train the policy longer or search more problems"
            )
        write_pairs(file, chosen)
        logger.info("pairs: %d", len(chosen))


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
    with _WholeFolder(target) as partial_folder:
        save_for_serving(model, partial_folder)
        save_tokenizer(folder / "tokenizer.json", partial_folder, max_length=config.shape.context)
        write_self_check(partial_folder)


def _write_manifest(folder: Path, config: BootstrapConfig) -> None:
    packages = ("torch", "transformers", "tokenizers", "reasoning-gym")
    manifest = {
        "config": asdict(config),
        "versions": {package: version(package) for package in packages},
        "demonstrations": {
            name: sum(1 for _ in read_trajectories(_demonstrations(folder, name))) for name in config.families
        },
        "ppm": json.loads((folder / "ppm.json").read_text()),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


class _WholeFolder:
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


def _for_each(families: Sequence[str], work: Callable[[str], None], config: BootstrapConfig) -> None:
    """Do `work` for every family, each in a process of its own, and report each that is done."""
    with worker_pool(config.processes) as pool:
        for name, _ in zip(families, pool.map(work, families), strict=True):
            logger.info("%s: done", name)


def _demonstrations(folder: Path, name: str) -> Path:
    return folder / "demonstrations" / f"{name}.jsonl"


def _rolled_out(folder: Path, name: str) -> Path:
    return folder / "rollouts" / f"{name}.done"
