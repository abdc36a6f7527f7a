"""Check: what is wrong with a set, before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import Dataset
from ..data.objects import dataset_of
from ..data.pictures.exclude import match, read_exclusions, without
from ..data.pictures.prepare import Prepared, prepared
from ..data.sources import as_asked, find_source
from ..data.splits.split import PARTS, Split
from ..errors import DataError
from ..inspection.check.files import unreadable
from ..inspection.check.finding import Finding
from ..inspection.check.report import CheckReport
from ..inspection.check.running import by_severity, run_checks
from ..inspection.check.subject import Subject
from ..inspection.check.table import chosen
from ..recipe import Recipe
from .notes import Sink, noting
from .splitting import split_of


def check(
    data: Any = None,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    fast: bool = False,
    on_event: Sink | None = None,
    **settings: Any,
) -> CheckReport:
    """Look for faults in a set: files, classes, copies, leakage, shortcuts, wrong labels.

    Read-only: nothing is deleted, moved or replaced. All parts are looked at, the test part too;
    nothing of what is found there reaches any training.

    Args:
        data: a named set, a path, a `Dataset`, or what `fit` takes besides, such as
            (images, labels); by default "digits".
        only, skip: names of checks, as `sartor check --help` lists them.
        fast: only those that `fit` runs before its first step.
        on_event: told what takes long.
        settings: of the data and its preparation, such as image_size=64, test_fraction=0.3, seed=1.

    Raises:
        UsageError: an unknown name. DataError: there is nothing to look at.
    """
    names = chosen(only, skip, fast=fast)
    recipe = Recipe().with_settings(settings)
    if data is not None and not isinstance(data, str | Path | Dataset):
        data = dataset_of(data, recipe.data, recipe.preprocess, on_event=on_event)
    if isinstance(data, Dataset):
        dataset = as_asked(data, recipe.data, recipe.preprocess, on_event=on_event)
        return run_checks(_subject(dataset, recipe, on_event), names)
    if data is not None:
        recipe = recipe.with_settings({"source": str(data)})
    opened = find_source(recipe.data, note=noting(on_event))
    entries = read_exclusions(Path(recipe.data.exclude)) if recipe.data.exclude else {}
    if isinstance(opened, Dataset):
        return run_checks(_subject(without(opened, entries), recipe, on_event), names)
    listed = opened.pictures.names
    left_out = match(entries, listed, root=recipe.data.source, known={})
    pictures = prepared(opened, recipe.preprocess, excluded=left_out, on_event=on_event)
    try:
        # What cannot be read is a finding, and not the end.
        dataset = pictures.dataset(excluded={**pictures.facts.faults, **left_out})
    except DataError as error:
        return _nothing_to_check(pictures, error)
    subject = _subject(dataset, recipe, on_event)
    return run_checks(replace(subject, prepared=pictures, left_out=left_out), names)


def subject_of(dataset: Dataset, split: Split, *, seed: int = 0) -> Subject:
    """A dataset at hand, and what was seen of its pictures where it was made of some."""
    origin = dataset.origin
    if origin is None:
        return Subject(dataset=dataset, split=split, seed=seed)
    left_out = {**origin.fixes.excluded, **origin.excluded}
    pictures = prepared(origin.listing, origin.settings, excluded=left_out)
    return Subject(dataset=dataset, split=split, seed=seed, prepared=pictures, left_out=left_out)


def _subject(dataset: Dataset, recipe: Recipe, on_event: Sink | None) -> Subject:
    split, indivisible = _split_or_reason(recipe, dataset)
    subject = subject_of(dataset, split, seed=recipe.training.seed)
    return replace(subject, note=noting(on_event), indivisible=indivisible)


def _split_or_reason(recipe: Recipe, dataset: Dataset) -> tuple[Split, DataError | None]:
    """The split that training would use; where there is none, all for training, and why."""
    try:
        return split_of(recipe, dataset), None
    except DataError as error:
        none = np.empty(0, np.int64)
        val, test = (none if part is None else part for part in (dataset.val, dataset.test))
        rest = np.setdiff1d(np.arange(len(dataset)), np.concatenate([val, test]))
        return Split(rest, val, test), error


def _nothing_to_check(pictures: Prepared, error: DataError) -> CheckReport:
    """What can be said where so little can be read that it makes no dataset."""
    rest = Finding(
        check="files",
        kind="no dataset",
        severity="error",
        summary=f"What can be read makes no dataset. {error.message}",
        remedy=error.hint,
    )
    return CheckReport(
        source=pictures.listing.name,
        images=int(pictures.facts.readable.sum()),
        parts=dict.fromkeys(PARTS, 0),
        findings=by_severity([*unreadable(pictures), rest]),
        checked={"files": 0.0},
    )
