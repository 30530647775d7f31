"""OpenMP settings: several threads only if idle ones sleep."""

from server.engines.torch.openmp import default_threads, wait_passively, waits_passively


def test_threads_are_made_to_sleep_by_default() -> None:
    environment: dict[str, str] = {}
    assert not waits_passively(environment)
    wait_passively(environment)
    assert waits_passively(environment)


def test_the_operators_choice_stands() -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    wait_passively(environment)
    assert not waits_passively(environment)


def test_spinning_threads_are_not_multiplied() -> None:
    assert default_threads({}) == 1
    assert default_threads({"OMP_WAIT_POLICY": "passive"}) >= 1
