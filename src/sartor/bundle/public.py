"""What everybody may know of a bundle: on a public page, and from a server."""

from __future__ import annotations

from typing import Any

from .format import Bundle

_KEYS = (
    "sartor",
    "architecture",
    "classes",
    "preprocess",
    "input_ranges",
    "weights_sha256",
    "licence",
)
_FIGURES = ("split", "count", "accuracy", "accuracy_interval")


def public(bundle: Bundle) -> dict[str, Any]:
    """Plain values for JSON: nothing of single pictures, nor of where data lay and how it was
    trained on.

    What a later version adds to bundle.json is private until it is listed here.
    """
    record, calibration = bundle.record, bundle.calibration.to_json()
    if calibration["novelty"]:
        # How well each score told kinds of noise apart is of no use to who asks for answers.
        calibration["novelty"].pop("separation", None)
    figures = record.get("figures")
    return {
        "bundle_sha256": bundle.sha256,
        **{key: record[key] for key in _KEYS if key in record},
        "calibration": calibration,
        "figures": figures and {key: figures[key] for key in _FIGURES},
    }
