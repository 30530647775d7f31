"""The engines' exceptions.

EngineError             the engine cannot do its work; ends the searches that use it
├── CheckpointError     the model folder cannot be served
├── MemoryRefused       the memory it was given, or that there is, is not enough
├── SelfCheckFailed     it does not compute what its model should
├── EngineClosed        asked after close, or closed while the request was running
├── EngineFailed        an exception inside the engine's loop, kept as the cause, or the end of its process
└── Remote...           what a remote server can get wrong: see `server.engines.remote.errors`
"""


class EngineError(Exception):
    """An engine cannot do its work."""


class CheckpointError(EngineError):
    """The model folder cannot be served; the message says what was expected and what was found."""


class MemoryRefused(EngineError):
    """The engine would not fit; the message names the setting to turn."""


class SelfCheckFailed(EngineError):
    """The PPM's scores are not those that were noted when it was made."""


class EngineClosed(EngineError):
    """The engine was closed before or while it worked on the request."""


class EngineFailed(EngineError):
    """The engine broke; every request it held gets this error, and those to come until it works again."""
