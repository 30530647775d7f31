"""The exceptions of remote engines.

EngineError             see `server.engines.errors`
├── RemoteUnavailable   the server cannot be reached, is overloaded or broken, and all attempts are used up
├── RemoteRefused       the server says that the request itself is wrong, or not allowed
└── RemoteMismatch      something answers, but not what these engines need: other model, other tokens, no vLLM

Each message names the address and what to do about it.
"""

from server.engines.errors import EngineError


class RemoteUnavailable(EngineError):
    """No useful answer within the attempts allowed; it may come back."""


class RemoteRefused(EngineError):
    """A 4xx answer: asking again would not help."""


class RemoteMismatch(EngineError):
    """The answer is not one that a matching vLLM server gives."""
