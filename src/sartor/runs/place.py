"""Where a run's folder is while it is trained: it may be renamed or moved meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import RunError
from .folder import RunFolder


@dataclass(frozen=True)
class Place:
    """A run's folder, found again by what it is and not by what it is called."""

    folder: RunFolder
    """As it was called in the beginning."""
    _handle: int | None

    @classmethod
    @contextmanager
    def of(cls, folder: RunFolder) -> Iterator[Place]:
        """Keep hold of a folder. Where the system lets nobody move what is held, that is all."""
        if os.name != "posix":
            yield cls(folder, None)
            return
        with files.explain_os_errors(f"read the folder {folder.path}"):
            handle = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield cls(folder, handle)
        finally:
            os.close(handle)

    def now(self) -> RunFolder:
        """The folder under its present name.

        Raises:
            RunError: it was deleted, or moved to where it cannot be followed.
        """
        if self._handle is None or self._is_at(self.folder.path):
            return self.folder
        try:
            found = Path(f"/proc/self/fd/{self._handle}").readlink()
        except OSError:  # only Linux says where something that is open went
            found = None
        if found is None or not self._is_at(found):
            raise RunError(
                f"{self.folder.path} was deleted or moved to another disk while it was trained.",
                "Resume it where it is now, or train again.",
            )
        return RunFolder(_as_before(found, self.folder.path))

    def _is_at(self, path: Path) -> bool:
        assert self._handle is not None
        try:
            return os.path.samestat(path.stat(), os.fstat(self._handle))
        except OSError:
            return False


def _as_before(found: Path, before: Path) -> Path:
    """Relative to the working folder where the path was that before, and can be."""
    here = Path.cwd()
    if before.is_absolute() or not found.is_relative_to(here):
        return found
    return found.relative_to(here)
