"""The engines' exceptions.

EngineError                 the engine cannot do its work; ends the searches that use it
├── CheckpointError         the model folder cannot be served
├── MemoryRefused           the memory it was given, or that there is, is not enough
├── SelfCheckFailed         it does not compute what its model should
├── EngineClosed            asked after close, or closed while the request was running
├── EngineFailed            an exception inside the engine's loop, kept as the cause, or the end of its process;
│                           from vLLM also a failure at one request
├── RemoteUnavailable       a vLLM server cannot be reached, is overloaded or broken, and all attempts are used up
├── RemoteRefused           a vLLM server says that the request itself is wrong, or not allowed
└── RemoteMismatch          something answers, but not what the engines need: other model, other tokens, no vLLM
"""


class EngineError(Exception):
    """An engine cannot do its work."""


class CheckpointError(EngineError):
    """The model folder cannot be served; the message says what was expected and what was found."""


class MemoryRefused(EngineError):
    """The engine would not fit; the message names the setting to turn."""


class SelfCheckFailed(EngineError):
    """The PPM's scores differ from those written when it was made."""


class EngineClosed(EngineError):
    """The engine was closed before or while it worked on the request."""


class EngineFailed(EngineError):
    """The engine broke: every request it held gets this error, and those to come until it works again. Or it failed at
    one request and goes on."""


class RemoteUnavailable(EngineError):
    """No useful answer within the attempts allowed; the server may come back."""


class RemoteRefused(EngineError):
    """A 4xx answer: asking again would not help."""


class RemoteMismatch(EngineError):
    """A matching vLLM server would not give this answer."""
