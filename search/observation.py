"""Observation: the text shown to the models once a path's code has ended. The only place that derives it.

Serving and training both show exactly this text; the executions keep what was printed unshortened.
"""

from collections.abc import Sequence

from search.protocols import Execution

MAX_OBSERVATION_CHARS = 2000
"""Long enough for every printed answer; a flood of text would only push the problem out of the models' context."""


def observation(executions: Sequence[Execution]) -> str:
    """What the executed steps of one code block print, in order; failing that, the last step's value."""
    printed = "".join(execution.stdout for execution in executions).rstrip()
    if not printed and executions:
        printed = (executions[-1].value or "").rstrip()
    return printed[:MAX_OBSERVATION_CHARS].rstrip()
