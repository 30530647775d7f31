"""Reports: what a finished training says of itself, kept in the model's folder."""

from pydantic import BaseModel


class TrainingReport(BaseModel):
    """Of a policy."""

    kind: str
    examples: int
    """Sequences, pairs or values that it learnt from, once per epoch."""
    left_out: int
    """Those that were too long."""
    updates: int
    tokens: int
    """Padding included."""
    loss: float
    """Of the last updates, over a few seconds."""
    seconds: float


class RewardReport(TrainingReport):
    """Of a reward model."""

    held_out: int
    """Examples of problems that it never saw."""
    in_order: float | None
    """How often it scores the held-out better path higher: of a PPM its pairs; of a PQM and an ORM any path whose
    target is above 0 against any other. None where there is nothing to compare."""
