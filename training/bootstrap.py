"""Bootstrap: from nothing to a served policy and PPM, in stages on disk that a second run does not repeat.

    demonstrations/   the teacher's solutions of training problems, a file a family
    tokenizer.json    learnt from them
    policy/           the base policy (and sft/, its training checkpoint)
    rollouts/         searched trees of problems drawn from other seeds than the demonstrations, a file a family
    pairs.jsonl       preference pairs read off the trees
    ppm/              the first PPM
    config.json       the settings
    manifest.json     how all this was made: settings, versions, counts

Each stage is skipped where its result exists, and continues from a partial result. To build a stage again, remove its
result and all that follow. A folder holds the results of one set of settings; others are refused. `release` puts the
models of a finished folder in the place that the server ships them from.
"""

import asyncio
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

from search.format import prompt_segments
from server.engines import self_check
from server.engines.rendering import END_OF_TEXT, PathTokens, StepTokenizer
from server.engines.torch.checkpoint import load_policy
from training import rollouts
from training.examples.preferences import PairConfig, pairs
from training.models import sft
from training.models.policy_model import PolicyShape, new_policy, save_for_serving, save_tokenizer, train_tokenizer
from training.models.ppm import (
    PPMConfig,
    accuracy,
    encode_pairs,
    new_ppm,
    read_pairs,
    split_by_problem,
    train_ppm,
    write_pairs,
)
from training.models.sft import SFTConfig
from training.problems.families import FAMILIES, Family, Split
from training.recipe import Engine
from training.records import Trajectory, read_trajectories, write_trajectories
from training.rollouts import RolloutConfig
from training.searcher import open_searcher
from training.teacher.demonstrate import demonstrations, unseen
from training.workers import worker_pool

logger = logging.getLogger(__name__)

MAX_WEIGHTS_BYTES = 24_000_000
"""Of a released policy and PPM together: every release stays in the repository's history."""

_MODELS = ("policy", "ppm")
_MANIFEST = "manifest.json"


class NothingToLearnFrom(Exception):
    """A stage produced no training data for the next one."""


