"""Settings of the bootstrap. The defaults are those the bundled models were made with."""

from dataclasses import dataclass, field

from training.policy_model import PolicyShape
from training.ppm import PPMConfig
from training.preferences import PairConfig
from training.problems import FAMILIES
from training.rollouts import RolloutConfig
from training.sft import SFTConfig


def _uneven_counts() -> dict[str, int]:
    return {
        "gsm_symbolic": 24_000,
        "leg_counting": 12_000,
        "polynomial_equations": 6_000,
        "simple_integration": 7_000,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    """All stages."""

    families: tuple[str, ...] = FAMILIES
    seed: int = 1
    processes: int = 2
    """For drawing problems and running steps."""
    demonstrations: int = 9_000
    """Training problems per family."""
    demonstrations_of: dict[str, int] = field(default_factory=_uneven_counts)
    """Where it is another number: gsm_symbolic tells 85 stories; the two sympy families are slow to draw."""
    shape: PolicyShape = field(default_factory=PolicyShape)
    sft: SFTConfig = field(default_factory=SFTConfig)
    searched_problems: int = 200
    """Per family, for the PPM."""
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    pairs: PairConfig = field(default_factory=PairConfig)
    held_out_pairs: float = 0.1
    """Share of the problems whose pairs only measure the PPM."""
    ppm: PPMConfig = field(default_factory=PPMConfig)
