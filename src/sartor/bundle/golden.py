"""Golden examples: pictures as files, what became of them, and what the network said.

    golden/pictures/NNN.EXT     the files as they lie in the data; PNG where there are no files
    golden/golden.json          for each its name, its class, and the whole answer
    golden/pixels.safetensors   images uint8 (N, H, W, C) after preprocess, probabilities, novelty,
                                and where it ships those of the network in 8 bits

Whoever runs a bundle can go from file to answer as was done here, and see where a difference
begins: in the pixels, or after them.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import AnyArray, Float32Array, Int64Array, UInt8Array
from ..data.dataset import Dataset
from ..data.listing import Listing
from ..data.pictures.decode import Header, header_of, opened, quiet_decoding
from ..data.pictures.preprocess import Preprocess, as_picture
from ..errors import BundleError, PictureError

FOLDER = "golden/pictures"
DOCUMENT, PIXELS = "golden/golden.json", "golden/pixels.safetensors"
EXACT_FORMATS = ("PNG", "GIF", "BMP", "PPM", "QOI")
"""Formats that leave a decoder no choice: everywhere the same pixels."""
MOST = 64
LEAST_PER_CLASS = 2
MOST_BYTES = 2_000_000
"""A larger file is taken only where a class has no smaller ones among its candidates."""
_CANDIDATES = 48
"""Of a class so many pictures are looked at, evenly spaced; the kinds among them come in turn."""
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "PPM": "ppm"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Pictures that were chosen, before the network is asked."""

    contents: Mapping[str, bytes]
    """The file of each, by its name in the bundle."""
    rows: Int64Array
    """int64 (N,): which images of the dataset they are."""
    labels: Int64Array
    """int64 (N,): the true classes."""
    images: UInt8Array
    """uint8 (N, H, W, C), after preprocess."""
    as_they_lie: bool
    """Whether they are the files of the data, and not pictures made of its arrays."""
    kinds: tuple[str, ...]
    """Format, mode and size of each, such as "PNG RGBA 61x37"."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Golden:
    """The golden examples of a bundle, read back."""

    names: tuple[str, ...]
    """Of the files, in the bundle."""
    labels: tuple[str, ...]
    """The true classes."""
    answers: tuple[Mapping[str, Any], ...]
    images: UInt8Array
    """uint8 (N, H, W, C)."""
    probabilities: Float32Array
    """float32 (N, K)."""
    novelty: Float32Array | None
    """float32 (N,), where there is a score."""
    int8: Float32Array | None = None
    """float32 (N, K): probabilities of the network in 8 bits, where it ships."""

    def __len__(self) -> int:
        return len(self.names)


def choose(
    dataset: Dataset,
    indices: Int64Array,
    preprocess: Preprocess,
    *,
    reserve: Int64Array | None = None,
) -> Examples:
    """At least two of each class and up to 64 in all, by rules that know no answer.

    Classes take turns. Where there are files, kinds that were seldom taken come first: a picture of
    another format, mode, orientation or odd size. With more than 32 classes 64 are too few for two
    of each, and the classes are taken evenly.

    Args:
        indices: the images to choose from.
        reserve: others, taken where these are too few.
    """
    originals = _Originals.of(dataset)
    taken: Counter[str] = Counter()
    found: list[tuple[int, _Example]] = []
    with quiet_decoding():
        waiting = {
            label: list(_candidates(originals, *queues))
            for label, queues in _queues(dataset, indices, reserve).items()
        }
        enough = LEAST_PER_CLASS * len(waiting)
        while any(waiting.values()) and len(found) < MOST:
            for label, candidates in waiting.items():
                if len(found) == MOST:
                    break
                best = _next(candidates, taken, large=len(found) < enough)
                if best is None:
                    continue
                example = _example(dataset, originals, best.index, preprocess)
                if example:
                    taken[best.family] += 1
                    found.append((label, example))
    found.sort(key=lambda pair: pair[0])
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    images = [one.image for _, one in found]
    return Examples(
        contents={
            f"{FOLDER}/{number:03d}.{one.extension}": one.content
            for number, (_, one) in enumerate(found)
        },
        rows=np.array([one.index for _, one in found], np.int64),
        labels=np.array([label for label, _ in found], np.int64),
        images=np.stack(images) if images else np.empty((0, *shape), np.uint8),
        as_they_lie=originals is not None,
        kinds=tuple(one.kind for _, one in found),
    )


def parts(
    examples: Examples,
    classes: Sequence[str],
    answers: Sequence[Mapping[str, Any]],
    probabilities: Float32Array,
    novelty: Float32Array | None = None,
    *,
    int8: Float32Array | None = None,
) -> dict[str, bytes]:
    """The files of the examples, by their names in the bundle.

    Args:
        answers: what is said of each, as `predict --json` says it, its file named as `names_of`.
        probabilities: float32 (N, K), of the reference: the network in PyTorch.
        int8: float32 (N, K), of the network in 8 bits, where it ships.
    """
    from safetensors.numpy import save

    document = [
        {"file": name, "label": classes[label], "kind": kind, "answer": dict(answer)}
        for name, label, kind, answer in zip(
            examples.contents, examples.labels, examples.kinds, answers, strict=True
        )
    ]
    arrays: dict[str, AnyArray] = {
        "images": np.ascontiguousarray(examples.images),
        "probabilities": np.ascontiguousarray(probabilities, np.float32),
    }
    if novelty is not None:
        arrays["novelty"] = np.ascontiguousarray(novelty, np.float32)
    if int8 is not None:
        arrays["int8"] = np.ascontiguousarray(int8, np.float32)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {**examples.contents, DOCUMENT: text.encode(), PIXELS: save(arrays)}


def names_of(examples: Examples) -> list[str]:
    """What the pictures are called in their answers."""
    return [Path(name).name for name in examples.contents]


def read(
    document: bytes, pixels: bytes, *, classes: Sequence[str], shape: tuple[int, ...]
) -> Golden:
    """The examples of a bundle, from the content of its two files.

    Args:
        shape: (height, width, channels) of the network's input.

    Raises:
        BundleError: the two do not fit each other or the bundle.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        entries = json.loads(document)
        arrays = load(pixels)
        images, probabilities = arrays["images"], arrays["probabilities"]
        golden = Golden(
            names=tuple(entry["file"] for entry in entries),
            labels=tuple(entry["label"] for entry in entries),
            answers=tuple(entry["answer"] for entry in entries),
            images=images,
            probabilities=probabilities,
            novelty=arrays.get("novelty"),
            int8=arrays.get("int8"),
        )
        fits = (
            images.dtype == np.uint8
            and images.shape == (len(entries), *shape)
            and probabilities.dtype == np.float32
            and probabilities.shape == (len(entries), len(classes))
            and (golden.int8 is None or golden.int8.shape == probabilities.shape)
            and set(golden.labels) <= set(classes)
            and all(set(answer["probabilities"]) == set(classes) for answer in golden.answers)
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        SafetensorError,
        RecursionError,
    ) as error:
        raise BundleError(
            f"The golden examples cannot be read: {str(error) or type(error).__name__}.",
            _EXPORT_AGAIN,
        ) from error
    if not fits:
        raise BundleError("The golden examples do not fit the bundle's network.", _EXPORT_AGAIN)
    return golden


