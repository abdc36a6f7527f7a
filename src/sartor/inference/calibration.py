"""What was fitted on validation images so that a network's outputs can be acted upon."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import AnyArray, BoolArray, Float32Array, Float64Array
from ..errors import DataError

EVERY_CLASS = 2.0
"""A threshold that no sum of probabilities exceeds: every class is in every set."""
METHODS = ("mahalanobis", "neighbours", "angles", "energy")
"""Ways to score novelty; `inference.novelty.Novelty` says what each does."""
ARRAYS: Mapping[str, tuple[str, ...]] = {
    "mahalanobis": ("centre", "whitening", "means"),
    "neighbours": ("centre", "rows"),
    "angles": ("rows",),
    "energy": (),
}
"""Which arrays each of them needs."""
_PREFIX = "novelty."
_AGAIN = "Fit it again, or export the bundle again."


@dataclass(frozen=True, kw_only=True, eq=False)
class NoveltyScore:
    """How unlike the training images an image is: the higher, the more."""

    method: str
    """One of `METHODS`, the one that told noise from validation images best."""
    layer: str
    """Name of the module whose input is the features; empty where logits are enough."""
    arrays: Mapping[str, Float32Array] = field(default_factory=dict)
    """As `ARRAYS` lists them, of features (F,): centre (F,), whitening (F, D) and the means of the
    classes (M, D) for mahalanobis; centre (F,) and the features of training images without it (R,
    F) for neighbours; these at length 1 for angles."""
    table: Float32Array
    """Scores of validation images, ascending: all of them, or 1,001 evenly chosen ones."""
    threshold: float | None
    """An image with a higher score is unknown; None where too few images say what is usual."""
    false_alarms: float
    """The share of images that are like the validation images and unknown all the same; at most
    this on average."""
    images: int = 0
    """Validation images behind table and threshold."""
    separation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each method the area under the ROC curve for each kind of noise, against validation
    images: how well it tells them apart."""

    def percentile(self, scores: Float32Array) -> Float64Array:
        """How many of 100 validation images have at most this score, (N,); NaN where it is NaN."""
        places = np.searchsorted(self.table, scores, side="right")
        result: Float64Array = np.where(np.isnan(scores), np.nan, 100 * places / len(self.table))
        return result

    def unknown(self, scores: Float32Array) -> BoolArray:
        """Whether each is too unlike the training images; what has no finite score is, too."""
        assert self.threshold is not None, "who asks has a threshold"
        return ~(scores <= np.float32(self.threshold))

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as plain values for strict JSON."""
        return {
            "method": self.method,
            "layer": self.layer,
            "threshold": self.threshold,
            "false_alarms": self.false_alarms,
            "images": self.images,
            "separation": {name: dict(kinds) for name, kinds in self.separation.items()},
            "table": self.table.tolist(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Temperature, and where they were fitted the thresholds; part of a run and of a bundle."""

    temperature: float = 1.0
    """What the logits are divided by; 1 leaves them as they are."""
    coverage: float | None = None
    """In 0..1: the share of pictures whose set is to hold the true class; None without sets."""
    set_threshold: float | None = None
    """Classes join a set, the most probable first, until their probabilities add up to more than
    this; above 1, where there were too few images for less, every class is in every set."""
    novelty: NoveltyScore | None = None
    """None where there is no score."""
    images: int = 0
    """Validation images that all this was fitted on."""
    groups: int | None = None
    """Groups that these come from; None where each stands alone."""
    remarks: tuple[str, ...] = ()
    """What could not be fitted and why, in sentences."""

    @property
    def novelty_threshold(self) -> float | None:
        """A picture with a higher novelty score is unknown; None without one."""
        return None if self.novelty is None else self.novelty.threshold

    @property
    def every_class(self) -> bool:
        """Whether every set holds every class."""
        return self.set_threshold is not None and self.set_threshold > 1

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as plain values for strict JSON; `from_json` reads it."""
        return {
            "temperature": self.temperature,
            "coverage": self.coverage,
            "set_threshold": self.set_threshold,
            "images": self.images,
            "groups": self.groups,
            "remarks": list(self.remarks),
            "novelty": self.novelty and self.novelty.to_json(),
        }

    def arrays(self) -> dict[str, Float32Array]:
        """What JSON does not hold, by name, to be kept beside it."""
        own = self.novelty.arrays if self.novelty else {}
        return {f"{_PREFIX}{name}": array for name, array in own.items()}

    @classmethod
    def from_json(cls, document: Any, arrays: Mapping[str, AnyArray]) -> Calibration:
        """What `to_json` and `arrays` gave.

        Raises:
            DataError: the two hold something else, or do not fit.
        """
        faults = list(_faults(document, arrays))
        if faults:
            raise DataError(f"The calibration cannot be used: {faults[0]}.", _AGAIN)
        novelty = document["novelty"]
        known = {name: document[name] for name in _NUMBERS}
        return cls(
            **known,
            remarks=tuple(document["remarks"]),
            novelty=novelty
            and NoveltyScore(
                method=novelty["method"],
                layer=novelty["layer"],
                arrays={
                    name: np.asarray(arrays[_PREFIX + name], np.float32)
                    for name in ARRAYS[novelty["method"]]
                },
                table=np.asarray(novelty["table"], np.float32),
                threshold=novelty["threshold"],
                false_alarms=novelty["false_alarms"],
                images=novelty["images"],
                separation=novelty["separation"],
            ),
        )


_NUMBERS = ("temperature", "coverage", "set_threshold", "images", "groups")
_HIGHEST_TEMPERATURE = 1e3


def _faults(document: Any, arrays: Mapping[str, AnyArray]) -> Iterator[str]:
    """What is wrong with a document that says it is a calibration."""
    wanted = {*_NUMBERS, "remarks", "novelty"}
    if not isinstance(document, Mapping) or not wanted <= document.keys():
        yield f"it is not a table with {', '.join(sorted(wanted))}"
        return
    if not _number(document["temperature"], 1 / _HIGHEST_TEMPERATURE, _HIGHEST_TEMPERATURE):
        yield "temperature is not a number above 0"
    for name, high in (("coverage", 1.0), ("set_threshold", EVERY_CLASS)):
        if document[name] is not None and not _number(document[name], 0, high):
            yield f"{name} is not a number in 0..{high:g}"
    if (document["coverage"] is None) != (document["set_threshold"] is None):
        yield "of coverage and set_threshold there is only one"
    if not _count(document["images"]) or not (
        document["groups"] is None or _count(document["groups"])
    ):
        yield "images and groups are not whole numbers"
    if not isinstance(document["remarks"], list) or not all(
        isinstance(one, str) for one in document["remarks"]
    ):
        yield "remarks is not a list of sentences"
    if document["novelty"] is not None:
        yield from _novelty_faults(document["novelty"], arrays)


def _novelty_faults(novelty: Any, arrays: Mapping[str, AnyArray]) -> Iterator[str]:
    wanted = {"method", "layer", "threshold", "false_alarms", "images", "separation", "table"}
    if not isinstance(novelty, Mapping) or not wanted <= novelty.keys():
        yield f"novelty is not a table with {', '.join(sorted(wanted))}"
        return
    if novelty["method"] not in METHODS:
        yield f"it does not know the novelty score {novelty['method']!r}"
        return
    if not isinstance(novelty["layer"], str):
        yield "the layer of novelty is not a name"
    if novelty["threshold"] is not None and not _number(novelty["threshold"]):
        yield "the threshold of novelty is not a number"
    if not _number(novelty["false_alarms"], 0, 1) or not isinstance(novelty["separation"], Mapping):
        yield "false_alarms or separation of novelty is not what it should be"
    if not _count(novelty["images"]):
        yield "images of novelty is not a whole number"
    table = novelty["table"]
    if not isinstance(table, list) or not table or not all(map(_number, table)):
        yield "the table of novelty is not a list of numbers"
    elif any(one > other for one, other in itertools.pairwise(table)):
        yield "the table of novelty does not ascend"
    found = {name: arrays.get(_PREFIX + name) for name in ARRAYS[novelty["method"]]}
    lacking = [name for name, array in found.items() if array is None]
    if lacking:
        yield f"the arrays {', '.join(lacking)} of novelty are missing"
        return
    if not all(array is not None and np.isfinite(array).all() for array in found.values()):
        yield "an array of novelty is not finite"
    shapes = {name: array.shape for name, array in found.items() if array is not None}
    if novelty["method"] == "mahalanobis":
        centre, whitening, means = shapes["centre"], shapes["whitening"], shapes["means"]
        fits = len(centre) == 1 and len(whitening) == len(means) == 2
        if not fits or whitening[0] != centre[0] or means[1] != whitening[1] or not means[0]:
            yield f"the arrays of novelty do not fit each other: {shapes}"
    elif "rows" in shapes:
        rows, centre = shapes["rows"], shapes.get("centre", shapes["rows"][1:])
        if len(rows) != 2 or not rows[0] or centre != rows[1:]:
            yield f"the arrays of novelty do not fit each other: {shapes}"


def _number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and low <= value <= high


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
