"""PPM-guided tree search over executed reasoning steps. Pure: no HTTP, engine, clock, files, logging or globals.

`search()` runs one search over the `Parts` given to it; a `Tree` is its whole state. Models, sandbox and answer checker
are behind the Protocols of `search.protocols`, with fakes in `search.testing.fakes`. `search.format` makes the text
that the models see.
"""

from search.budget import Budget, PhaseSeconds, Stop, Usage
from search.calls import Call, CallKind, Listener, PolicyCall, RunnerCall, ScorerCall, listening
from search.codec import load, save
from search.config import Calibration, SearchConfig, Selection, Strategy, TreePolicy, Values
from search.errors import RecordFormatError, ReplayMismatch
from search.events import AnswerChanged, Event, NodeAdded, OnEvent, SearchStarted, TrajectoryFinished
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome, StopReason, Verdict
from search.protocols import (
    AnswerEquality,
    Candidate,
    CodeRunner,
    Execution,
    Judge,
    Parts,
    Path,
    PathStep,
    PathTooLong,
    Policy,
    Snapshot,
    StepScorer,
)
from search.record import OnLine, dump_line
from search.replay import Replay, read_record, replay_record
from search.run import SearchResult
from search.strategies import search
from search.tree import Node, NodeId, Tree

__all__ = [
    "AnswerChanged",
    "AnswerEquality",
    "Budget",
    "Calibration",
    "Call",
    "CallKind",
    "Candidate",
    "CandidateStop",
    "CodeRunner",
    "Event",
    "Execution",
    "ExecutionOutcome",
    "Judge",
    "Listener",
    "Node",
    "NodeAdded",
    "NodeId",
    "NodeOutcome",
    "OnEvent",
    "OnLine",
    "Parts",
    "Path",
    "PathStep",
    "PathTooLong",
    "PhaseSeconds",
    "Policy",
    "PolicyCall",
    "RecordFormatError",
    "Replay",
    "ReplayMismatch",
    "RunnerCall",
    "ScorerCall",
    "SearchConfig",
    "SearchResult",
    "SearchStarted",
    "Selection",
    "Snapshot",
    "StepScorer",
    "Stop",
    "StopReason",
    "Strategy",
    "TrajectoryFinished",
    "Tree",
    "TreePolicy",
    "Usage",
    "Values",
    "Verdict",
    "dump_line",
    "listening",
    "load",
    "read_record",
    "replay_record",
    "save",
    "search",
]
