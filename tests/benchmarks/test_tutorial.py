"""The plain loop does what the recipes say: otherwise its time would be compared with nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import tutorial
from torch import optim

import sartor
from sartor.assembly import build_network
from sartor.data.dataset import Dataset
from sartor.models.registry import build_model

NAMES = sorted(tutorial.TRAININGS)


def image_set(dataset: Dataset, count: int) -> tutorial.ImageSet:
    return tutorial.ImageSet(
        torch.from_numpy(dataset.images[:count, 0]), torch.from_numpy(dataset.labels[:count])
    )


def with_weights_of(network: torch.nn.Module, name: str) -> torch.nn.Module:
    """The loop's network with the weights of sartor's, whose layers have other names."""
    own = tutorial.TRAININGS[name].network()
    names = own.state_dict().keys()
    own.load_state_dict(dict(zip(names, network.state_dict().values(), strict=True)))
    return own


def test_a_sample_is_the_image_over_255(small_sets: dict[str, Dataset]) -> None:
    dataset = small_sets["fashion-mnist"]
    image, label = image_set(dataset, 10)[7]
    torch.testing.assert_close(image, torch.from_numpy(dataset.images[7] / np.float32(255)))
    assert label == dataset.labels[7]


@pytest.mark.parametrize("name", NAMES)
def test_hyper_parameters_are_those_of_the_recipe(name: str) -> None:
    training, recipe = tutorial.TRAININGS[name], sartor.load_recipe(name)
    optimizers = {"sgd": optim.SGD, "adam": optim.Adam}
    assert training.optimizer is optimizers[recipe.training.opt]
    assert training.learning_rate == recipe.training.lr
    assert training.batch_size == recipe.training.batch_size
    assert training.shuffle == recipe.training.shuffle
    if recipe.data.val_fraction:
        assert training.val_images == round(60_000 * recipe.data.val_fraction)


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str) -> None:
    model = sartor.load_recipe(name).model
    network = build_model(
        model.model, input_shape=(1, 28, 28), num_classes=10, kwargs=model.model_kwargs
    ).eval()
    images = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        expected, found = network(images), with_weights_of(network, name).eval()(images)
    torch.testing.assert_close(found, expected)


def test_from_the_same_weights_it_trains_as_sartor_does(
    small_sets: dict[str, Dataset], tmp_path: Path
) -> None:
    dataset = small_sets["fashion-mnist"]
    run = sartor.fit(dataset, recipe="fashion-cnn", epochs=2, device="cpu", out=tmp_path / "run")
    network = with_weights_of(build_network(run.recipe, 10), "fashion-cnn")
    images = run.history[0]["step"] * 100
    rows = tutorial.fit(
        tutorial.TRAININGS["fashion-cnn"], network, image_set(dataset, images), epochs=2
    )
    for row, expected in zip(rows, run.history, strict=True):
        assert row.train.loss == pytest.approx(expected["train_loss"], abs=1e-3)
        assert row.train.correct == pytest.approx(expected["train_accuracy"] * images, abs=3)


def test_validation_counts_every_image_once(small_sets: dict[str, Dataset]) -> None:
    samples = image_set(small_sets["mnist"], 300)
    network = tutorial.mnist_logistic()
    loader = torch.utils.data.DataLoader(samples, batch_size=128)
    images = samples.images[:, None].float() / 255
    logits = network(images)
    found = tutorial.evaluate(network, loader)
    expected = torch.nn.functional.cross_entropy(logits, samples.labels)
    assert found.loss == pytest.approx(expected.item(), abs=1e-5)
    assert found.correct == int((logits.argmax(1) == samples.labels).sum())
