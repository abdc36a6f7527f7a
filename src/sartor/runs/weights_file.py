"""Which weights a checkpoint holds, read without torch: names, shapes and bytes suffice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_PREFIX = "model."


def stored_weights_sha256(path: Path) -> str | None:
    """The hash of the weights in a checkpoint's file; None where it cannot be read as one.

    It equals `Checkpoint.weights_sha256`. Nothing else in the file is looked at or verified.
    """
    try:
        return _hash(path)
    # Damaged bytes can claim anything; whoever loads the weights will be told what is wrong.
    except Exception:
        return None


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        # The layout of safetensors: eight bytes with the length of a JSON header, the header, the
        # data. A damaged length must not fill the memory.
        length = min(int.from_bytes(stream.read(8), "little"), path.stat().st_size)
        header: dict[str, Any] = json.loads(stream.read(length))
        tensors = {
            name.removeprefix(_PREFIX): entry
            for name, entry in header.items()
            if name.startswith(_PREFIX)
        }
        if not tensors:
            raise ValueError("a header without weights")
        for name in sorted(tensors):
            digest.update(f"{name}{tuple(tensors[name]['shape'])}".encode())
            begin, end = tensors[name]["data_offsets"]
            stream.seek(8 + length + begin)
            digest.update(stream.read(end - begin))
    return digest.hexdigest()
