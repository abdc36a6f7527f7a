"""One picture, epoch by epoch: what training sees, and no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sartor.data.augment.pipeline import augmentation_of
from sartor.data.dataset import Dataset
from sartor.data.description import channel_statistics
from sartor.data.preview import variants
from sartor.errors import DataError

from .augment.conftest import noise

PICTURES = Dataset(noise(20, 3, 7, 6).numpy(), np.arange(20) % 2, ("a", "b"), test=np.array([3]))


def test_is_what_training_sees() -> None:
    words = ["flip", "crop=2", "erase=0.5"]
    mean, _ = channel_statistics(PICTURES.images, PICTURES.not_for_testing())
    augmentation = augmentation_of(words, seed=4, num_classes=2, mean=mean)
    assert augmentation is not None
    made = variants(PICTURES, words, 5, count=6, seed=4)
    for epoch, (image, shares) in enumerate(made):
        pixels = torch.from_numpy(PICTURES.images[5:6])
        expected = augmentation.images(pixels.clone(), torch.tensor([5]), epoch)[0]
        np.testing.assert_array_equal(image, expected)
        assert shares == {"b": 1.0}


def test_of_a_mixed_picture_the_shares_are_told() -> None:
    made = variants(PICTURES, ["mixup=5"], 4, count=12)
    assert all(sum(shares.values()) == pytest.approx(1) for _, shares in made)
    assert {tuple(shares) for _, shares in made} >= {("a",), ("a", "b")}


def test_no_such_picture() -> None:
    with pytest.raises(DataError, match="no image 20"):
        variants(PICTURES, ["flip"], 20, count=1)
