"""Measurements: which models of a run are measured on which problems, by which methods.

evaluation/calibration/       validation problems: what the confidence is fitted on
evaluation/round-N/           test problems: greedy of every round, MCTS of the first, all methods of the best models
evaluation/pqm/, orm/         best of n with the reward models that the PPM is compared with, at equal tokens
evaluation/policy-N-ppm-M/    some of the test problems: every policy with every PPM
evaluation/NAME-round-N/      a further test set, with the first and the best models
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.evaluation.measure import Measurement, Models, measure
from training.evaluation.solutions import Method
from training.problems.problem import Problem, read_problems
from training.recipe import Recipe
from training.run_folder import RunFolder

_COMPARED = (Method.MCTS, Method.MAJORITY, Method.BEST_OF_N, Method.GREEDY)
"""What the best models are measured by; without a PPM, by the methods that need none."""


class Measurements:
    """Measures the models of a run, a stage a folder of results."""

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self._recipe = recipe
        self._run = run
        self._whole = Measurement(
            methods=(Method.MCTS,),
            trajectories=recipe.evaluation.trajectories,
            candidates=recipe.evaluation.candidates,
            seed=recipe.seed,
            search=recipe.search,
        )

    def validate(self, models: Models) -> Path:
        """How models do on the validation problems, at the budget that promotion is decided at; the results."""
        settings = replace(
            self._whole,
            methods=(_search(models),),
            trajectories=self._recipe.evaluation.validation_trajectories,
            split="validation",
        )
        return self._measure(f"validation-{models.policy_round}", "validation", models, settings)

    def calibrate(self, best: Models) -> Path:
        """What the confidence of the best models is fitted on."""
        return self._measure("calibration", "validation", best, replace(self._whole, split="validation"))

    def test(self, rounds: Sequence[Models], best: Models) -> None:
        """Greedy of every round on the test problems, search of the first, every method with the best models.

        The searches of the rounds in between are measured on the validation problems.
        """
        for models in rounds:
            settings = replace(self._whole, methods=(_search(models), Method.GREEDY))
            if models.policy_round == best.policy_round:
                compared = _COMPARED if models.ppm is not None else (*settings.methods, Method.MAJORITY)
                settings = replace(settings, methods=compared)
            elif models.policy_round != 0:
                settings = replace(settings, methods=(Method.GREEDY,))
            self._measure(f"round-{models.policy_round}", "test", models, settings)

    def test_further(self, first: Models, best: Models) -> None:
        """Greedy and search of the first and the best models on the further test sets."""
        budget = self._recipe.evaluation.further_trajectories
        for name in self._recipe.problems.further:
            for models in (first, best):
                methods = (_search(models), Method.GREEDY)
                settings = replace(self._whole, methods=methods, trajectories=budget, split=f"further/{name}")
                self._measure(f"{name}-round-{models.policy_round}", f"further/{name}", models, settings)

    def compare(self, best: Models, rival: Models) -> None:
        """Another reward model in the place of the PPM, at the tokens of the search with the PPM."""
        prices = self._folder(f"round-{best.policy_round}")
        settings = replace(self._whole, methods=(Method.BEST_OF_N,), tokens_of=prices)
        self._measure(rival.ppm_kind, "test", rival, settings, at_most=self._recipe.evaluation.rival_problems)

    def cross(self, rounds: Sequence[Models]) -> None:
        """Every policy with every PPM, on some of the test problems."""
        settings = replace(self._whole, trajectories=self._recipe.evaluation.matrix_trajectories)
        for models in rounds:
            for other in rounds:
                if other.ppm is not None:
                    pair = replace(models, ppm=other.ppm, ppm_round=other.ppm_round)
                    name = f"policy-{pair.policy_round}-ppm-{pair.ppm_round}"
                    self._measure(name, "test", pair, settings, at_most=self._recipe.evaluation.matrix_problems)

    def _measure(
        self, name: str, problems: str, models: Models, settings: Measurement, *, at_most: int | None = None
    ) -> Path:
        file, folder = self._run.path / "problems" / f"{problems}.jsonl", self._folder(name)
        self._run.stage(
            f"evaluation/{name}",
            inputs=[file, *model_folders(models)],
            outputs=[folder],
            make=lambda: measure(
                _spread(read_problems(file), at_most),
                models,
                settings,
                folder=folder,
                engine=self._recipe.engine,
                label=name,
            ),
        )
        return folder

    def _folder(self, name: str) -> Path:
        return self._run.path / "evaluation" / name


def model_folders(models: Models) -> list[Path]:
    """The policy's folder, and the PPM's where there is one."""
    return [models.policy] if models.ppm is None else [models.policy, models.ppm]


def _search(models: Models) -> Method:
    """Without a PPM, the same search knows nothing of the steps."""
    return Method.MCTS_CONSTANT if models.ppm is None else Method.MCTS


def _spread(problems: Sequence[Problem], at_most: int | None) -> Sequence[Problem]:
    """At most so many problems, evenly spread over all: files hold one family after the other."""
    if at_most is None or at_most >= len(problems):
        return problems
    return [problems[index * len(problems) // at_most] for index in range(at_most)]
