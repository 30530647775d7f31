"""A run folder with made-up records, as `evolve` leaves it: rounds that get better, and a PPM that helps."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.training.evaluation.attempting import an_attempt
from training.evaluation.attempts import Attempt, attempts_record, budgets
from training.evaluation.solutions import Method
from training.examples.labels import Outcomes, outcomes_record
from training.problems.problem import Problem, write_problems
from training.recipe import Label
from training.records import appending, write_json, write_records

GROUPS = ("sums", "products")
ROUNDS = (1, 2)


def write_run(run: Path, *, problems: int = 60, trajectories: int = 8) -> None:
    """All records of two rounds, of which both were promoted."""
    rng = random.Random(4)
    ids = [f"{GROUPS[number % 2]}/{number}" for number in range(problems)]
    write_problems(
        run / "problems" / "train.jsonl",
        [
            Problem(id=one, group=one.partition("/")[0], question=one, answer="7", source="made.json")
            for one in (f"{problem}-train" for problem in ids)
        ],
    )
    for number in ROUNDS:
        write_labels(run, number, ids)
        decision = {"over_round": number - 1, "candidate": 0.7 + number / 10, "incumbent": 0.6 + number / 10}
        write_json(run / f"round-{number}" / "promotion.json", {**decision, "problems": problems, "is_promoted": True})
    write_json(run / "manifest.json", {"problems": {"seconds": 2.0}, "round-1/policy": {"seconds": 3600.0}})
    write_json(
        run / "run.json", {"recipe": {"name": "made", "seed": 5}, "libraries": {"torch": "2.13.0"}, "changes": []}
    )
    every = (Method.GREEDY, Method.MAJORITY, Method.BEST_OF_N, Method.MCTS)
    for number in (0, *ROUNDS):
        methods = every if number == ROUNDS[-1] else (Method.GREEDY, Method.MCTS)
        write_measured(run, f"round-{number}", ids, number, methods, rng=rng, trajectories=trajectories)
        for other in (0, *ROUNDS):
            name = f"policy-{number}-ppm-{other}"
            write_measured(run, name, ids[::2], number, (Method.MCTS,), rng=rng, trajectories=4, ppm_round=other)
        for split in ("validation", "harder"):
            name = f"{split}-{number}"
            methods = (Method.GREEDY, Method.MCTS)
            write_measured(run, name, ids, number, methods, rng=rng, trajectories=trajectories, split=split)
    for kind in ("pqm", "orm"):
        write_measured(run, kind, ids, 2, (Method.BEST_OF_N,), rng=rng, trajectories=trajectories, kind=kind)


def write_labels(run: Path, number: int, ids: Sequence[str]) -> None:
    """Round N solves every problem but each so manieth; the first trajectories solve half as many."""
    found = [
        Outcomes(
            problem_id=f"{problem}-train",
            label=Label.EXACT,
            trajectories=8 * number,
            right=0 if index % (2 * number) == 0 else 3 + 5 * (index % 3 == 0),
            right_of_first=int(index % 2),
        )
        for index, problem in enumerate(ids)
    ]
    write_records(run / f"round-{number}" / "labels.jsonl", map(outcomes_record, found))


def write_measured(
    run: Path,
    name: str,
    ids: Sequence[str],
    policy_round: int,
    methods: Sequence[Method],
    *,
    rng: random.Random,
    trajectories: int,
    split: str = "test",
    ppm_round: int | None = None,
    kind: str = "ppm",
) -> None:
    """A measurement whose shares grow with the rounds."""
    folder = run / "evaluation" / name
    folder.mkdir(parents=True)
    ppm_round = policy_round if ppm_round is None else ppm_round
    about = {"policy_round": policy_round, "ppm_round": ppm_round, "ppm_kind": kind}
    write_json(folder / "about.json", {**about, "split": split, "trajectories": trajectories})
    with appending(folder / "part-0.jsonl") as append:
        for problem in ids:
            skill = 0.35 + 0.1 * policy_round + 0.05 * ppm_round
            attempts = [_attempt(problem, method, skill, trajectories, rng=rng) for method in methods]
            append({"key": problem, "result": attempts_record(problem, problem.partition("/")[0], attempts)})


def _attempt(problem: str, method: Method, skill: float, trajectories: int, *, rng: random.Random) -> Attempt:
    helped = skill + {Method.GREEDY: 0.0, Method.MCTS: 0.25}.get(method, 0.1)
    is_right = rng.uniform(0, 1) < helped
    confidence = min(0.95, max(0.05, rng.gauss(0.6 if is_right else 0.4, 0.2)))
    count = 1 if method is Method.GREEDY else trajectories
    paths = tuple(
        (right, tuple(max(-1.0, min(1.0, rng.gauss(0.4 if right else -0.4, 0.5))) for _ in range(3)))
        for right in (is_right, not is_right)
    )
    right_from = rng.choice(budgets(count)) if is_right else None
    attempt = an_attempt(
        problem, method, right_from=right_from, confidence=confidence, budgets=budgets(count), tokens=100 * count
    )
    return replace(attempt, paths=paths if method is Method.MCTS else ())
