"""The names of the named sets, in the order that help shows; reading them imports nothing."""

from __future__ import annotations

NAMES = ("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "cifar10", "cifar100")
