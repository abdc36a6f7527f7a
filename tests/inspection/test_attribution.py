"""Which pixels speak for an answer: planted evidence must be found, and only there."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from sartor.errors import MissingExtraError, ModelError, UsageError
from sartor.inspection.attribution import METHODS, attribute

SIZE = 16
BLACK = torch.zeros(1, 1, SIZE, SIZE)


def images_with_a_patch(count: int) -> tuple[Tensor, Tensor]:
    """Noise; class 1 has a bright patch in rows and columns 2 to 5."""
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(count, 1, SIZE, SIZE, generator=generator) * 0.5
    labels = torch.arange(count) % 2
    images[labels == 1, :, 2:6, 2:6] += 0.5
    return images, labels


def network_of(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(8),
            nn.Flatten(),
            nn.Linear(512, 2),
        )


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    images, labels = images_with_a_patch(64)
    network = network_of(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert (network(images).argmax(1) == labels).all()
    optimizer.zero_grad()
    return network


def map_of(network: nn.Module, method: str, count: int = 2) -> np.ndarray:
    images, _ = images_with_a_patch(count)
    return attribute(network, images, torch.ones(count).long(), method=method, baseline=BLACK)


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_patch_is_where_the_evidence_lies(trained: nn.Module, method: str) -> None:
    heat = map_of(trained, method)[1].clip(min=0)
    assert heat.shape == (SIZE, SIZE)
    # The patch is a sixteenth of the picture; two pixels around it are allowed for blur.
    assert heat[0:8, 0:8].sum() > 0.6 * heat.sum()
    assert max(np.unravel_index(heat.argmax(), heat.shape)) < 8


@pytest.mark.parametrize("method", METHODS)
def test_other_weights_give_another_map(trained: nn.Module, method: str) -> None:
    """A map that did not depend on the weights would show the picture, not the network."""
    correlation = spearmanr(
        map_of(trained, method)[1].ravel(), map_of(network_of(9), method)[1].ravel()
    ).statistic
    assert np.isnan(correlation) or abs(correlation) < 0.6


def test_integrated_gradients_add_up_to_the_difference_of_the_outputs(trained: nn.Module) -> None:
    images, _ = images_with_a_patch(4)
    heat = map_of(trained, "integrated-gradients", 4)
    with torch.no_grad():
        difference = (trained(images) - trained(BLACK))[:, 1].numpy()
    assert heat.sum(axis=(1, 2)) == pytest.approx(difference, rel=0.05)


def test_occlusion_of_a_linear_network_is_what_the_window_contributed() -> None:
    """Worked by hand: windows of 4x4 in steps of 2, each pixel's map the mean of its windows."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 2, bias=False))
    image = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    heat = attribute(network, image, torch.tensor([0]), method="occlusion", baseline=BLACK)[0]
    parts = (network[1].weight[0].detach() * image.flatten()).reshape(SIZE, SIZE).numpy()
    total, covered = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for top in range(0, SIZE - 3, 2):
        for left in range(0, SIZE - 3, 2):
            window = np.s_[top : top + 4, left : left + 4]
            total[window] += parts[window].sum()
            covered[window] += 1
    assert heat == pytest.approx(total / covered, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_stays_as_it_was(trained: nn.Module, method: str) -> None:
    trained.train()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    random = torch.random.get_rng_state()
    map_of(trained, method)
    assert trained.training
    assert all(torch.equal(before[name], now) for name, now in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


def test_grad_cam_needs_a_convolution() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 2))
    with pytest.raises(ModelError, match="needs a convolution"):
        map_of(network, "grad-cam")


def test_an_unknown_method_gets_the_nearest(trained: nn.Module) -> None:
    with pytest.raises(UsageError, match='did you mean "grad-cam"'):
        map_of(trained, "gradcam")


def test_without_captum_the_extra_is_named(
    trained: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"sartor\[explain\]"):
        map_of(trained, "occlusion")


def test_frozen_layers_are_explained_too() -> None:
    network = network_of(3)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    explained = partial(map_of, network)
    assert all(np.isfinite(explained(method)).all() for method in METHODS)
