"""Checkpoints that were read and found whole, kept as long as their files stay as they are.

A fit with its report asks for the same file dozens of times, and each reading checks all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from ..runs.folder import RunFolder
from ..training.state import Checkpoint

_MOST, _LARGEST_BYTES = 2, 64 << 20
"""So many files are kept, the last and the best of a run; none that is larger."""

_State = tuple[int, ...]


class _Kept(NamedTuple):
    state: _State
    checkpoint: Checkpoint


_kept: OrderedDict[Path, _Kept] = OrderedDict()


def checkpoint_at(folder: RunFolder, path: Path) -> Checkpoint:
    """The checkpoint in a file of a run. It may be given to others too: nobody changes it.

    Raises:
        CheckpointError: truncated, damaged, or of another format. RunError: it cannot be read.
    """
    place, state = path.absolute(), _state_of(path)
    known = _kept.pop(place, None)
    if known is None or known.state != state:
        content = folder.read_bytes(path, path.name)
        known = _Kept(state, Checkpoint.from_bytes(content, str(path)))
        if not state or len(content) > _LARGEST_BYTES:
            return known.checkpoint
    _kept[place] = known
    while len(_kept) > _MOST:
        _kept.popitem(last=False)
    return known.checkpoint


def _state_of(path: Path) -> _State:
    """What changes with a file; empty where nothing can be told."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
