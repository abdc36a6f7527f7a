"""Features: what a frozen backbone makes of images, computed once and kept in the cache.

On a processor ONNX Runtime may be several times as fast as PyTorch. Which of them computes is
measured once for a backbone, on a few images, and kept: they differ in the last bits, so each has
an array of its own.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from .. import files
from ..arrays import AnyArray, Float32Array, Int64Array, UInt8Array
from ..events import Preparing
from ..home import Note, cache_home, explain_cache_errors
from ..machine import available_cores
from ..models.weights import weights_sha256
from .feature_store import FeatureStore
from .forward import evaluating, precision
from .onnx_graph import Session, onnx_of

VERSION = 1
"""Changes when the same image and the same weights would give other features."""
BLOCK = 32
"""Images of a forward pass, always: libraries choose other kernels for other numbers, and an
image's features must not depend on which others were computed with it."""

ONNX, TORCH = "onnx", "torch"
LARGEST_DIFFERENCE = 1e-4
"""Between the features of the two, as a share of the largest feature."""
_MEASURED, _MIRRORED = "runtime.json", "-mirrored"
_WORTH_MEASURING = 64
"""Images that must be missing; measuring takes as long as a third of them."""
_IMAGES_MEASURED, _TURNS = 8, 1


@runtime_checkable
class Backbone(Protocol):
    """A network whose last layer is a linear one on pooled features."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """Normalised images float (B, C, H, W) -> features (B, F)."""


def backbone_in(network: nn.Module) -> Backbone | None:
    """The network, where it has features and a linear head on them."""
    head = getattr(network, "head", None)
    known = isinstance(head, nn.Linear) and callable(getattr(network, "features", None))
    return network if known and isinstance(network, Backbone) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Features:
    """The features of a dataset's images by one backbone, as far as they are computed."""

    network: nn.Module
    """A `Backbone` on its device, in its layout, with the weights that count."""
    name: str
    """What the backbone is called."""
    images: Tensor
    """uint8 (N, C, H, W), at the size of the network's input, on its device."""
    floats: Callable[[Tensor], Tensor]
    """Images uint8 (B, C, H, W) as the network takes them."""
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    """Mean and standard deviation of each channel, as `floats` uses them."""
    device: str
    amp_dtype: str
    pixels_sha256: UInt8Array
    """uint8 (N, 32): see `hashes_of`."""
    mirrored: bool = False
    """Of the mirrored images: another array in the cache."""
    runtime: str = "auto"
    """What computes: onnx, torch, or auto for the faster one."""
    store: FeatureStore = field(init=False)

    def __post_init__(self) -> None:
        assert backbone_in(self.network) is not None, "who asks for features has a backbone"
        folder = cache_home() / "features" / self._folder_name()
        if self.runtime == "auto":
            object.__setattr__(self, "runtime", self._known_runtime(folder))
        object.__setattr__(self, "store", self._opened(folder, self.runtime))

    def _opened(self, folder: Path, runtime: str) -> FeatureStore:
        """The array of what a runtime computed; PyTorch's, where it is still open which it is."""
        backbone = backbone_in(self.network)
        assert backbone is not None
        if runtime == ONNX:
            folder = folder.with_name(f"{folder.name}-{ONNX}")
        store = FeatureStore(folder=folder, width=backbone.head.in_features)
        store.open()
        return store

    def _known_runtime(self, folder: Path) -> str:
        """The only one there is, the one that was measured as the faster one, or that which most
        features were computed by; else auto, which is decided when something is computed."""
        if not self._may_be_onnx():
            return TORCH
        kept = _kept_runtime(_unmirrored(folder) / _MEASURED)
        if kept is not None:
            return kept
        for runtime in (ONNX, TORCH):
            known = self._opened(folder, runtime).rows_of(self.pixels_sha256) >= 0
            if 2 * known.sum() > len(known):
                return runtime
        return "auto"

    def _may_be_onnx(self) -> bool:
        installed = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
        return installed and self.device == "cpu" and self.amp_dtype == "float32"

    def missing(self) -> Int64Array:
        """Images whose features are not known yet, int64 (M,); of equal ones the first."""
        unknown = np.flatnonzero(self.store.rows_of(self.pixels_sha256) < 0)
        _, first = np.unique(self.pixels_sha256[unknown], axis=0, return_index=True)
        return unknown[np.sort(first)]

    def of(self, indices: Int64Array) -> Float32Array:
        """Features float32 (M, F) of the images with these indices; all of them are known."""
        rows = self.store.rows_of(self.pixels_sha256[indices])
        assert (rows >= 0).all(), "computed before they are asked for"
        return self.store.features(rows)

    def kept(self, indices: Int64Array) -> Float32Array | None:
        """As `of`, where all of them are known."""
        rows = self.store.rows_of(self.pixels_sha256[indices])
        return None if (rows < 0).any() else self.store.features(rows)

    def of_others(self, images: Tensor) -> Float32Array:
        """Features of images uint8 (N, C, H, W) that are prepared as these and not among them;
        computed as far as they are not in the cache.

        Raises:
            FileError: the cache cannot be written.
        """
        # The weights are hashed and the array is opened once, whatever is asked of them.
        others = copy.copy(self)
        object.__setattr__(others, "images", images)
        object.__setattr__(others, "pixels_sha256", hashes_of(images.cpu().numpy()))
        for _ in others.computed(lambda _: None):
            pass
        for name in ("runtime", "store", "_session"):
            if name in vars(others):
                vars(self)[name] = vars(others)[name]
        return others.of(np.arange(len(images)))

    def computed(self, note: Note) -> Iterator[Preparing]:
        """Compute what is missing, block by block, and say how far it is.

        Raises:
            FileError: the cache cannot be written.
        """
        missing = self.missing()
        if not len(missing):
            return
        if self.runtime == "auto":
            self._measure(missing, note)
        with self.store.filling(note):
            missing = self.missing()  # another process may have come first
            compute = self._computation()
            began = time.perf_counter()
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                self.store.append(self.pixels_sha256[block], compute(block))
                done, seconds = start + len(block), time.perf_counter() - began
                yield Preparing(
                    activity="features",
                    done=done,
                    total=len(missing),
                    pictures_per_second=done / max(seconds, 1e-9),
                    seconds_left=seconds / done * (len(missing) - done),
                )

    def _measure(self, missing: Int64Array, note: Note) -> None:
        """Decide which runtime computes, by a few of the images, and keep it."""
        folder, runtime = _unmirrored(self.store.folder), TORCH
        if len(missing) >= _WORTH_MEASURING and (session := self._session) is not None:
            some = missing[:_IMAGES_MEASURED]
            seconds, found = _in_turns(
                {ONNX: lambda: self._by_onnx(session, some), TORCH: lambda: self._by_torch(some)}
            )
            pace = {name: len(some) / one for name, one in seconds.items()}
            difference = float(np.abs(found[ONNX] - found[TORCH]).max())
            if difference > LARGEST_DIFFERENCE * float(np.abs(found[TORCH]).max()):
                note(
                    "features by ONNX Runtime differ from those by PyTorch, "
                    "so PyTorch computes them"
                )
            elif pace[ONNX] > pace[TORCH]:
                runtime = ONNX
            note(_sentence(runtime, pace))
            with explain_cache_errors():
                files.make_folder(folder)
                kept = {"runtime": runtime, "pictures_per_second": pace, "difference": difference}
                files.write_json(folder / _MEASURED, kept)
        object.__setattr__(self, "runtime", runtime)
        object.__setattr__(self, "store", self._opened(self.store.folder, runtime))

    def _computation(self) -> Callable[[Int64Array], Float32Array]:
        """From at most `BLOCK` indices of images to their features."""
        by: Callable[[Int64Array], Float32Array] = self._by_torch
        if self.runtime == ONNX:
            session = self._session
            assert session is not None, "it was there when it was chosen"
            by = functools.partial(self._by_onnx, session)

        def computed(indices: Int64Array) -> Float32Array:
            padded = np.concatenate([indices, np.repeat(indices[-1:], BLOCK - len(indices))])
            return by(padded)[: len(indices)]

        return computed

    @functools.cached_property
    def _session(self) -> Session | None:
        """The backbone in ONNX Runtime; None where it has an operation that is not known."""
        backbone = backbone_in(self.network)
        assert backbone is not None
        try:
            with evaluating(self.network):
                shape = tuple(self.images.shape[1:])
                graph = onnx_of(backbone.features, shape, *self.normalization)
            return Session(graph, torch.get_num_threads())
        except Exception:  # whatever two libraries make of a network of the user's own
            return None

    def _by_onnx(self, session: Session, indices: Int64Array) -> Float32Array:
        return session(self._pixels(indices).contiguous().numpy())

    def _by_torch(self, indices: Int64Array) -> Float32Array:
        backbone = backbone_in(self.network)
        assert backbone is not None
        with (
            evaluating(self.network),
            torch.inference_mode(),
            precision(self.device, self.amp_dtype),
        ):
            pixels = self._pixels(indices)
            found = backbone.features(self.floats(pixels)).float().cpu().numpy()
        return np.asarray(found, np.float32)

    def _pixels(self, indices: Int64Array) -> Tensor:
        images = self.images[torch.from_numpy(indices).to(self.images.device)]
        return images.flip(3) if self.mirrored else images

    def _folder_name(self) -> str:
        """Other weights or another normalisation are another array; pixels say the rest."""
        frozen = {
            name: tensor
            for name, tensor in self.network.state_dict().items()
            if not name.startswith("head.")
        }
        facts = [VERSION, BLOCK, weights_sha256(frozen), self.normalization, self.amp_dtype]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", self.name)[:60].lstrip(".") or "backbone"
        return f"{name}-{key}{_MIRRORED if self.mirrored else ''}"


