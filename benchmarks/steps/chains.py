"""Chains: the steps that the sandbox benchmarks run, like paths through a search tree."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

DEPTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Steps that each run in the state of the one before."""

    name: str
    steps: tuple[str, ...]
    is_heavy: bool
    """Whether one early step costs far more than all the others."""


def load_chains() -> list[Chain]:
    """The light chains, then the heavy one."""
    with (Path(__file__).parent / "chains.toml").open("rb") as file:
        entries = tomllib.load(file)["chain"]
    chains = [
        Chain(name=entry["name"], steps=tuple(entry["steps"]), is_heavy=entry.get("is_heavy", False))
        for entry in entries
    ]
    assert {len(chain.steps) for chain in chains} == {DEPTH}
    return sorted(chains, key=lambda chain: chain.is_heavy)
