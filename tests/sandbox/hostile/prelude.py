"""Prelude: functions for all hostile snippets. Its text runs inside the sandbox, as the step before the snippet.

`admitted` is how snippets report: it makes each attempt and names those that nothing refused. Only the errors by which
a kernel or a sandbox says "no" count as refusals: an attempt that got as far as "bad address" was let in.
"""

import ctypes
import errno
import gc
import os
import stat
from collections.abc import Callable, Iterator

LIBC = ctypes.CDLL(None, use_errno=True)

REFUSALS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOENT,  # hidden by the mount view
    errno.EROFS,
    errno.ENOSYS,
    errno.EAGAIN,  # the fork gate
    errno.EAFNOSUPPORT,
}

# Where the library gives no number.
WORDS = ("not permitted", "denied", "not found", "cannot open shared object", "Read-only")

# Name: number on x86_64, on aarch64; None where the machine has no such call.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chmod": (90, None),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "copy_file_range": (326, 285),
    "creat": (85, None),
    "execveat": (322, 281),
    "fallocate": (285, 47),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fork": (57, None),
    "fsopen": (430, 430),
    "futimesat": (261, None),
    "getpid": (39, 172),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_create_ruleset": (444, 444),
    "linkat": (265, 37),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mkdirat": (258, 34),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setscheduler": (144, 119),
    "seccomp": (317, 277),
    "semget": (64, 190),
    "sendfile": (40, 71),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "shmget": (29, 194),
    "signalfd4": (289, 74),
    "socket": (41, 198),
    "splice": (275, 76),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tee": (276, 77),
    "tgkill": (234, 131),
    "timerfd_create": (283, 85),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unlinkat": (263, 35),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
    "vmsplice": (278, 75),
}
COLUMN = 0 if os.uname().machine == "x86_64" else 1


def raw(name: str, *arguments: object) -> int:
    """Make a system call by number, past every library function."""
    number = NUMBERS[name][COLUMN]
    if number is None:
        raise OSError(errno.ENOSYS, f"no {name} on this machine")
    ctypes.set_errno(0)
    returned = LIBC.syscall(ctypes.c_long(number), *arguments)
    if returned == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return returned


def in_parent(fork: Callable[[], int]) -> int:
    """Call something that may make a process; the new process ends at once."""
    process = fork()
    if process == 0:
        os._exit(0)
    if process < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return process


def admitted(**attempts: Callable[[], object]) -> list[str]:
    """Make every attempt; what was not refused, with what came of it."""
    found: list[str] = []
    for name, attempt in attempts.items():
        try:
            returned = attempt()
        except OSError as error:
            words = any(words in str(error) for words in WORDS)
            if error.errno not in REFUSALS and not (error.errno is None and words):
                found.append(f"{name}: {error}")
        except BaseException as error:  # noqa: BLE001  # whatever it is goes into the report
            found.append(f"{name}: {type(error).__name__}: {error}")
        else:
            found.append(f"{name}: {returned!r:.60}")
    return found


def channels() -> list[int]:
    """The step's own socket: its only way to send anything."""
    found: list[int] = []
    for descriptor in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                found.append(descriptor)
        except OSError:
            pass
    return found


def memory() -> Iterator[bytes]:
    """The pages around every object the collector knows of and below the heap's end: where old strings would lie."""
    LIBC.sbrk.restype = ctypes.c_void_p
    page, chunk = 4096, 1 << 20
    end = LIBC.sbrk(0)
    starts = {id(known) // chunk * chunk for known in gc.get_objects()}
    starts |= set(range(end - (64 << 20), end, chunk))
    resident = ctypes.create_string_buffer(chunk // page)
    for start in sorted(starts):
        for address in range(start, start + chunk, page):
            if LIBC.mincore(ctypes.c_void_p(address), page, resident) == 0:
                yield ctypes.string_at(address, page)
