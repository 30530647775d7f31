"""Fingerprint: what it covers, and what it leaves out."""

import hashlib
from dataclasses import fields, replace

import pytest

from search import Calibration, SearchConfig, Selection, Strategy, TreePolicy, Values
from search.format import FORMAT_VERSION, output_segments, prompt_segments
from server.engines.protocols import Sampling
from server.trees.entries import TreeShape, environment, normalised

SHAPE = TreeShape(
    problem="1 + 2",
    config=SearchConfig(),
    sampling=Sampling(),
    seed=0,
    policy="p@1",
    ppm="q@1",
    environment={"server": "1"},
)
_OTHER_CONFIGS = {
    "strategy": Strategy.MAJORITY,
    "candidates": 3,
    "max_depth": 3,
    "exploration": 1.0,
    "tree_policy": TreePolicy.PUCT,
    "parallel_rollouts": 2,
    "beam_width": 3,
    "values": Values.TERMINAL_GUIDED,
}
_SAME_TREES = {
    "selection": Selection.BEST,
    "top_k": 3,
    "stop_when_decided": True,
    "stop_at_confidence": 0.5,
    "calibration": Calibration(scale=2.0, budget_slope=0.0, offset=0.0),
}


def test_every_setting_of_a_search_is_either_covered_or_left_out() -> None:
    assert {field.name for field in fields(SearchConfig)} == {*_OTHER_CONFIGS, *_SAME_TREES}


@pytest.mark.parametrize("name", _OTHER_CONFIGS)
def test_a_setting_that_shapes_the_tree_changes_the_key(name: str) -> None:
    config = replace(SHAPE.config, **{name: _OTHER_CONFIGS[name]})
    assert replace(SHAPE, config=config).fingerprint != SHAPE.fingerprint


@pytest.mark.parametrize("name", _SAME_TREES)
def test_a_setting_that_only_reads_the_tree_leaves_the_key(name: str) -> None:
    config = replace(SHAPE.config, **{name: _SAME_TREES[name]})
    assert replace(SHAPE, config=config).fingerprint == SHAPE.fingerprint


def test_all_else_that_shapes_the_tree_changes_the_key() -> None:
    shapes = [
        SHAPE,
        replace(SHAPE, problem="1 + 3"),
        replace(SHAPE, sampling=Sampling(temperature=0.5)),
        replace(SHAPE, sampling=Sampling(top_p=0.5)),
        replace(SHAPE, sampling=Sampling(max_step_tokens=10)),
        replace(SHAPE, seed=1),
        replace(SHAPE, policy="p@2"),
        replace(SHAPE, ppm="q@2"),
        replace(SHAPE, policy="q@1", ppm="p@1"),
        replace(SHAPE, environment={"server": "2"}),
        replace(SHAPE, environment={"server": "1", "torch": "2"}),
    ]
    keys = {shape.fingerprint for shape in shapes}
    assert len(keys) == len(shapes)
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)


@pytest.mark.parametrize("problem", [" 1 + 2", "1\n+\t2", "1 +  2\r\n", "1\u00a0+ 2"])
def test_white_space_does_not_change_the_key(problem: str) -> None:
    assert replace(SHAPE, problem=problem).fingerprint == SHAPE.fingerprint


def test_letters_are_composed_but_never_replaced_by_others() -> None:
    assert normalised("e\u0301") == "\u00e9"
    assert normalised("x\u00b2") == "x\u00b2"
    assert normalised("\ufb01x") == "\ufb01x"


def test_the_environment_names_the_versions_that_run() -> None:
    found = environment()
    assert {"python", "server", "format", "torch", "sympy"} <= set(found)
    assert all(found.values())


def test_another_rendering_of_paths_needs_another_format_version() -> None:
    segments = (*prompt_segments("a problem"), *output_segments("an output"))
    text = "".join(f"{segment.is_trusted}{segment.text}" for segment in segments)
    known = {1: "38df"}
    assert hashlib.sha256(text.encode()).hexdigest()[:4] == known[FORMAT_VERSION]
