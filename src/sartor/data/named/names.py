"""The names of the named sets, for help and error messages that must not wait for NumPy."""

from __future__ import annotations

NAMED_SETS = ("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "cifar10", "cifar100")
