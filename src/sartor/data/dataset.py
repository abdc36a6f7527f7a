"""A dataset: all images as bytes, their labels, the names of the classes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from .. import native_module
from ..arrays import AnyArray, Int64Array, UInt8Array
from ..errors import DataError
from ..wording import plain
from .given import plain_array, refuse_without_order
from .roster import Roster

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset as TorchDataset

    from .origin import Origin


_HIGHEST_LABEL = 1_000_000


class Sample(NamedTuple):
    """One labelled image."""

    image: UInt8Array
    """uint8 (C, H, W)."""
    label: int
    """Index into the classes."""
    class_name: str


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images, kept as bytes: never a float, never augmented.

    Arrays are checked and brought into shape: images of (N, H, W), (N, H, W, C) or (N, C, H, W)
    become (N, C, H, W) with 1 or 3 channels; anything but uint8 is refused.

    Raises:
        DataError: the arrays do not make a dataset; the sentence says why.
    """

    images: UInt8Array
    """uint8 (N, C, H, W)."""
    labels: Int64Array
    """int64 (N,), each an index into `classes`."""
    classes: tuple[str, ...] = ()
    """Name of each class; without names, those are the numbers that occur among the labels."""
    _: KW_ONLY
    test: Int64Array | None = None
    """Indices that the source itself sets aside for testing; None where it does not."""
    val: Int64Array | None = None
    """Indices that the source itself sets aside for validation; None where it does not."""
    groups: tuple[str, ...] | None = None
    """What each image belongs to (patient, session, author); images of a group stay together."""
    files: tuple[str, ...] | None = None
    """Name of the file that each image came from, where there are files; or its number, where some
    were left out."""
    name: str = "arrays"
    """What the source is called."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """What was left out, by the name of its file or its index, and why."""
    pixels_sha256: str | None = None
    """Stands for the pixels in the fingerprint, where they are too many to be read for it."""
    origin: Origin | None = None
    """The pictures that it was prepared from, where they can be prepared at another size."""
    roster: Roster | None = None
    """What the source holds besides: images that were left out, and labels as given. None where
    this is all of it."""
    published: bool = False
    """A set with published figures, whose split is drawn as it was for these."""

    def __post_init__(self) -> None:
        images = _checked_images(self.images)
        labels = _checked_labels(self.labels, len(images))
        for column in ("classes", "groups", "files"):
            refuse_without_order(getattr(self, column), column)
        names = self.classes
        if names is None or not len(names):
            # Labels 10, 20, 30 are three classes, not 31.
            occurring, labels = np.unique(labels, return_inverse=True)
            labels, names = labels.astype(np.int64), tuple(map(str, occurring.tolist()))
        classes = _checked_classes(names, labels)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", classes)
        for part in ("test", "val"):
            indices = getattr(self, part)
            if indices is not None:
                object.__setattr__(self, part, _checked_indices(part, indices, len(images)))
        _check_apart(self.test, self.val)
        for column in ("groups", "files"):
            values = getattr(self, column)
            if values is not None:
                object.__setattr__(self, column, _checked_names(column, values, len(images)))

    def __getstate__(self) -> dict[str, Any]:
        # What a thread computes is not for another process.
        return {k: value for k, value in self.__dict__.items() if k != "_coming_fingerprint"}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        label = int(self.labels[index])
        return Sample(self.images[index], label, self.classes[label])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        channels, height, width = self.shape
        held_out = 0 if self.test is None else len(self.test)
        parts = f", {held_out:,} of them for testing" if held_out else ""
        return plain(
            f"<Dataset {self.name}: {len(self):,} images of {channels}x{height}x{width}{parts}, "
            f"{len(self.classes)} classes: {_shortened(self.classes)}>"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def not_for_testing(self) -> Int64Array:
        """Indices of the images not set aside for testing by the source, int64, ascending."""
        everything = np.arange(len(self), dtype=np.int64)
        if self.test is None:
            return everything
        return np.setdiff1d(everything, self.test, assume_unique=True)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels, labels, class names, indices set aside, and groups."""
        coming: Future[str] | None = self.__dict__.pop("_coming_fingerprint", None)
        return self._computed_fingerprint() if coming is None else coming.result()

    def compute_fingerprint_ahead(self) -> None:
        """Have a thread of its own compute the fingerprint, as it is now, while other things are
        done; whoever asks for it then waits for the rest of that."""
        if self.pixels_sha256 is not None or self._fingerprint_holds():
            return
        self.__dict__.pop("fingerprint", None)
        pool = ThreadPoolExecutor(1, "sartor-fingerprint")
        self.__dict__["_coming_fingerprint"] = pool.submit(self._computed_fingerprint)
        pool.shutdown(wait=False)

    def _computed_fingerprint(self) -> str:
        if not self._can_change():
            return self._sha256()
        # Beside each other, for reading all pixels takes long.
        with ThreadPoolExecutor(1, "sartor-checksum") as thread:
            checksum = thread.submit(self._checksum)
            found = self._sha256()
            self.__dict__["_kept_checksum"] = checksum.result()
        return found

    def _sha256(self) -> str:
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        if self.pixels_sha256 is None:
            digest.update(np.ascontiguousarray(self.images).data)
        else:
            digest.update(self.pixels_sha256.encode())
        digest.update(np.ascontiguousarray(self.labels).data)
        for part in ("test", "val"):
            indices = getattr(self, part)
            if indices is not None:
                digest.update(part.encode() + np.ascontiguousarray(indices).tobytes())
        if self.groups is not None:
            digest.update(repr(self.groups).encode())
        return digest.hexdigest()

    def names(self) -> tuple[str, ...]:
        """What each image is called towards the user: its file, or its number."""
        return self.files or _numbered(len(self))

    def everything(self) -> Roster:
        """What the source holds, whether it is part of this dataset or left out."""
        if self.roster is not None:
            return self.roster
        numbers = np.arange(len(self), dtype=np.int64)
        return Roster(
            images=self.images,
            labels=self.labels,
            names=self.names(),
            from_files=self.files is not None,
            usable=numbers,
            kept=numbers,
            val=self.val,
            test=self.test,
            groups=self.groups,
        )

    def fingerprint_now(self) -> str:
        """The fingerprint, computed again where the program has changed the arrays."""
        if not self._fingerprint_holds():
            self.__dict__.pop("fingerprint", None)
            self.__dict__.pop("_coming_fingerprint", None)
        return self.fingerprint

    def _fingerprint_holds(self) -> bool:
        """Whether there is a fingerprint, and it is that of the arrays as they are now."""
        if "_coming_fingerprint" in self.__dict__:
            wait([self.__dict__["_coming_fingerprint"]])
        elif "fingerprint" not in self.__dict__:
            return False
        if not self._can_change():
            return True
        kept, now = self.__dict__.get("_kept_checksum"), self._checksum()
        return kept is not None and kept == now

    def _can_change(self) -> bool:
        return _may_have_changed(self.images) or _may_have_changed(self.labels)

    def _checksum(self) -> tuple[int, int] | None:
        """Of what the program may write to; None where none is computed faster than the
        fingerprint."""
        module = native_module.module()
        if module is None:
            return None
        images, labels = (
            np.ascontiguousarray(one).reshape(-1).view(np.uint8)
            for one in (self.images, self.labels)
        )
        return module.checksum(images), module.checksum(labels)

    def torch(self) -> TorchDataset[tuple[Tensor, int]]:
        """The same samples for a `DataLoader`: float image (C, H, W) in 0..1, and label."""
        from .torch_dataset import TorchImages

        return TorchImages(self)


