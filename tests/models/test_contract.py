"""What every registered model promises, whatever the images and the classes."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.models import registry
from sartor.models.backbones import BACKBONES
from sartor.models.settings import fitted
from sartor.models.summary import summarize

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 17, 23), (1, 1, 1)]

# Networks with pretrained weights are far larger; test_efficientnet_lite.py holds them.
pytestmark = pytest.mark.parametrize("name", sorted(set(registry.names()) - set(BACKBONES)))


def built(
    name: str, input_shape: tuple[int, int, int], num_classes: int = 10, seed: int = 0
) -> nn.Module:
    torch.manual_seed(seed)
    return registry.build_model(name, input_shape=input_shape, num_classes=num_classes, kwargs={})


def random_images(count: int, shape: tuple[int, int, int], seed: int = 1) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_gives_logits_and_every_parameter_a_gradient(
    name: str, shape: tuple[int, int, int], num_classes: int
) -> None:
    model = built(name, shape, num_classes)
    logits = model(random_images(3, shape))
    assert logits.shape == (3, num_classes)
    assert logits.dtype == torch.float32
    F.cross_entropy(logits, torch.arange(3) % num_classes).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape
        assert parameter.grad.isfinite().all()


def test_no_parameter_is_idle(name: str) -> None:
    """From the second step on: what a scale of 0 hides at first comes with the scale."""
    model = built(name, (3, 32, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(random_images(16, (3, 32, 32))), torch.arange(16) % 10).backward()
        optimizer.step()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any(), key


def test_the_seed_decides_the_weights(name: str) -> None:
    one, same, other = (built(name, (1, 8, 8), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_a_sample_is_judged_without_its_neighbours(name: str) -> None:
    model = built(name, (1, 28, 28)).eval()
    images = random_images(16, (1, 28, 28))
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_state_dict_carries_everything(name: str) -> None:
    model, copy = built(name, (1, 28, 28)).eval(), built(name, (1, 28, 28), seed=5).eval()
    images = random_images(4, (1, 28, 28))
    assert not torch.equal(model(images), copy(images))
    copy.load_state_dict(model.state_dict())
    assert torch.equal(model(images), copy(images))


def test_can_learn_a_batch_by_heart(name: str) -> None:
    model = built(name, (1, 8, 8), num_classes=4)
    images, labels = random_images(8, (1, 8, 8)), torch.arange(8) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if loss < 0.05:
            break
        optimizer.step()
    assert F.cross_entropy(model(images), labels) < 0.1
    assert torch.equal(model(images).argmax(dim=1), labels)


def test_every_setting_has_a_default_that_fits_its_own_type_and_range(name: str) -> None:
    settings, problems = registry.resolve_kwargs(name, {})
    assert problems == []
    module, _, function = registry.MODELS[name].factory.partition(":")
    build = getattr(__import__(module, fromlist=[function]), function)
    parameters = inspect.signature(build, eval_str=True).parameters
    assert set(settings) == set(parameters) - {"input_shape", "num_classes"}
    for key, value in settings.items():
        assert fitted(value, parameters[key].annotation) == value


def test_defaults_given_explicitly_change_nothing(name: str) -> None:
    settings = registry.resolve_kwargs(name, {})[0]
    torch.manual_seed(0)
    explicit = registry.build_model(
        name, input_shape=(1, 8, 8), num_classes=10, kwargs=settings
    ).state_dict()
    implicit = built(name, (1, 8, 8)).state_dict()
    assert explicit.keys() == implicit.keys()
    assert all(torch.equal(explicit[key], implicit[key]) for key in explicit)


def test_its_summary_covers_every_parameter(name: str) -> None:
    model = built(name, (3, 17, 23))
    summary = summarize(model, (3, 17, 23))
    assert summary.output_shape == (1, 10)
    assert sum(row.parameters for row in summary.rows) == summary.parameters
