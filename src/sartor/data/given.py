"""Arrays and names as a program gives them: what would be misread in silence is refused."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Set
from typing import Any

import numpy as np

from ..arrays import AnyArray
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