@functools.lru_cache(maxsize=4)
def _numbered(count: int) -> tuple[str, ...]:
    """Numbers as names; a set is asked for them many times."""
    return tuple(map(str, range(count)))


def _may_have_changed(array: AnyArray) -> bool:
    """Whether anybody could have written to an array, or to the one that it is a part of."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return True
        owner = owner.base
    return False


class Divided(Protocol):
    """Labels with the parts that their source sets aside: a dataset, or a listing."""

    @property
    def labels(self) -> Int64Array:
        """int64 (N,), each an index into `classes`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class."""

    @property
    def val(self) -> Int64Array | None:
        """Indices set aside for validation."""

    @property
    def test(self) -> Int64Array | None:
        """Indices set aside for testing."""


def refuse_strange_parts(data: Divided) -> None:
    """Refuse parts that have no class in common with what is trained on.

    Raises:
        DataError: whatever is learnt, every answer on such a part would be wrong.
    """
    labels, classes, val, test = data.labels, data.classes, data.val, data.test
    rest = np.ones(len(labels), dtype=bool)
    for indices in (val, test):
        if indices is not None:
            rest[indices] = False
    learnt = set(labels[rest].tolist())
    for part, indices in (("validation", val), ("test", test)):
        own = set() if indices is None else set(labels[indices].tolist())
        if own and learnt and own.isdisjoint(learnt):
            theirs, ours = (
                _shortened(tuple(classes[number] for number in sorted(numbers)))
                for numbers in (own, learnt)
            )
            raise DataError(
                f"The {part} images share no class with the training images: {theirs} against "
                f"{ours}.",
                "Are the classes called alike in every part? Rename them, or leave that part out.",
            )


def _checked_images(images: Any) -> UInt8Array:
    try:
        images = plain_array(images, "images")
    except ValueError as error:
        raise DataError("The images differ in shape.", "Bring them to one size first.") from error
    if images.dtype != np.uint8:
        raise DataError(
            f"Images must be bytes (uint8, 0 to 255), not {images.dtype}.",
            "Multiply floats in 0..1 by 255, round, and convert with .astype('uint8').",
        )
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise DataError(
            "Images must have the shape (N, H, W), (N, H, W, C) or (N, C, H, W), "
            f"not {images.shape}.",
            "Stack single images with numpy.stack.",
        )
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3):
        raise DataError(
            f"Images must have 1 or 3 channels, not {images.shape[1]} (shape {images.shape}).",
            "Convert them to grayscale or RGB first.",
        )
    if 0 in images.shape:
        raise DataError(
            f"There are no pixels in images of shape {images.shape}.", "Check the source."
        )
    return np.ascontiguousarray(images)


def _checked_labels(labels: Any, count: int) -> Int64Array:
    labels = plain_array(labels, "labels")
    if labels.shape != (count,):
        raise DataError(
            f"{count:,} images need as many labels, in one dimension, not {labels.shape}.",
            "Give one label per image.",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"Labels must be whole numbers, not {labels.dtype}.",
            "Number the classes from 0 and name them in `classes`.",
        )
    if labels.min() < 0:
        raise DataError(f"Label {labels.min()} is negative.", "Number the classes from 0.")
    if labels.max() > _HIGHEST_LABEL:
        raise DataError(
            f"Label {labels.max()} is too high for the number of a class.",
            "Number the classes from 0, without gaps.",
        )
    checked: Int64Array = labels.astype(np.int64, copy=False)
    return checked


def _checked_classes(classes: Sequence[str], labels: Int64Array) -> tuple[str, ...]:
    highest = int(labels.max())
    names = tuple(map(str, classes))
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f'The class name "{twice}" occurs twice.', "Give every class its own name.")
    if highest >= len(names):
        raise DataError(
            f"Label {highest} has no name: there are {len(names)} classes, numbered from 0.",
            "Name every class, or correct the labels.",
        )
    if len(names) < 2:
        raise DataError(
            "A classifier needs at least two classes; there is one.", "Add another class."
        )
    return names


def _checked_indices(part: str, indices: Any, count: int) -> Int64Array:
    indices = plain_array(indices, f"indices in `{part}`")
    indices = indices.astype(np.int64) if indices.size == 0 else indices
    whole = indices.ndim == 1 and np.issubdtype(indices.dtype, np.integer)
    if not whole or (len(indices) and (indices.min() < 0 or indices.max() >= count)):
        raise DataError(f"`{part}` must hold indices from 0 to {count - 1}.", "Check its values.")
    checked: Int64Array = indices.astype(np.int64, copy=False)
    if len(checked) and np.bincount(checked).max() > 1:
        raise DataError(f"`{part}` names an image twice.", "Name each index once.")
    return checked


def _check_apart(test: Int64Array | None, val: Int64Array | None) -> None:
    if test is None or val is None:
        return
    both = np.intersect1d(test, val, assume_unique=True)
    if len(both):
        raise DataError(
            f"Image {both[0]} is set aside for testing and for validation.",
            "Name it in one of them.",
        )


def _checked_names(field: str, values: Any, count: int) -> tuple[str, ...]:
    names = tuple(str(value) for value in values)
    if len(names) != count:
        raise DataError(
            f"{count:,} images need as many `{field}`, not {len(names):,}.", "Give one per image."
        )
    return names


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:3])}, ... {names[-1]}"