_EXPORT_AGAIN = "Export the bundle again: sartor export RUN --out NAME"


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    index: int
    """Of the dataset."""
    family: str
    """What of its kind makes a difference to a decoder or to resizing."""
    large: bool
    reserve: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Example:
    index: int
    content: bytes
    image: UInt8Array
    """uint8 (H, W, C), after preprocess."""
    extension: str
    kind: str


@dataclass(frozen=True, eq=False)
class _Originals:
    """The files behind a dataset's images."""

    listing: Listing
    rows: Int64Array
    """int64 (N,): which picture of the listing each image is."""

    @classmethod
    def of(cls, dataset: Dataset) -> _Originals | None:
        """None where images do not come from files, or not one from each."""
        if dataset.origin is None:
            return None
        listing = dataset.origin.listing
        rows = dataset.roster.kept if dataset.roster else np.arange(len(listing))
        return cls(listing, rows) if len(rows) == len(dataset) else None

    def content(self, index: int) -> bytes:
        """The file of an image of the dataset.

        Raises:
            PictureError: it is gone.
        """
        return self.listing.pictures.read(int(self.rows[index]))


def _queues(
    dataset: Dataset, indices: Int64Array, reserve: Int64Array | None
) -> dict[int, tuple[list[int], list[int]]]:
    """For each class in turn the images that may be taken, evenly spaced, and those in reserve."""
    others = np.empty(0, np.int64) if reserve is None else np.setdiff1d(reserve, indices)
    labels, of_others = dataset.labels[indices], dataset.labels[others]
    occurring = np.union1d(labels, of_others)
    if len(occurring) > MOST:
        occurring = occurring[np.linspace(0, len(occurring) - 1, MOST).round().astype(int)]
    return {
        int(label): (_evenly(indices[labels == label]), _evenly(others[of_others == label]))
        for label in occurring
    }


