"""Meter: CPU time of its thread and of everything started from there since, ended processes included.

It is a task clock of the kernel's performance events, inherited by every new process. No other counter includes a
killed process with the time it took to give its memory back.
"""

import asyncio
import ctypes
import os
import platform
import struct
from pathlib import Path

_CALL = {"x86_64": 298, "aarch64": 241}
_SOFTWARE, _TASK_CLOCK = 1, 1
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
_CLOSE_ON_EXEC = 8
_SIZE = 128
_FLAGS_OFFSET = 40

_WINDOW_S = 0.02
_QUIET_S = 0.001
_QUIET_WINDOWS = 3
_MOST_WINDOWS = 250


class CpuMeter:
    """Make it before the processes that it should count are started."""

    def __init__(self) -> None:
        # Ordinary users may only ask for a clock without the kernel; a task clock counts the time in the kernel anyway.
        flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
        attributes = bytearray(_SIZE)
        struct.pack_into("<IIQ", attributes, 0, _SOFTWARE, _SIZE, _TASK_CLOCK)
        struct.pack_into("<Q", attributes, _FLAGS_OFFSET, flags)
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = (ctypes.c_char * _SIZE).from_buffer(attributes)
        self._descriptor: int = libc.syscall(_CALL[platform.machine()], buffer, 0, -1, -1, _CLOSE_ON_EXEC)
        if self._descriptor < 0:
            setting = Path("/proc/sys/kernel/perf_event_paranoid")
            level = setting.read_text(encoding="ascii").strip() if setting.exists() else "missing"
            reason = os.strerror(ctypes.get_errno())
            raise SystemExit(f"no CPU meter ({reason}; {setting} is {level}, 2 or less is needed): run this as root")

    def read_s(self) -> float:
        return struct.unpack("<Q", os.read(self._descriptor, 8))[0] / 1e9

    async def quiet(self) -> float:
        """Wait until no process of ours works, such as after trees were made ahead or killed; the reading then."""
        last_s = self.read_s()
        in_row = 0
        for _ in range(_MOST_WINDOWS):
            await asyncio.sleep(_WINDOW_S)
            now_s = self.read_s()
            in_row = in_row + 1 if now_s - last_s < _QUIET_S else 0
            last_s = now_s
            if in_row == _QUIET_WINDOWS:
                return now_s
        raise SystemExit("something of the sandbox never stops working")
