"""Evolution: rounds of self-evolution by a recipe (rStar-Math, section 3.4), stage by stage in a run folder.

    problems -> bootstrap policy
    each round: rollouts -> labels -> solutions -> policy -> pairs -> PPM -> validation -> promotion
    then: reward models to compare with -> calibration -> test -> report

A round searches with the best models so far, and trains new ones on what it found: the policy from the base, the PPM
from that policy. They replace those before them unless they solve fewer validation problems than any before. The run
can be killed at any time; the same command goes on from the last finished item.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from search import Values
from training.bootstrap import make_start
from training.evaluation.measure import Models, read_measured
from training.examples.preferences import read_pair
from training.examples.values import read_value
from training.measurements import Measurements, model_folders
from training.models.policy import train_policy
from training.models.reward import train_orm, train_ppm, train_pqm
from training.perturbing import Perturb
from training.problems.agreement import Solve, agree
from training.problems.collect import collect
from training.problems.problem import Problem, read_problems, write_problems
from training.promotion import decide, strongest_of
from training.recipe import Label, Recipe, Round, Training
from training.records import read_records, read_trajectories, write_json
from training.release import write_final
from training.report.report import write_report
from training.rollouts import RollOut, roll_out, seed_of, training_seed
from training.round_files import RoundFiles, write_labels, write_pairs, write_solutions, write_values
from training.run_folder import RunFolder, open_run
from training.workers import run_work

logger = logging.getLogger(__name__)


def evolve(recipe: Recipe, path: Path, *, models: Path | None = None, accept_changes: bool = False) -> None:
    """Run the recipe in the folder `path`, or go on with it.

    `models` is a folder of models to begin with, see `make_start`. Raises what `open_run`, `RunFolder.stage` and the
    stages raise.
    """
    with open_run(path, recipe, accept_changes=accept_changes) as run:
        Evolution(recipe, run).run_all(models)


Example = TypeVar("Example")
Example_contra = TypeVar("Example_contra", contravariant=True)


class _TrainReward(Protocol[Example_contra]):
    """How a kind of reward model is trained; see `training.models.reward`."""

    def __call__(  # what a training is made of
        self,
        policy: Path,
        examples: Iterable[Example_contra],
        settings: Training,
        /,
        *,
        work: Path,
        out: Path,
        seed: int,
    ) -> object: ...


class Evolution:
    """One run of a recipe."""

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self._recipe = recipe
        self._run = run
        self._measurements = Measurements(recipe, run)
        self._train_file = run.path / "problems" / "train.jsonl"

    def run_all(self, models: Path | None) -> None:
        """Do every stage that is not finished."""
        problems = self._run.path / "problems"
        self._run.stage("problems", outputs=[problems], make=lambda: collect(self._recipe.problems, problems))
        start = make_start(self._recipe, self._run, models)
        self._agree(start.models)
        made, promoted = [start.models], [start.models]
        for number, settings in enumerate(self._recipe.rounds, start=1):
            made.append(self._round(RoundFiles(self._run.path, number), settings, promoted[-1], base=start.base))
            if self.is_promoted(made[-1], promoted):
                promoted.append(made[-1])
        self._measure(made, promoted[-1])
        path = self._run.path
        self._run.stage(
            "report",
            inputs=[path / "evaluation"],
            outputs=[path / "report.md", path / "report.json"],
            make=lambda: write_report(path),
        )

    def _agree(self, models: Models) -> None:
        """Give synthetic problems the label that solutions of the first policy agree on, or leave them out."""
        problems = read_problems(self._train_file)
        if all(problem.label is Label.EXACT for problem in problems):
            return
        folder = self._run.path / "agreement"
        work = Solve(
            policy=models.policy,
            settings=self._recipe.problems.agreement,
            search=self._recipe.search,
            engine=self._recipe.engine,
            seed=self._recipe.seed,
        )
        self._run.stage(
            "agreement",
            inputs=[self._train_file, models.policy],
            outputs=[folder / "train.jsonl"],
            make=lambda: write_problems(folder / "train.jsonl", agree(work, problems, folder / "solutions").problems),
        )
        self._train_file = folder / "train.jsonl"

    @cached_property
    def _train(self) -> list[Problem]:
        return read_problems(self._train_file)

    def _round(self, files: RoundFiles, settings: Round, best: Models, *, base: Path) -> Models:
        self._roll_out(files, settings, best)
        self._run.stage(
            f"{files.name}/labels",
            inputs=[self._train_file, files["trees"]],
            outputs=[files["labels.jsonl"]],
            make=lambda: write_labels(self._train, files),
        )
        self._learn_policy(files, base)
        self._learn_ppm(files)
        return Models(policy=files["policy"], ppm=files["ppm"], policy_round=files.number, ppm_round=files.number)

    def _roll_out(self, files: RoundFiles, settings: Round, best: Models) -> None:
        if best.ppm is None and settings.values is Values.PPM:
            logger.warning("%s: no PPM was promoted yet, so its rollouts are terminal-guided", files.name)
            settings = settings.model_copy(update={"values": Values.TERMINAL_GUIDED})
        work = RollOut(
            policy=best.policy,
            ppm=best.ppm,
            settings=settings,
            search=self._recipe.search,
            engine=self._recipe.engine,
            seed=seed_of(self._recipe.seed, files.name),
        )
        self._run.stage(
            f"{files.name}/rollouts",
            inputs=[self._train_file, *model_folders(best)],
            outputs=[files["trees"]],
            make=lambda: roll_out(work, self._train, files["trees"]),
        )

    def _trusted(self, files: RoundFiles) -> list[Problem]:
        """The training problems that the models of the round learn from."""
        drop_doubtful = self._recipe.rounds[files.number - 1].drop_doubtful
        return files.trusted(self._train) if drop_doubtful else self._train

    def _learn_policy(self, files: RoundFiles, base: Path) -> None:
        earlier = [before["solutions.jsonl"] for before in files.earlier]
        demonstrations = self._run.path / "bootstrap" / "demonstrations.jsonl"
        self._run.stage(
            f"{files.name}/solutions",
            inputs=[files["trees"], files["labels.jsonl"], *earlier],
            outputs=[files["solutions.jsonl"]],
            make=lambda: write_solutions(
                self._trusted(files),
                files,
                demonstrations=demonstrations,
                settings=self._recipe.examples,
            ),
        )
        self._run.stage(
            f"{files.name}/policy",
            inputs=[files["solutions.jsonl"], base],
            outputs=[files["policy"]],
            make=lambda: train_policy(
                base,
                read_trajectories(files["solutions.jsonl"]),
                self._recipe.policy,
                work=files["policy.work"],
                out=files["policy"],
                seed=training_seed(self._recipe.seed, files.name, "policy"),
            ),
        )

    def _learn_ppm(self, files: RoundFiles) -> None:
        settings, changed = self._recipe.examples, files["perturbed"]
        solved = [problem_id for problem_id, found in files.read_labels().items() if found.right]
        if settings.perturbed and solved:
            self._run.stage(
                f"{files.name}/perturbed",
                inputs=[files["trees"]],
                outputs=[changed],
                make=lambda: run_work(
                    Perturb(
                        trees=files["trees"],
                        count=settings.perturbed,
                        seed=seed_of(self._recipe.seed, files.name, "perturbed"),
                    ),
                    {problem_id: problem_id for problem_id in solved},
                    changed,
                    processes=self._recipe.engine.processes,
                    concurrency=self._recipe.engine.concurrency,
                    label=f"{files.name} perturbed",
                ),
            )
        self._run.stage(
            f"{files.name}/pairs",
            inputs=[files["trees"], *([changed] if settings.perturbed else [])],
            outputs=[files["pairs.jsonl"]],
            make=lambda: write_pairs(self._trusted(files), files, settings),
        )
        used = [one["pairs.jsonl"] for one in files.learnt_from(settings)]
        self._train_reward_model(files, "ppm", used, read_pair, train_ppm)

    def _train_reward_model(
        self,
        files: RoundFiles,
        kind: str,
        examples: Sequence[Path],
        read: Callable[[Mapping[str, object]], Example],
        train: _TrainReward[Example],
    ) -> None:
        self._run.stage(
            f"{files.name}/{kind}",
            inputs=[*examples, files["policy"]],
            outputs=[files[kind]],
            make=lambda: train(
                files["policy"],
                self._read_trusted(files, examples, read),
                self._recipe.ppm,
                work=files[f"{kind}.work"],
                out=files[kind],
                seed=training_seed(self._recipe.seed, files.name, kind),
            ),
        )

    def _read_trusted(
        self, files: RoundFiles, examples: Sequence[Path], read: Callable[[Mapping[str, object]], Example]
    ) -> Iterator[Example]:
        """The examples, those of earlier rounds too, of the problems that the round learns from."""
        trusted = {problem.id for problem in self._trusted(files)}
        records = (record for file in examples for record in read_records(file))
        return (read(record) for record in records if record["problem_id"] in trusted)

    def is_promoted(self, candidate: Models, promoted: Sequence[Models]) -> bool:
        """Decide by the validation problems whether the models follow those promoted so far, and write it down."""
        folders = [self._measurements.validate(models) for models in (candidate, *promoted)]
        theirs, *before = map(_solved, folders)
        strongest = strongest_of(before)
        decision = decide(theirs, before[strongest], tolerance=self._recipe.evaluation.tolerance)
        files = self._files(candidate)
        file = files["promotion.json"]
        self._run.stage(
            f"{files.name}/promotion",
            inputs=folders,
            outputs=[file],
            make=lambda: write_json(file, {"over_round": promoted[strongest].policy_round, **asdict(decision)}),
        )
        return decision.is_promoted

    def _files(self, models: Models) -> RoundFiles:
        """The files of the round that made the models."""
        assert models.policy_round
        return RoundFiles(self._run.path, models.policy_round)

    def _measure(self, made: Sequence[Models], best: Models) -> None:
        """Everything that the report tells but the rounds did not need."""
        if best.policy_round:
            validated = self._measurements.calibrate(best)
            final = self._run.path / "final"
            self._run.stage(
                "final",
                inputs=[validated, *model_folders(best)],
                outputs=[final],
                make=lambda: write_final(best, validated, final),
            )
        self._measurements.test(made, best)
        if best.policy_round:
            for rival in self._rivals(best):
                self._measurements.compare(best, rival)
        self._measurements.test_further(made[0], best)
        self._measurements.cross(made)

    def _rivals(self, best: Models) -> list[Models]:
        """Train the recipe's other reward models on the trees that the best PPM learnt from."""
        files = self._files(best)
        used = files.learnt_from(self._recipe.examples) if self._recipe.baselines else []
        for one in used:
            self._write_values(one)
        if "pqm" in self._recipe.baselines:
            steps = [one["steps.jsonl"] for one in used]
            self._train_reward_model(files, "pqm", steps, read_value, train_pqm)
        if "orm" in self._recipe.baselines:
            outcomes = [one["outcomes.jsonl"] for one in used]
            self._train_reward_model(files, "orm", outcomes, read_value, train_orm)
        return [replace(best, ppm=files[kind], ppm_kind=kind) for kind in self._recipe.baselines]

    def _write_values(self, files: RoundFiles) -> None:
        self._run.stage(
            f"{files.name}/values",
            inputs=[files["trees"], files["labels.jsonl"]],
            outputs=[files["steps.jsonl"], files["outcomes.jsonl"]],
            make=lambda: write_values(self._trusted(files), files),
        )


def _solved(folder: Path) -> dict[str, bool]:
    """Whether each validation problem was solved, by id, with the one method measured."""
    return {problem: next(iter(attempts.values())).is_right for problem, attempts in read_measured(folder).items()}