def _evenly(indices: Int64Array) -> list[int]:
    places = np.linspace(0, len(indices) - 1, min(len(indices), _CANDIDATES)).round().astype(int)
    return [int(index) for index in indices[places]]


def _candidates(
    originals: _Originals | None, first: Sequence[int], reserve: Sequence[int]
) -> Iterator[_Candidate]:
    """What the headers say; files that cannot be read are left out."""
    for place, index in enumerate([*first, *reserve]):
        kept_back = place >= len(first)
        if originals is None:
            yield _Candidate(index=index, family="", large=False, reserve=kept_back)
            continue
        try:
            content = originals.content(index)
            with opened(content, "picture") as picture:
                family = _family(header_of(picture, content))
        except PictureError:
            continue
        large = len(content) > MOST_BYTES
        yield _Candidate(index=index, family=family, large=large, reserve=kept_back)


def _next(candidates: list[_Candidate], taken: Counter[str], *, large: bool) -> _Candidate | None:
    """Take the candidate out whose family was taken least; of equal ones the first. Small ones come
    before large ones, those in reserve last; without `large`, no large one is left in the end."""
    if not large:
        candidates[:] = [one for one in candidates if not one.large]
    if not candidates:
        return None
    best = min(candidates, key=lambda one: (one.large, one.reserve, taken[one.family]))
    candidates.remove(best)
    return best


def _example(
    dataset: Dataset, originals: _Originals | None, index: int, preprocess: Preprocess
) -> _Example | None:
    """A picture and what becomes of it; None where its file is not the one of the dataset."""
    try:
        content = _png(dataset.images[index]) if originals is None else originals.content(index)
        seen = preprocess.seen(content, "picture")
    except PictureError:
        return None
    same_size = dataset.images.shape[1:] == preprocess.input_shape
    if originals is not None and same_size and (seen.pixels != dataset.images[index]).any():
        return None
    header = seen.header
    return _Example(
        index=index,
        content=content,
        image=np.ascontiguousarray(seen.pixels.transpose(1, 2, 0)),
        extension=_EXTENSIONS.get(header.format, header.format.lower() or "img"),
        kind=f"{header.format} {header.mode} {header.width}x{header.height}",
    )


def _family(header: Header) -> str:
    odd = bool(header.width % 2 or header.height % 2)
    return f"{header.format} {header.mode} {header.bits} {header.orientation} {odd}"


def _png(image: UInt8Array) -> bytes:
    stream = io.BytesIO()
    as_picture(image).save(stream, "PNG")
    return stream.getvalue()


def is_exact(content: bytes) -> bool:
    """Whether every decoder gives the same pixels for this picture.

    Raises:
        PictureError: it cannot be read.
    """
    with quiet_decoding(), opened(content, "picture") as picture:
        return header_of(picture, content).format in EXACT_FORMATS