def _in_turns(
    ways: Mapping[str, Callable[[], Float32Array]],
) -> tuple[dict[str, float], dict[str, Float32Array]]:
    """The least seconds that each takes, after a first time that does not count, and its result."""
    seconds, found = dict.fromkeys(ways, math.inf), {name: way() for name, way in ways.items()}
    for _ in range(_TURNS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds, found


def _unmirrored(folder: Path) -> Path:
    return folder.with_name(folder.name.removesuffix(_MIRRORED))


def _sentence(runtime: str, pace: Mapping[str, float]) -> str:
    names = {ONNX: "ONNX Runtime", TORCH: "PyTorch"}
    other = TORCH if runtime == ONNX else ONNX
    return (
        f"features by {names[runtime]}: {pace[runtime]:.0f} pictures/s, {names[other]} "
        f"{pace[other]:.0f} (measured on {_IMAGES_MEASURED})"
    )


def _kept_runtime(path: Path) -> str | None:
    """What was measured as the faster one; None where nothing was, or it cannot be read."""
    try:
        kept = json.loads(path.read_bytes())["runtime"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if kept in (ONNX, TORCH) else None


def hashes_of(images: AnyArray) -> UInt8Array:
    """SHA-256 of each image's bytes, uint8 (N, 32), of images uint8 (N, C, H, W)."""

    def one(image: AnyArray) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(image).data).digest()

    with ThreadPoolExecutor(available_cores()) as pool:
        digests = b"".join(pool.map(one, images))
    return np.frombuffer(digests, np.uint8).reshape(len(images), 32)
