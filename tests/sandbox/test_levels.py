"""Levels: decided by the self-test; with too low a level the sandbox does not start."""

import os
from pathlib import Path

import pytest

from sandbox import Level, Limits, Mechanism, Outcome, Protection, Sandbox, SandboxUnavailable
from sandbox.levels import assess, refusal, wanted_level

HOLDS = Protection(name="a", is_mandatory=True, reason=None)
MANDATORY_OFF = Protection(name="b", is_mandatory=True, reason="off")
LAYER_OFF = Protection(name="c", is_mandatory=False, reason="off")


@pytest.mark.parametrize(
    ("protections", "level"),
    [
        ([HOLDS], Level.FULL),
        ([HOLDS, LAYER_OFF], Level.REDUCED),
        ([MANDATORY_OFF, HOLDS, LAYER_OFF], Level.NONE),
    ],
)
def test_the_level_follows_from_what_is_missing(protections: list[Protection], level: Level) -> None:
    assert assess(protections) is level


def test_levels_are_ordered() -> None:
    assert Level.FULL.is_at_least(Level.REDUCED)
    assert Level.REDUCED.is_at_least(Level.REDUCED)
    assert not Level.NONE.is_at_least(Level.REDUCED)


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ({}, Level.FULL),
        ({"RSTAR_SANDBOX_MIN_LEVEL": "full"}, Level.FULL),
        ({"RSTAR_SANDBOX_MIN_LEVEL": "reduced"}, Level.REDUCED),
    ],
)
def test_the_environment_names_the_least_level(environment: dict[str, str], level: Level) -> None:
    assert wanted_level(environment) is level


@pytest.mark.parametrize("text", ["none", "", "FULL"])
def test_no_environment_permits_unconfined_steps(text: str) -> None:
    with pytest.raises(ValueError, match="RSTAR_SANDBOX_MIN_LEVEL must be full or reduced"):
        wanted_level({"RSTAR_SANDBOX_MIN_LEVEL": text})


def test_a_refusal_names_what_failed_and_what_would_permit_it() -> None:
    assert refusal(Level.REDUCED, Level.FULL, [HOLDS, LAYER_OFF]) == (
        "steps can be confined at level reduced only, and full is wanted (c: off); "
        "RSTAR_SANDBOX_MIN_LEVEL=reduced would permit it"
    )
    assert refusal(Level.NONE, Level.REDUCED, [MANDATORY_OFF, LAYER_OFF]) == (
        "steps can be confined at level none only, and reduced is wanted (b: off; c: off); "
        "no value of RSTAR_SANDBOX_MIN_LEVEL permits that"
    )


_LAYERS = {Mechanism.NAMESPACES: "namespaces", Mechanism.LANDLOCK: "Landlock"}


@pytest.mark.parametrize("mechanism", [Mechanism.NAMESPACES, pytest.param(Mechanism.LANDLOCK, marks=pytest.mark.slow)])
async def test_one_file_confinement_is_enough_for_the_reduced_level(mechanism: Mechanism) -> None:
    async with Sandbox(min_level=Level.REDUCED, switched_off=frozenset({mechanism})) as sandbox:
        assert sandbox.status.level is Level.REDUCED
        off = [protection.name for protection in sandbox.status.protections if protection.reason == "switched off"]
        assert off == [_LAYERS[mechanism]]
        async with sandbox.tree() as tree:
            first = await tree.run(None, "x = 6")
            assert (await tree.run(first.snapshot, "x * 7")).value == "42"
            assert (await tree.run(None, "open('/etc/passwd')")).outcome is Outcome.ERROR


@pytest.mark.slow
async def test_less_than_is_wanted_is_no_start() -> None:
    words = "full is wanted.*Landlock: switched off.*RSTAR_SANDBOX_MIN_LEVEL=reduced would permit it"
    with pytest.raises(SandboxUnavailable, match=words):
        async with Sandbox(switched_off=frozenset({Mechanism.LANDLOCK})):
            pass


@pytest.mark.slow
async def test_without_any_file_confinement_there_is_no_start() -> None:
    both = frozenset({Mechanism.NAMESPACES, Mechanism.LANDLOCK})
    with pytest.raises(SandboxUnavailable, match="file reading"):
        async with Sandbox(min_level=Level.REDUCED, switched_off=both):
            pass


@pytest.mark.slow
async def test_the_self_test_fails_without_the_filter() -> None:
    off = frozenset({Mechanism.SECCOMP})
    async with Sandbox(limits=Limits(cpu_s=2), min_level=Level.NONE, switched_off=off) as sandbox:
        assert sandbox.status.level is Level.NONE
        failing = {protection.name for protection in sandbox.status.protections if protection.reason}
        assert {"processes", "threads", "network", "signals", "shared memory", "seccomp"} <= failing


@pytest.mark.asyncio(loop_scope="session")
async def test_the_status_names_everything_that_was_tested(sandbox: Sandbox) -> None:
    status = sandbox.status
    assert status.level is Level.FULL
    assert [protection.reason for protection in status.protections] == [None] * len(status.protections)
    names = {protection.name for protection in status.protections}
    assert {"seccomp", "namespaces", "Landlock", "service user", "late imports", "time limit"} <= names
    assert status.missing_modules == ()


def _is_python_private() -> bool:
    return any(not folder.stat().st_mode & 0o001 for folder in Path(os.__file__).resolve().parents)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only under root do steps have another user's rights")
async def test_a_python_below_a_private_home_is_reported() -> None:
    off = frozenset({Mechanism.NAMESPACES})
    async with Sandbox(min_level=Level.REDUCED, switched_off=off) as sandbox, sandbox.tree() as tree:
        reasons = {protection.name: protection.reason for protection in sandbox.status.protections}
        assert (reasons["late imports"] is not None) == _is_python_private()
        imported = await tree.run(None, "import wave")  # a module that nothing else loads
        assert (imported.outcome is not Outcome.OK) == _is_python_private()
        assert sandbox.status.level is Level.REDUCED
