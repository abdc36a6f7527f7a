"""The cache folder of sartor, and the lock that keeps two processes from filling it at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileError
from .files import explain_os_errors, remove_temporary

Note = Callable[[str], None]
"""Takes one line that says what is going on."""


def cache_home() -> Path:
    """Where sartor keeps what it fetched or prepared: `SARTOR_HOME`, else the user's cache."""
    home = os.environ.get("SARTOR_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("sartor"))


def tidy_cache() -> None:
    """Remove what processes that were killed while they wrote left in the cache."""
    remove_temporary(cache_home())


@contextmanager
def explain_cache_errors() -> Iterator[None]:
    """Name the variable that moves the cache where it cannot be written."""
    try:
        yield
    except FileError as error:
        if "SARTOR_HOME" in error.hint:
            raise
        hint = f"{error.hint} The environment variable SARTOR_HOME names the folder to use."
        raise FileError(error.message, hint) from error


def wait_silently() -> None:
    """What to do about a lock that another process holds: nothing, so that it is waited for."""


@contextmanager
def locked(
    path: Path,
    *,
    what: str = "",
    patience: float = 0.0,
    when_busy: Callable[[], None] = wait_silently,
) -> Iterator[None]:
    """Hold a lock file against every other process; wait for one that holds it.

    Args:
        what: what is being locked, for the message of an error; by default the file's folder.
        patience: seconds to wait before `when_busy` is called.
        when_busy: called when another process still holds the lock; may say so, or raise an error
            instead of waiting.

    Raises:
        FileError: the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    if path.is_symlink():  # which would empty or create what it leads to
        raise FileError(f"{path} is a link, not a lock.", "Remove it.")
    # filelock logs every attempt; this must not reach users who turn on debugging of other things.
    logging.getLogger("filelock").setLevel(logging.WARNING)
    lock = FileLock(path)
    with explain_os_errors(f"lock {what or path.parent}"):
        try:
            lock.acquire(timeout=patience)
        except Timeout:  # which is an OSError
            busy = True
        else:
            busy = False
        if busy:
            when_busy()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock file at the moment."""
    from filelock import FileLock, Timeout

    # Opening a lock creates it, through a link even elsewhere.
    if path.is_symlink() or not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
