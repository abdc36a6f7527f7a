"""A calibration in one file that proves itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..arrays import AnyArray
from ..errors import DataError, RunError
from ..models.custom import reason_of
from .calibration import Calibration

FORMAT = 1
_NOTHING = "nothing"
"""The name of an empty array, for a file without any cannot be read by every version."""


def to_bytes(calibration: Calibration, weights_sha256: str) -> bytes:
    """A safetensors file with the arrays; the rest, and a checksum over all, in its metadata."""
    arrays: dict[str, AnyArray] = dict(calibration.arrays()) or {_NOTHING: np.empty(0, np.float32)}
    document = json.dumps(
        {"format": FORMAT, "weights_sha256": weights_sha256, "calibration": calibration.to_json()},
        sort_keys=True,
        allow_nan=False,
    )
    kept = {"document": document, "sha256": _checksum(document, arrays)}
    return bytes(save(arrays, {"sartor": json.dumps(kept, separators=(",", ":"))}))


def from_bytes(content: bytes, name: str) -> tuple[Calibration, str]:
    """The calibration in a file of that content, and the hash of the weights it belongs to.

    Raises:
        RunError: truncated, damaged by as little as a bit, or of another format.
    """
    try:
        arrays = load(content)
        kept = _metadata(content)
        document = json.loads(kept["document"])
        if kept["sha256"] != _checksum(kept["document"], arrays):
            raise ValueError("its checksum does not match")
        if document["format"] != FORMAT:
            raise ValueError(f"it has the format {document['format']}, and {FORMAT} is known")
        return Calibration.from_json(document["calibration"], arrays), document["weights_sha256"]
    except (SafetensorError, DataError, *_DAMAGE) as error:
        reason = error.message if isinstance(error, DataError) else reason_of(error)
        raise RunError(
            f"{name} is damaged: {reason.rstrip('.')}.", "Delete it; evaluating fits it again."
        ) from error


_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What JSON and its use leave with where it says something else than was written."""


def _checksum(document: str, arrays: dict[str, AnyArray]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _metadata(content: bytes) -> dict[str, Any]:
    # The layout of safetensors: eight bytes with the length of a JSON header, the header, the data.
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["sartor"]))
