"""What tests of more than one room share."""

from __future__ import annotations

import pytest

from sartor.data.catalogue import load_named
from sartor.data.dataset import Dataset


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST, fetched into the normal cache the first time."""
    return load_named("mnist")


@pytest.fixture(scope="session")
def fashion_mnist() -> Dataset:
    """Fashion-MNIST, fetched into the normal cache the first time."""
    return load_named("fashion-mnist")
