"""Ground: targets for the attacks outside the sandbox, open to every user, and the check whether one was reached.

A folder that every user may write, a file in it, a symbolic link to the password file, a UNIX socket and a TCP port
with somebody listening. Ownership protects nothing of it: only the sandbox does.
"""

import os
import secrets
import shutil
import socket
import sysconfig
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

_CONTENT = "untouched\n"
_WATCHED = ("/", "/tmp", "/var/tmp", "/dev/shm", ".", sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"))


class Ground:
    """A context manager: the folder and the listeners exist as long as it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rstar-hostile-"))
        self.folder.chmod(0o777)
        self.victim = self.folder / "victim"
        self.victim.write_text(_CONTENT)
        self.victim.chmod(0o666)
        (self.folder / "passwd").symlink_to("/etc/passwd")
        (self.folder / "empty").mkdir(mode=0o777)
        self._listeners = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX)]
        self._listeners[0].bind(("127.0.0.1", 0))
        self._listeners[1].bind(str(self.folder / "socket"))
        (self.folder / "socket").chmod(0o777)
        for listener in self._listeners:
            listener.listen()
            listener.setblocking(False)
        self.port: int = self._listeners[0].getsockname()[1]
        self._names = self._all_names()
        # In the server's environment, where a step would have to look for it.
        os.environ["RSTAR_HOSTILE_SECRET"] = f"hush-{secrets.token_hex(16)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.close()
        shutil.rmtree(self.folder)

    def complaints(self) -> list[str]:
        """The changes since the last call; each change is reported once."""
        found = [f"a new or missing file: {name}" for name in sorted(self._all_names() ^ self._names)]
        self._names = self._all_names()
        if not self.victim.exists() or self.victim.read_text() != _CONTENT:
            found.append("the file that anybody may write has changed")
            self.victim.write_text(_CONTENT)
        for listener in self._listeners:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                continue
            connection.close()
            found.append("somebody connected")
        return found

    def _all_names(self) -> set[str]:
        """The folder's files, and elsewhere those that the attacks' own names give away."""
        elsewhere = (path for folder in _WATCHED for path in _files(folder) if "planted" in path.name)
        return {str(path) for path in [*self.folder.rglob("*"), *elsewhere]}


def _files(folder: str) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except OSError:
        return []
