"""The list of what is left out of a dataset: a name a line, and why.

# a remark
cats/17.jpg<TAB>the file is truncated
"odd\\tname.png"<TAB>a name that would be misread stands in quotes, as in JSON
"""

from __future__ import annotations

import difflib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...arrays import Int64Array
from ...errors import SartorWarning, UsageError
from ..dataset import Dataset

_SHOWN = 3


def read_exclusions(path: Path) -> dict[str, str]:
    """The names in a list, each with its reason or "".

    Raises:
        UsageError: it cannot be read; or a line is damaged, which is named.
    """
    try:
        text = path.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"Cannot read the list {path}: {reason}.", "Check the path.") from None
    entries = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition("\t")
        entries[_plain(name, f"{path}, line {number}")] = reason.strip()
    return entries


def exclusion_list(entries: Mapping[str, str]) -> str:
    """The text of a list that `read_exclusions` reads back to the same names and reasons."""
    lines = []
    for name, reason in entries.items():
        told = " ".join(reason.encode("utf-8", "replace").decode().split())
        lines.append(f"{_quoted(name)}\t{told}".rstrip())
    return "".join(f"{line}\n" for line in lines)


def match(
    entries: Mapping[str, str], names: Sequence[str], *, root: str = "", known: Mapping[str, str]
) -> dict[int, str]:
    """Reasons by index into `names`. A name that matches nothing is warned of.

    Args:
        root: folder in which the names lie; entries may be paths into it.
        known: names that were left out before, which need no warning.

    Raises:
        UsageError: there are entries and none of them matches.
    """
    places = {name: index for index, name in enumerate(names)}
    matched, strange = {}, []
    for entry, reason in entries.items():
        index = next((places[one] for one in spellings(entry, root) if one in places), None)
        if index is not None:
            matched[index] = reason
        elif not any(one in known for one in spellings(entry, root)):
            strange.append(entry)
    if strange and not matched:
        raise UsageError(
            f"Nothing to exclude was found in the data: {nearest(strange[0], names)}.",
            "Names are those of the files below the source, or numbers where there are no files.",
        )
    if strange:
        told = ", ".join(nearest(one, names) for one in strange[:_SHOWN])
        more = f" and {len(strange) - _SHOWN:,} more" if len(strange) > _SHOWN else ""
        warnings.warn(f"Not in the data, so not excluded: {told}{more}.", SartorWarning, 3)
    return matched


def without(dataset: Dataset, entries: Mapping[str, str]) -> Dataset:
    """The dataset without what the entries name: its files, or its indices where it has none.

    Raises:
        As `match`. DataError: nothing would be left.
    """
    names = dataset.files or tuple(map(str, range(len(dataset))))
    excluded = match(entries, names, known=dataset.excluded)
    if not excluded:
        return dataset
    kept = kept_indices(len(dataset), excluded)
    return replace(
        dataset,
        images=dataset.images[kept],
        labels=dataset.labels[kept],
        test=renumbered(dataset.test, kept),
        val=renumbered(dataset.val, kept),
        groups=None if dataset.groups is None else tuple(dataset.groups[i] for i in kept),
        files=tuple(names[index] for index in kept),
        excluded={**dataset.excluded, **{names[i]: why for i, why in excluded.items()}},
    )


def kept_indices(count: int, excluded: Mapping[int, str]) -> Int64Array:
    """The indices that are not excluded, ascending."""
    return np.setdiff1d(np.arange(count, dtype=np.int64), np.fromiter(excluded, np.int64))


def renumbered(part: Int64Array | None, kept: Int64Array) -> Int64Array | None:
    """Indices of a part, as they are when only `kept` is left; what is not kept falls away."""
    if part is None:
        return None
    return np.searchsorted(kept, part[np.isin(part, kept)])


def spellings(entry: str, root: str) -> list[str]:
    """What the data may call it: as written, tidied, or as a path below the root."""
    tidy = Path(entry).as_posix()
    try:
        return [entry, tidy, Path(os.path.relpath(entry, root)).as_posix() if root else tidy]
    except ValueError:  # on another drive
        return [entry, tidy]


def nearest(entry: str, names: Sequence[str]) -> str:
    """The entry, and the name that it may stand for."""
    # All names would be too much to compare with.
    last = Path(entry).name
    alike = [name for name in names if Path(name).name == last][:100] or names[:1000]
    near = difflib.get_close_matches(entry, alike, n=1, cutoff=0.8)
    return f'"{entry}" (did you mean "{near[0]}"?)' if near else f'"{entry}"'


def _quoted(name: str) -> str:
    strange = name != name.strip() or name[:1] in ('"', "#") or not name.isprintable()
    return json.dumps(name) if strange else name


def _plain(written: str, where: str) -> str:
    if not written.startswith('"'):
        return written.strip()
    try:
        name = json.loads(written)
    except ValueError:
        name = None
    if not isinstance(name, str):
        raise UsageError(f"{where}: the name {written} is damaged.", "Correct that line.")
    return name
