"""Check: what is wrong with a set, before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..data.dataset import Dataset
from ..data.prepare import Prepared, prepared
from ..data.sources import find_source
from ..data.split import PARTS, make_split
from ..errors import DataError
from ..inspection.check.files import unreadable
from ..inspection.check.finding import Finding
from ..inspection.check.report import CheckReport
from ..inspection.check.running import by_severity, run_checks
from ..inspection.check.subject import Subject
from ..inspection.check.table import chosen
from ..recipe import Recipe
from .notes import Sink, noting


def check(
    data: str | Path | Dataset | None = None,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    fast: bool = False,
    on_event: Sink | None = None,
    **settings: Any,
) -> CheckReport:
    """Look for faults in a set: files, classes, copies, leakage, shortcuts, wrong labels.

    Reads alone: nothing is deleted, moved or replaced. All parts are looked at, the test part too;
    nothing of what is found there reaches any training.

    Args:
        data: a named set, a path, or a `Dataset`; by default "digits".
        only, skip: names of checks, as `sartor check --help` lists them.
        fast: only those that `fit` runs before its first step.
        on_event: told what takes long.
        settings: of the data and its preparation, such as image_size=64, test_fraction=0.3, seed=1.

    Raises:
        UsageError: an unknown name. DataError: there is nothing to look at.
    """
    names = chosen(only, skip, fast=fast)
    recipe = Recipe().with_settings(settings)
    if isinstance(data, Dataset):
        return _checked(data, None, recipe, names, on_event)
    if data is not None:
        recipe = recipe.with_settings({"source": str(data)})
    opened = find_source(recipe.data, note=noting(on_event))
    if isinstance(opened, Dataset):
        return _checked(opened, None, recipe, names, on_event)
    pictures = prepared(opened, recipe.preprocess, on_event=on_event)
    try:
        dataset = pictures.dataset(excluded=pictures.facts.faults)
    except DataError as error:
        return _nothing_to_check(pictures, error)
    return _checked(dataset, pictures, recipe, names, on_event)


def _checked(
    dataset: Dataset,
    pictures: Prepared | None,
    recipe: Recipe,
    names: Iterable[str],
    on_event: Sink | None,
) -> CheckReport:
    split = make_split(
        dataset,
        val_fraction=recipe.data.val_fraction,
        test_fraction=recipe.data.test_fraction,
        seed=recipe.training.seed,
    )
    subject = Subject(
        dataset=dataset,
        split=split,
        prepared=pictures,
        seed=recipe.training.seed,
        note=noting(on_event),
    )
    return run_checks(subject, names)


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
