"""A folder of sartor's reads and writes nothing outside itself, whoever made it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ..errors import RunError, SartorError
from ..files import explain_os_errors
from ..wording import plural

_MOST_ENTRIES = 100_000


def refuse_ways_out(folder: Path) -> None:
    """Raise where something in a run's folder leads out of it, or is neither file nor folder.

    A history that is a link would be written to, wherever it leads; a list that is a link would
    be shown; a pipe would be waited for. A link to something inside the folder may stay.

    Raises:
        RunError: naming it.
    """
    whole = folder.resolve()
    count = 0
    with explain_os_errors(f"read the folder {folder}"):
        for inside, folders, names in os.walk(folder):
            count += len(folders) + len(names)
            if count > _MOST_ENTRIES:
                raise RunError(
                    f"{folder} holds more than {plural(_MOST_ENTRIES, 'file')}: it is not a run.",
                    "Name a run's folder.",
                )
            for path in (Path(inside, name) for name in (*folders, *names)):
                _refuse(path, whole, folder)


def refuse_ways_out_at(folder: Path, names: Iterable[str]) -> None:
    """As `refuse_ways_out`, for a folder that may hold millions of files, of which only these are
    read and written by their names.

    Raises:
        RunError: naming it.
    """
    whole = folder.resolve()
    with explain_os_errors(f"read the folder {folder}"):
        for name in names:
            _refuse(folder / name, whole, folder)


def leads_out(folder: Path) -> bool:
    """Whether there is a link in a run's folder that leads out of it."""
    try:
        refuse_ways_out(folder)
    except LeadsOutError:
        return True
    except SartorError:
        return False
    return False


class LeadsOutError(RunError):
    """A link leads out of a run's folder."""


def _refuse(path: Path, whole: Path, folder: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # a training that goes on has given it its name
        return
    if stat.S_ISLNK(mode):
        if not path.resolve().is_relative_to(whole):
            raise LeadsOutError(
                f"{path} is a link to {path.readlink()}, outside of {folder}; nothing outside of "
                "that folder is read or written.",
                "Put the file or folder itself there, or use a copy without it.",
            )
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RunError(
            f"{path} is a device or a pipe, not a file.", "Remove it, or put the file back."
        )
