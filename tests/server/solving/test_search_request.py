"""Search request: the fields that the id of its tree depends on."""

from dataclasses import replace

from search import Budget, Calibration
from server.engines.protocols import Sampling
from server.parts.serving import ModelIds
from tests.server.serving import a_request

MODELS = ModelIds(policy="p@1", ppm="q@1")
REQUEST = a_request("1+1")


def test_the_tree_id_does_not_depend_on_budget_or_confidence() -> None:
    config = replace(REQUEST.config, stop_when_decided=False, stop_at_confidence=0.5)
    others = [
        replace(REQUEST, budget=Budget(trajectories=99, tokens=500)),
        replace(REQUEST, timeout_s=9.0),
        replace(REQUEST, config=config),
        replace(REQUEST, config=REQUEST.config.calibrated(Calibration(scale=2.0, budget_slope=0.0, offset=0.0))),
        replace(REQUEST, returns_tree=True),
        replace(REQUEST, endpoint="/elsewhere"),
    ]
    assert {one.tree_id(MODELS) for one in others} == {REQUEST.tree_id(MODELS)}


def test_the_tree_id_depends_on_all_that_shapes_the_tree() -> None:
    ids = [
        REQUEST.tree_id(MODELS),
        replace(REQUEST, problem="1+2").tree_id(MODELS),
        replace(REQUEST, seed=1).tree_id(MODELS),
        replace(REQUEST, sampling=Sampling(temperature=0.5)).tree_id(MODELS),
        replace(REQUEST, sampling=Sampling(top_p=0.5)).tree_id(MODELS),
        replace(REQUEST, config=replace(REQUEST.config, candidates=2)).tree_id(MODELS),
        REQUEST.tree_id(ModelIds(policy="p@2", ppm="q@1")),
        REQUEST.tree_id(ModelIds(policy="p@1", ppm="q@2")),
    ]
    assert len(set(ids)) == len(ids)
