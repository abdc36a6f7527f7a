"""A bundle without a network, for what concerns only its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sartor.bundle.format import Architecture, preprocess_to_json, write_bundle
from sartor.data.pictures.preprocess import Preprocess
from sartor.inference.calibration import Calibration

PREPROCESS = Preprocess(
    channels=3, height=4, width=5, resize="letterbox", mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25)
)
PARTS = {
    "model.safetensors": bytes(range(256)),
    "golden/pictures/000.png": b"not looked at",
    "README.md": b"# A card\n",
}


def record(**changes: Any) -> dict[str, Any]:
    """What bundle.json says, with some of it replaced."""
    architecture = Architecture(
        model="lenet",
        own=False,
        input_shape=PREPROCESS.input_shape,
        num_classes=3,
        parameters=17,
        loss="bce",
        tta="flip",
        memory_format="contiguous",
    )
    return {
        "architecture": architecture.to_json(),
        "classes": ["ä", "b", "c"],
        "preprocess": preprocess_to_json(PREPROCESS),
        "calibration": Calibration(temperature=1.5).to_json(),
        **changes,
    }


def written(out: Path, **changes: Any) -> Path:
    """The bundle on disk."""
    write_bundle(out, record(**changes), PARTS)
    return out
