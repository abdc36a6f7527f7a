"""What reading a stranger's file must never do, seen through Python's audit events.

Inside `watched`, every file that is opened, every process, connection and unpickled class is looked
at: writing is allowed only in given folders, reading also where Python and its libraries lie.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sartor

_NEVER = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"),
    *("pty.spawn", "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"),
    *("pickle.find_class", "webbrowser.open", "os.startfile"),
}
_CHANGES = {
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown"),
    *("os.link", "os.symlink", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
}
_TO = {"os.rename", "os.link", "os.symlink", "shutil.move", "shutil.copyfile"}
"""What they change is their second argument."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_LIBRARIES = tuple(
    {
        *(os.path.realpath(place) for place in sysconfig.get_paths().values()),
        *(os.path.realpath(place) for place in (sys.prefix, sys.base_prefix)),
        str(Path(sartor.__file__).resolve().parent),
        *("/proc", "/sys", "/usr", "/lib", "/etc/ld.so.cache", "/etc/localtime"),
        *("/etc/mime.types", "/etc/ssl", "/dev/null", "/dev/urandom"),
    }
)


class _Watch:
    """The one hook of this process, which cannot be taken away again."""

    def __init__(self) -> None:
        self.inside: tuple[str, ...] | None = None
        self.only_read: tuple[str, ...] = ()
        self.found: list[str] = []
        self.installed = False

    def __call__(self, event: str, given: tuple[object, ...]) -> None:
        if self.inside is None:
            return
        inside, self.inside = self.inside, None  # what the hook does itself is not looked at
        try:
            self._look(event, given, inside)
        finally:
            self.inside = inside

    def _look(self, event: str, given: tuple[object, ...], inside: tuple[str, ...]) -> None:
        if event in _NEVER:
            self.found.append(f"{event} {given[:2]!r}"[:300])
        elif event == "open" and isinstance(given[0], str | bytes | os.PathLike):
            flags = given[2] if isinstance(given[2], int) else 0
            place = os.path.realpath(os.fsdecode(given[0]))
            if flags & _WRITES and place != os.devnull and not _lies_in(place, inside):
                self.found.append(f"writes {place}")
            elif not _lies_in(place, (*inside, *self.only_read, *_LIBRARIES)):
                self.found.append(f"reads {place}")
        elif event in _CHANGES:
            changed = given[1] if event in _TO else given[0]
            if not isinstance(changed, str | bytes | os.PathLike):
                return
            # Not the link's target: a link may be removed, whatever it leads to.
            path = os.path.abspath(os.fsdecode(changed))  # noqa: PTH100
            place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
            if not _lies_in(place, inside):
                self.found.append(f"{event} {place}")


def _lies_in(place: str, folders: Sequence[str]) -> bool:
    return any(place == one or place.startswith(one.rstrip("/") + "/") for one in folders)


_WATCH = _Watch()


@contextmanager
def watched(*inside: Path, only_read: Sequence[Path] = ()) -> Iterator[list[str]]:
    """A list, to which is added what should not have been.

    Args:
        inside: where files may be read and written.
        only_read: where they may be read.
    """
    if not _WATCH.installed:
        sys.addaudithook(_WATCH)
        _WATCH.installed = True
    _WATCH.found = []
    _WATCH.only_read = tuple(os.path.realpath(one) for one in only_read)
    _WATCH.inside = tuple(os.path.realpath(one) for one in inside)
    try:
        yield _WATCH.found
    finally:
        _WATCH.inside = None
