"""Divide a dataset as a recipe says, and warn of what the split cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays import Int64Array
from ..assembly import drawn_before_methods, split_method_of
from ..data.dataset import Dataset
from ..data.pictures.exclude import kept_indices
from ..data.pictures.indistinct import Hidden, what_is_hidden
from ..data.splits.duplicates import first_equals
from ..data.splits.split import Split, make_split
from ..errors import DataError
from ..evaluation.intervals import enough_images, wilson
from ..recipe import Recipe

_DECIDING = {
    "source",
    "val_fraction",
    "test_fraction",
    "split_method",
    "duplicates",
    "limit_per_class",
    "seed",
    "exclude",
    "fixes",
}
_NAMED = 5
_FAR_OFF = 0.5
_IMBALANCED = 1.5


def split_of(recipe: Recipe, dataset: Dataset) -> Split:
    """The split that the recipe describes.

    Raises:
        DataError: it cannot be made, or differs from the one that the recipe was resolved with.
    """
    settings = recipe.data
    if drawn_before_methods(recipe):
        dataset = replace(dataset, roster=None)
    _refuse_one_image(dataset)
    try:
        split = make_split(
            dataset,
            method=split_method_of(recipe, dataset),
            val_fraction=settings.val_fraction,
            test_fraction=settings.test_fraction,
            seed=recipe.training.seed,
            duplicates=settings.duplicates,
            limit_per_class=settings.limit_per_class,
        )
    except DataError as error:
        same = first_equals(dataset.images)
        most = np.flatnonzero(same == np.bincount(same).argmax())
        hidden = _hidden(dataset, most)
        if hidden is None:
            raise
        raise DataError(
            f"{error.message} {len(most):,} images are equal only once prepared: they differ in "
            f"{hidden.what}.",
            f"Show what tells them apart: {hidden.remedy}",
        ) from None
    if settings.split_hash and settings.split_hash != split.sha256(dataset.fingerprint):
        raise DataError(
            "The split is not the one that this recipe was made with, though the data is the same.",
            "Remove split_hash from the recipe to train on the new split all the same.",
        )
    return split


def _refuse_one_image(dataset: Dataset) -> None:
    """Equal images teach nothing: say why they are equal where that can be found out."""
    first = dataset.images[0]
    if not all(np.array_equal(image, first) for image in dataset.images[1:]):
        return
    hidden = _hidden(dataset, np.arange(len(dataset)))
    if hidden:
        raise DataError(
            f"All {len(dataset):,} images are equal once prepared: they differ only in "
            f"{hidden.what}.",
            f"Show what tells them apart: {hidden.remedy}",
        )
    raise DataError(
        f"All {len(dataset):,} images are equal: there is nothing to learn from.",
        "Look at the files of the source.",
    )


def _hidden(dataset: Dataset, indices: Int64Array) -> Hidden | None:
    """What was hidden of equal images when they were prepared; None where they are copies."""
    origin = dataset.origin
    if origin is None or len(indices) < 2:
        return None
    left_out = {**origin.fixes.excluded, **origin.excluded}
    rows = kept_indices(len(origin.listing), left_out)[indices]
    return what_is_hidden(origin.listing, origin.settings, rows.tolist())


def without_stale_split(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The same changes to a recipe, without the hashes that these may change."""
    stale = {"split_hash": ""} if _DECIDING & set(changes) else {}
    if "fixes" in changes:
        stale["fixes_sha256"] = ""
    return {**stale, **changes}


def touched_parts(dataset: Dataset, split: Split) -> Iterator[str]:
    """A sentence for each held-out part that exclusions or fixes touch."""
    roster = dataset.everything()
    given = roster.labels[roster.kept]
    for part in ("val", "test"):
        indices = split.part(part)
        corrected = int((dataset.labels[indices] != given[indices]).sum())
        left_out = len(split.left_out.get(part, ()))
        counts = ((left_out, "left out"), (corrected, "with a corrected label"))
        said = [f"{count:,} {what}" for count, what in counts if count]
        if said:
            yield (
                f"of the {part} split, {' and '.join(said)}: evaluate and report also give the "
                "figures as the data was given"
            )


def imbalanced(dataset: Dataset, split: Split) -> bool:
    """Whether the largest class has at least 1.5 times the training images of the smallest."""
    counts = np.bincount(dataset.labels[split.train])
    present = counts[counts > 0]
    return bool(present.max() >= _IMBALANCED * present.min())


def split_warnings(recipe: Recipe, dataset: Dataset, split: Split) -> Iterator[str]:
    """Reasons to distrust figures on this split, one sentence each."""
    yield from _small_classes(dataset, split)
    yield from _far_shares(recipe, dataset, split)


def _small_classes(dataset: Dataset, split: Split) -> Iterator[str]:
    """Classes with too few test images; nothing where no image is held out for testing."""
    enough = enough_images()
    counts = np.bincount(dataset.labels[split.test], minlength=len(dataset.classes)).tolist()
    pairs = zip(counts, dataset.classes, strict=True)
    small = sorted((count, name) for count, name in pairs if count < enough)
    if not len(split.test) or not small:
        return
    named = ", ".join(f"{name} {count}" for count, name in small[:_NAMED])
    more = f" and {len(small) - _NAMED} more classes" if len(small) > _NAMED else ""
    most = small[-1][0]
    right = round(0.9 * most)
    low, high = wilson(right, most)
    example = f" With {right} of {most} right, the 95 % interval is {low:.0%} to {high:.0%}."
    yield (
        f"Too few test images to trust the figures of: {named}{more}.{example if most else ''} "
        f"Set aside {enough} or more of each."
    )


def _far_shares(recipe: Recipe, dataset: Dataset, split: Split) -> Iterator[str]:
    """Parts whose size is far from what was asked for, because groups are kept together."""
    if dataset.groups is None and recipe.data.duplicates == "ignored":
        return
    drawn = {"test": dataset.test is None, "val": dataset.val is None}
    rest = len(dataset) - sum(len(split.part(part)) for part in drawn if not drawn[part])
    for part, asked in (("test", recipe.data.test_fraction), ("val", recipe.data.val_fraction)):
        if not drawn[part] or not asked:
            continue
        held = len(split.part(part))
        if abs(held - asked * rest) > max(_FAR_OFF * asked * rest, len(dataset.classes)):
            yield (
                f"The {part} split has {held / rest:.0%} of the images instead of {asked:.0%}: "
                "groups and equal pictures are not divided."
            )
        rest -= held
