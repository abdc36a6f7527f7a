"""Arrays and names as a program gives them: what would be misread in silence is refused."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence, Set
from typing import Any

import numpy as np

from ..arrays import AnyArray, UInt8Array
from ..errors import DataError


def plain_array(values: Any, what: str) -> AnyArray:
    """Values as an array.

    Raises:
        DataError: some are masked, so that there is no number for them.
        ValueError: they make no array.
    """
    if isinstance(values, list | tuple) and any(map(np.ma.isMaskedArray, values)):
        values = np.ma.stack(values)
    if np.ma.isMaskedArray(values):
        masked = int(np.ma.getmaskarray(values).sum())
        if masked:
            raise DataError(
                f"The {what} are a masked array with {masked:,} masked values.",
                "Leave these images out, or fill them first: .filled(VALUE)",
            )
    return np.asarray(values)


def refuse_without_order(values: Any, what: str) -> None:
    """Refuse what does not give one name after the other.

    Raises:
        DataError: a set, a mapping or a single text.
    """
    if isinstance(values, str | bytes):
        raise DataError(f"`{what}` is one text.", f'Give a list of names: {what}=["cat", "dog"]')
    if isinstance(values, Mapping):
        raise DataError(
            f"`{what}` is a mapping.", "Give a list of names, in the order of their numbers."
        )
    if isinstance(values, Set) and not isinstance(values, KeysView):
        raise DataError(
            f"`{what}` is a set, which has no order.",
            "Give a list; sorted(NAMES) makes one in alphabetical order.",
        )


def bytes_of(images: Any) -> UInt8Array:
    """Pixels as bytes: uint8 as they are, floats in 0..1 times 255, whole numbers in 0..255.

    Raises:
        DataError: other numbers, such as normalized ones.
    """
    array = as_array(images, "images")
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise DataError(
            f"Images of {array.dtype} are no pixels.", "Give bytes 0 to 255, or floats 0 to 1."
        )
    if not array.size:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        broken = int((~np.isfinite(array)).sum())
        raise DataError(
            f"Not finite (NaN or infinite): {broken:,} of {array.size:,} numbers in the images.",
            "Leave such images out, or replace the pixels: numpy.nan_to_num(images)",
        )
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.asarray((array * 255).round().astype(np.uint8))
    if low >= 0 and high <= 255 and (array == array.astype(np.uint8)).all() and high > 16:
        return array.astype(np.uint8)
    hint = (
        "Give them as they were before Normalize or StandardScaler: sartor normalizes itself."
        if low < 0
        else "Scale them to bytes first: (images / images.max() * 255).astype('uint8')"
    )
    raise DataError(
        f"The pixels go from {low:g} to {high:g}, which are neither bytes nor floats in 0..1.", hint
    )


def one_per_image(labels: Any) -> Sequence[Any]:
    """Labels as a sequence of single values; the places of the ones, where one of each row is 1.

    Raises:
        DataError: several a row.
    """
    if not is_array(labels) and not hasattr(labels, "to_numpy"):
        return list(labels)
    array = as_array(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all():
        return list(array.argmax(1).tolist())
    if array.ndim != 1:
        raise DataError(
            f"The labels have the shape {array.shape}, not one per image.",
            "Give a number or a name for each image.",
        )
    return list(array.tolist())


def whole_number(label: Any) -> int:
    """A label as a number.

    Raises:
        DataError: it is none, or a fraction.
    """
    value = label.item() if hasattr(label, "item") else label
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise DataError(
        f"The label {label!r} is no whole number.", "Give numbers, or a name for each image."
    )


def is_array(value: Any) -> bool:
    """Whether it is an array of NumPy, a tensor, or what turns into one."""
    if isinstance(value, np.generic):
        return False
    return isinstance(value, np.ndarray) or (
        hasattr(value, "__array__") and hasattr(value, "shape")
    )


def as_array(value: Any, what: str = "values") -> AnyArray:
    """An array, a tensor, or a list of such of one shape, as an array; `what` it is, in errors."""
    if isinstance(value, list | tuple):
        return np.stack([as_array(one, what) for one in value])
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return plain_array(value, what)


def images_in_order(given: Any, input_shape: tuple[int, int, int]) -> UInt8Array:
    """uint8 (N, C, H, W), from the orders that `Dataset` takes and the numbers that `fit` takes,
    see `bytes_of`; `input_shape` is the network's.

    Raises:
        DataError: another shape, other numbers, or a single image in colour, (H, W, 3).
    """
    channels, *size = input_shape
    images = bytes_of(given)
    if images.ndim == 3:
        gray_of_this_size = channels == 1 and list(images.shape[1:]) == size
        if not gray_of_this_size and 3 in (images.shape[0] * (channels == 3), images.shape[2]):
            raise DataError(
                f"Images of the shape {images.shape} may be one image in colour, or "
                f"{images.shape[0]} gray ones.",
                "Give one image as images[np.newaxis], and gray ones as images[:, np.newaxis].",
            )
        return images[:, np.newaxis]
    if images.ndim == 4:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        # Where both may be the channels, as with 3 pixels per side, the network's number decides.
        if first and last and images.shape[1] != channels == images.shape[3]:
            first = False
        if first:
            return images
        if last:
            return images.transpose(0, 3, 1, 2)
    raise DataError(
        f"Images have the shape {images.shape}, which is not (N, H, W), (N, H, W, C) or "
        "(N, C, H, W).",
        "Give one image as images[np.newaxis], with 1 or 3 channels.",
    )
