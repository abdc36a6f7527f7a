"""How fast a trained network answers: many images at once, and a single one."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from .contenders import Predictor
from .material import Array, Material

TIMES = 3
"""That all images are predicted, after a first time that is told apart."""
_WARM_UPS = 50
_CALLS = 2000
_SECONDS = 1.0
"""What the calls for one image take at most."""


def measure(predictor: Predictor, material: Material) -> dict[str, Any]:
    """Seconds of all images, seconds of one, and how many answers are those of plain torch."""
    images, _ = material.part(head=False)
    began = time.perf_counter()
    answers = predictor.many(images)
    found: dict[str, Any] = {"first_seconds": time.perf_counter() - began}
    found["seconds"] = statistics.median(_seconds(predictor, images) for _ in range(TIMES))
    return found | _latency(predictor, images) | {"agreement": _agreement(material, answers)}


def _seconds(predictor: Predictor, images: Array) -> float:
    began = time.perf_counter()
    predictor.many(images)
    return time.perf_counter() - began


def _latency(predictor: Predictor, images: Array) -> dict[str, float]:
    """The median and the 99th percentile of one call, in seconds; none where one is no use."""
    times: list[float] = []
    try:
        for number in range(_WARM_UPS):
            predictor.one(images[number % len(images)])
    except NotImplementedError:
        return {}
    end = time.perf_counter() + _SECONDS
    while len(times) < _CALLS and (not times or time.perf_counter() < end):
        image = images[len(times) % len(images)]
        began = time.perf_counter()
        predictor.one(image)
        times.append(time.perf_counter() - began)
    return {
        "one_p50": float(np.percentile(times, 50)),
        "one_p99": float(np.percentile(times, 99)),
        "calls": float(len(times)),
    }


def _agreement(material: Material, answers: Array) -> float:
    """Share of the images with the class that PyTorch's own modules give."""
    from .contenders.plain import Predicting

    images, _ = material.part(head=False)
    return float(np.mean(Predicting(material).many(images) == answers))