class NotReleasable(Exception):
    """The folder holds no finished set of models, or too large a one; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    """Settings of all stages. The bundled models were made with the defaults."""

    families: tuple[str, ...] = FAMILIES
    seed: int = 1
    processes: int = 2
    """Seed for sampling problems and for running steps."""
    demonstrations: int = 9_000
    """Training problems per family."""
    demonstrations_of: dict[str, int] = field(
        default_factory=lambda: {
            "gsm_symbolic": 24_000,
            "leg_counting": 12_000,
            "polynomial_equations": 6_000,
            "simple_integration": 7_000,
        }
    )
    """Families with another number: gsm_symbolic has 85 stories; the two sympy families are slow to draw."""
    shape: PolicyShape = field(default_factory=PolicyShape)
    sft: SFTConfig = field(default_factory=SFTConfig)
    searched_problems: int = 200
    """Per family, for the PPM."""
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    pairs: PairConfig = field(default_factory=PairConfig)
    held_out_pairs: float = 0.1
    """Share of the problems whose pairs only measure the PPM."""
    ppm: PPMConfig = field(default_factory=PPMConfig)


def bootstrap(folder: Path, config: BootstrapConfig) -> None:
    """Run every stage that is still missing. Raises ValueError where the folder was begun with other settings."""
    _claim(folder, config)
    _in_families(_demonstrate, _demonstrations, folder, config)
    _learn_tokenizer(folder, config)
    _train_policy(folder, config)
    _in_families(_roll_out, _rolled_out, folder, config)
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


def _in_families(
    work: Callable[..., None], result_of: Callable[[Path, str], Path], folder: Path, config: BootstrapConfig
) -> None:
    """Do `work` for every family whose result is missing, each in a process of its own."""
    missing = [name for name in config.families if not result_of(folder, name).exists()]
    with worker_pool(config.processes) as pool:
        for name, _ in zip(missing, pool.map(partial(work, folder=folder, config=config), missing), strict=True):
            logger.info("%s: done", name)


def _demonstrations(folder: Path, name: str) -> Path:
    return folder / "demonstrations" / f"{name}.jsonl"


def _demonstrate(name: str, *, folder: Path, config: BootstrapConfig) -> None:
    count = config.demonstrations_of.get(name, config.demonstrations)
    write_trajectories(_demonstrations(folder, name), demonstrations(Family(name), count, seed=config.seed))


def _demonstrated(folder: Path, config: BootstrapConfig) -> Iterator[tuple[str, Iterator[Trajectory]]]:
    """The demonstrations by family."""
    return ((name, read_trajectories(_demonstrations(folder, name))) for name in config.families)


def _learn_tokenizer(folder: Path, config: BootstrapConfig) -> None:
    file = folder / "tokenizer.json"
    if not file.exists():
        logger.info("tokenizer: %d tokens", config.shape.vocabulary)
        train_tokenizer(_tokenizer_texts(folder, config), vocabulary=config.shape.vocabulary).save(str(file))


def _tokenizer_texts(folder: Path, config: BootstrapConfig) -> Iterator[str]:
    for name, trajectories in _demonstrated(folder, config):
        # gsm_symbolic has the words, the others have the forms: three times as many of it.
        for trajectory in itertools.islice(trajectories, 7500 if name == "gsm_symbolic" else 2500):
            yield from (segment.text for segment in prompt_segments(trajectory.question))
            yield from trajectory.steps
            yield sft.answer_text(trajectory.answer)


def _train_policy(folder: Path, config: BootstrapConfig) -> None:
    target = folder / "policy"
    if target.exists():
        return
    tokenizer = StepTokenizer(folder / "tokenizer.json")
    examples = [
        sft.encode(trajectory, tokenizer)
        for _, trajectories in _demonstrated(folder, config)
        for trajectory in trajectories
    ]
    logger.info("policy: %d demonstrations, %d tokens", len(examples), config.sft.total_tokens)
    pad_id = tokenizer.special_ids[END_OF_TEXT]
    model = new_policy(config.shape, seed=config.seed, end_of_text=pad_id)
    sft.train(model, examples, config.sft, folder=folder / "sft", pad_id=pad_id)
    with _whole_folder(target) as partial_folder:
        save_for_serving(model, partial_folder)
        save_tokenizer(folder / "tokenizer.json", partial_folder, max_length=config.shape.context)


def _rolled_out(folder: Path, name: str) -> Path:
    """Exists once all problems of the family have been searched."""
    return folder / "rollouts" / f"{name}.done"


def _trees(folder: Path, name: str) -> Path:
    return folder / "rollouts" / f"{name}.jsonl"


def _roll_out(name: str, *, folder: Path, config: BootstrapConfig) -> None:
    asyncio.run(_search_family(name, folder, config))
    _rolled_out(folder, name).touch()


async def _search_family(name: str, folder: Path, config: BootstrapConfig) -> None:
    family, file = Family(name), _trees(folder, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    problems = unseen(family, Split.SEARCH, config.searched_problems)
    async with open_searcher(folder / "policy", None, engine=Engine()) as searcher:
        await rollouts.make_rollouts(family, problems, config.rollouts, searcher=searcher, file=file)


def _choose_pairs(folder: Path, config: BootstrapConfig) -> None:
    file = folder / "pairs.jsonl"
    if not file.exists():
        trees = (tree for name in config.families for _, tree in rollouts.read_rollouts(_trees(folder, name)))
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
    with _whole_folder(target) as partial_folder:
        save_for_serving(model, partial_folder)
        save_tokenizer(folder / "tokenizer.json", partial_folder, max_length=config.shape.context)
        self_check.write_self_check(partial_folder)


def _write_manifest(folder: Path, config: BootstrapConfig) -> None:
    packages = ("torch", "transformers", "tokenizers", "reasoning-gym")
    manifest = {
        "config": asdict(config),
        "versions": {package: version(package) for package in packages},
        "demonstrations": {name: sum(1 for _ in found) for name, found in _demonstrated(folder, config)},
        "ppm": json.loads((folder / "ppm.json").read_text()),
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


@contextmanager
def _whole_folder(target: Path) -> Generator[Path]:
    """A folder that appears under its name only once it is complete."""
    partial_folder = target.with_name(target.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    yield partial_folder
    partial_folder.rename(target)


def release(folder: Path, bundle: Path) -> None:
    """Replace the models and the manifest in `bundle` by those of `folder`. Raises `NotReleasable`.

    Copies whole folders and nothing else; the card beside them is written by hand, from an evaluation.
    """
    missing = [name for name in (*_MODELS, _MANIFEST, f"ppm/{self_check.FILE}") if not (folder / name).exists()]
    if missing:
        raise NotReleasable(f"{folder} has no {', no '.join(missing)}; let `python -m training bootstrap` finish it")
    size = sum(file.stat().st_size for name in _MODELS for file in (folder / name).glob("*.safetensors"))
    if size > MAX_WEIGHTS_BYTES:
        raise NotReleasable(f"the weights in {folder} have {size} bytes; at most {MAX_WEIGHTS_BYTES} are released")
    for name in _MODELS:
        shutil.rmtree(bundle / name, ignore_errors=True)
        shutil.copytree(folder / name, bundle / name)
    shutil.copyfile(folder / _MANIFEST, bundle / _MANIFEST)
