"""Whether a network knows its training images far better than new ones, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .intervals import wilson

_GAP = 0.1
"""Of accuracy, beyond what the interval of the validation accuracy explains."""


def overfitting(
    history: Sequence[Mapping[str, Any]], epoch: int, val_count: int, *, on_features: bool = False
) -> str | None:
    """What to do about it, where training accuracy is far above validation; else None.

    Args:
        history: rows as in history.jsonl; epoch: counted from 1, that of the weights in question.
        val_count: validation images.
        on_features: only a head was fitted, to features of a frozen backbone.
    """
    rows = [row for row in history if row.get("epoch") == epoch]
    train, val = (rows[0].get(f"{part}_accuracy") if rows else None for part in ("train", "val"))
    if train is None or val is None or not val_count:
        return None
    highest = wilson(round(val * val_count), val_count)[1]
    if train - highest < _GAP:
        return None
    figures = f"Training accuracy is {train:.1%}, validation accuracy {val:.1%}: "
    if on_features:
        return (
            f"{figures}the head fits its training images far better than new ones. More images "
            "help most; else mirrored ones (--augment flip), where they show the same class, or "
            "fine-tuning (--transfer ladder)."
        )
    return (
        f"{figures}the network has memorised its training images. More images help most; else "
        "augmentation (--augment flip crop), a stronger --weight-decay, or a smaller --model."
    )
