"""Whitening: what comes out is uncorrelated, of equal variance, and depends on no order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sartor.models.whitening import PatchWhitening


def smooth_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """uint8, with neighbours alike, as in pictures."""
    noise = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    return (F.avg_pool2d(noise, 3, 1, 1, count_include_pad=False) * 255).to(torch.uint8)


def fitted(
    images: Tensor, window: int, mean: float = 0.4, std: float = 0.2
) -> tuple[PatchWhitening, Tensor]:
    """The layer, and the images as a network sees them."""
    channels = images.shape[1]
    layer = PatchWhitening(channels, window)
    means, stds = torch.full((channels,), mean), torch.full((channels,), std)
    layer.fit(images, means, stds)
    return layer, (images / 255 - mean) / std


@pytest.mark.parametrize(("channels", "window"), [(1, 2), (1, 4), (1, 5), (3, 3)])
def test_outputs_are_uncorrelated_with_variance_1(channels: int, window: int) -> None:
    layer, values = fitted(smooth_images(300, (channels, 12, 12)), window)
    outputs = F.conv2d(values, layer.weight, stride=2)
    half = layer.out_channels // 2
    rows = outputs[:, :half].permute(0, 2, 3, 1).reshape(-1, half).double()
    moments = rows.T @ rows / len(rows)
    off = moments - moments.diagonal().diag()
    assert off.abs().max() < 1e-4
    # Directions in which images hardly vary are not blown up to 1.
    assert (moments.diagonal()[:2] - 1).abs().max() < 0.02
    assert (moments.diagonal() <= 1.001).all()
    torch.testing.assert_close(outputs[:, :half], -outputs[:, half:])


def test_filters_do_not_depend_on_order_or_threads() -> None:
    images = smooth_images(600, (1, 14, 14))
    one, _ = fitted(images, 4)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        other, _ = fitted(images.flip(0), 4)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (28, 28), (27, 29)])
@pytest.mark.parametrize("window", [2, 3, 4, 7])
def test_halves_any_image_and_rounds_up(size: tuple[int, int], window: int) -> None:
    outputs = PatchWhitening(2, window)(torch.zeros(1, 2, *size))
    assert outputs.shape[2:] == tuple(-(-length // 2) for length in size)


def test_images_smaller_than_a_patch_leave_it_as_it_is() -> None:
    layer = PatchWhitening(1, 4)
    before = layer.weight.clone()
    layer.fit(torch.zeros(5, 1, 3, 9, dtype=torch.uint8), torch.zeros(1), torch.ones(1))
    assert torch.equal(layer.weight, before)


def test_images_of_one_colour_leave_it_finite() -> None:
    layer, _ = fitted(torch.full((4, 1, 8, 8), 7, dtype=torch.uint8), 4)
    assert layer.weight.isfinite().all()


def test_is_kept_with_the_weights_and_never_trained() -> None:
    layer = PatchWhitening(1, 4)
    assert "weight" in layer.state_dict()
    assert list(layer.parameters()) == []
