"""Step: runs one step's code in the interpreter state its process inherited, and says how it ended.

Everything here shares the interpreter with hostile code. After a step has run, only names bound beforehand and C-level
methods are used until the builtins are restored. A step can forge its own report and what descends from it, no more.
"""

import builtins
import io
import random
import sys
import time
from ast import Expr, Expression, Module, PyCF_ONLY_AST
from collections.abc import Callable
from types import ModuleType
from typing import BinaryIO, cast

from sandbox.wire import MAX_ERROR_BYTES, Report, Status, cut

_RESERVE_BYTES = 1 << 20
"""Given back to a step that ran out of memory, so that it can say so."""


class OutputLimitReached(BaseException):
    """Raised in a step that prints more than the cap. Not an Exception: few steps catch it by accident."""


class _Sink(io.BufferedIOBase):
    """Keeps what is printed, up to a cap."""

    def __init__(self) -> None:
        self.max_bytes = 0
        self.kept = bytearray()
        self.is_over = False

    def writable(self) -> bool:
        return True

    def write(self, chunk: object, /) -> int:
        view = memoryview(chunk)  # pyright: ignore[reportArgumentType]  # whatever a step passes: TypeError is its own
        room = self.max_bytes - len(self.kept)
        self.kept += view[:room]
        if view.nbytes > room:
            self.is_over = True
            raise OutputLimitReached(f"more than {self.max_bytes} bytes printed")
        return view.nbytes


class Interpreter:
    """The state a path's steps share: `__main__`, its globals and standard output.

    Made once, in the zygote, so that no node need make it; each node has its parent's copy by the fork.
    """

    def __init__(self) -> None:
        self._main = ModuleType("__main__")
        sys.modules["__main__"] = self._main
        self._builtins = builtins.__dict__
        self._fresh_builtins = dict(builtins.__dict__)
        self._seeders = _seeders()
        self._clock = time.thread_time
        self._reserve = bytes(0)
        self._count = 0
        self._open_output()

    def prepare(self, *, output_bytes: int) -> None:
        """Get ready to run the steps of one tree."""
        self._sink.max_bytes = output_bytes

    def restore_builtins(self) -> None:
        """What a step did to `len` or `print` is its own affair."""
        self._builtins.clear()
        self._builtins.update(self._fresh_builtins)

    def run(self, seed: int, code: str) -> Report:
        """Run one step to its end, whatever end."""
        self._begin(seed)
        failure: BaseException | None = None
        value: str | None = None
        started = self._clock()
        try:
            value = self._execute(code)
            self._stdout.flush()
        except BaseException as raised:  # noqa: BLE001  # SystemExit and KeyboardInterrupt are results like any other
            failure = raised
        cpu_seconds = self._clock() - started
        self._builtins.update(self._fresh_builtins)
        if failure is not None:
            return self._report_failure(failure, cpu_seconds)
        return Report(self._status_without_failure(), cpu_seconds, self._printed(), value, None)

    def _begin(self, seed: int) -> None:
        self.restore_builtins()
        self._main.__dict__["__builtins__"] = builtins
        self._count += 1
        self._reserve = bytes(_RESERVE_BYTES)  # zeroed by the kernel, and only when touched
        if self._stdout.closed:
            max_bytes = self._sink.max_bytes
            self._open_output()
            self._sink.max_bytes = max_bytes
        # Emptied, not replaced: a step may have kept `write = sys.stdout.write`.
        self._sink.kept.clear()
        self._sink.is_over = False
        sys.stdout = self._stdout
        for seeder in self._seeders:
            seeder(seed)

    def _execute(self, code: str) -> str | None:
        """Run the statements; a last one that is an expression gives the value, evaluated once like the others."""
        name = f"<step {self._count}>"
        module = compile(code, name, "exec", PyCF_ONLY_AST, dont_inherit=True)
        assert isinstance(module, Module)
        last = module.body[-1] if module.body else None
        namespace = self._main.__dict__
        if not isinstance(last, Expr):
            exec(compile(module, name, "exec", dont_inherit=True), namespace)
            return None
        module.body.pop()
        exec(compile(module, name, "exec", dont_inherit=True), namespace)
        value = eval(compile(Expression(last.value), name, "eval", dont_inherit=True), namespace)
        return None if value is None else cut(repr(value), self._sink.max_bytes)

    def _report_failure(self, failure: BaseException, cpu_seconds: float) -> Report:
        failure.__traceback__ = None  # its frames hold the step's memory
        if isinstance(failure, MemoryError):
            self._reserve = bytes(0)
        message = _describe(failure)
        if self._sink.is_over:
            return Report(Status.OUTPUT_LIMIT, cpu_seconds, self._printed(), None, message)
        try:
            self._stdout.flush()
        except OutputLimitReached as overflow:
            return Report(Status.OUTPUT_LIMIT, cpu_seconds, self._printed(), None, str(overflow))
        except ValueError:
            pass  # the step closed its output: what it printed before is kept
        status = Status.MEMORY if isinstance(failure, MemoryError) else Status.ERROR
        return Report(status, cpu_seconds, self._printed(), None, message)

    def _status_without_failure(self) -> Status:
        """A step that swallowed `OutputLimitReached` is over the limit all the same."""
        return Status.OUTPUT_LIMIT if self._sink.is_over else Status.OK

    def _printed(self) -> str:
        return bytes(self._sink.kept).decode("utf-8", "ignore")

    def _open_output(self) -> None:
        self._sink = _Sink()
        self._stdout = io.TextIOWrapper(cast(BinaryIO, self._sink), encoding="utf-8", errors="replace", newline="\n")


def _seeders() -> list[Callable[[int], object]]:
    """What draws random numbers from a process-wide state; generators that a step makes itself are its own affair."""
    seeders: list[Callable[[int], object]] = [random.seed]  # noqa: TID251  # the steps' generator, not ours
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_seed: Callable[[int], object] = numpy_random.seed
        seeders.append(lambda seed: numpy_seed(seed & 0xFFFFFFFF))
    if sympy_random := sys.modules.get("sympy.core.random"):
        seeders.append(sympy_random.seed)
    return seeders


def _describe(failure: BaseException) -> str:
    """`Type: message`, as the last line of a traceback."""
    name = type(failure).__name__
    try:
        return cut(f"{name}: {failure}".removesuffix(": "), MAX_ERROR_BYTES)
    except BaseException:  # noqa: BLE001  # `__str__` is the step's code
        return f"{name}: (message cannot be shown)"
