"""The names of the named sets, in the order that help shows; reading them imports nothing."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = ("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "cifar10", "cifar100")

_INK: Mapping[tuple[str, tuple[int, ...]], str] = {
    ("digits", (1, 8, 8)): "box",
    ("mnist", (1, 28, 28)): "mass",
}


def ink_of(name: str, shape: tuple[int, ...]) -> str:
    """How the images of a set, of a shape (C, H, W), were made of ink on paper; else "off"."""
    return _INK.get((name, shape), "off")
