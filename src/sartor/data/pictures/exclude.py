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
from ...errors import DataError, SartorWarning, UsageError
from ...files import read_regular
from ..dataset import Dataset
from ..roster import Changes

_SHOWN = 3


def read_exclusions(path: Path) -> dict[str, str]:
    """The names in a list, each with its reason or "".

    Raises:
        UsageError: it cannot be read; or a line is damaged, which is named.
    """
    try:
        text = read_regular(path).decode("utf-8-sig", errors="surrogateescape")
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
    if not entries:
        return {}
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
    excluded = match(entries, dataset.names(), known=dataset.excluded)
    numbers = dataset.everything().kept
    return changed(dataset, {int(numbers[row]): why for row, why in excluded.items()}, Changes())


def changed(dataset: Dataset, excluded: Mapping[int, str], fixes: Changes) -> Dataset:
    """The dataset without some of its images, and others with new labels.

    Args:
        excluded: reasons by the number in `dataset.everything()`, as in `fixes`.

    Raises:
        DataError: nothing would be left.
    """
    if not excluded and not fixes:
        return dataset
    roster = dataset.everything()
    by_list = dict(sorted({**roster.by_list, **excluded}.items()))
    by_fixes = combined(roster.by_fixes, fixes)
    left_out = {**by_fixes.excluded, **by_list}
    rows = np.flatnonzero(~np.isin(roster.kept, np.fromiter(left_out, np.int64)))
    if not len(rows):
        raise DataError("Every image is excluded.", "Shorten the list of --exclude or --fixes.")
    kept, names = roster.kept[rows], dataset.names()
    return replace(
        dataset,
        images=dataset.images if len(rows) == len(dataset) else dataset.images[rows],
        labels=relabelled(roster.labels, by_fixes)[kept],
        test=renumbered(dataset.test, rows),
        val=renumbered(dataset.val, rows),
        groups=None if dataset.groups is None else tuple(dataset.groups[row] for row in rows),
        files=dataset.files if len(rows) == len(dataset) else tuple(names[row] for row in rows),
        excluded={**dataset.excluded, **{roster.names[i]: why for i, why in left_out.items()}},
        roster=replace(roster, kept=kept, by_list=by_list, by_fixes=by_fixes),
    )


def combined(before: Changes, after: Changes) -> Changes:
    """Both; where they differ, what comes after."""
    labels = {**before.labels, **after.labels}
    excluded = {i: why for i, why in before.excluded.items() if i not in after.labels}
    return Changes(
        excluded={**excluded, **after.excluded},
        labels={i: label for i, label in labels.items() if i not in after.excluded},
    )


def relabelled(labels: Int64Array, fixes: Changes) -> Int64Array:
    """Labels with those that fixes replace."""
    if not fixes.labels:
        return labels
    corrected = labels.copy()
    for index, new in fixes.labels.items():
        corrected[index] = new.label
    return corrected


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
