"""The engines' exceptions.

EngineError             the engine cannot do its work; ends the searches that use it
├── CheckpointError     the model folder cannot be served
├── EngineClosed        asked after close, or closed while the request was running
└── EngineFailed        an exception inside the engine's loop, kept as the cause
"""


class EngineError(Exception):
    """An engine cannot do its work."""


class CheckpointError(EngineError):
    """The model folder cannot be served; the message says what was expected and what was found."""


class EngineClosed(EngineError):
    """The engine was closed before or while it worked on the request."""


class EngineFailed(EngineError):
    """The engine's loop raised; every request it held gets this error and the engine stays unhealthy."""
