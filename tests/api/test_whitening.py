"""A network that whitens its images has its filters from them, whatever happens to the training."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import Interrupted
from sartor.events import Event, StepDone
from sartor.models.registry import build_model
from sartor.models.whitening import PatchWhitening

SETTINGS = {
    "model": "convnet",
    "model_kwargs": {"widths": (16,), "depth": 1},
    "epochs": 2,
    "augment": ("flip=alternating",),
    "tta": "flip",
    "sched": "onecycle",
    "threads": 1,
    "check": False,
    "report": False,
}


@pytest.fixture
def digits() -> Dataset:
    return sartor.load("digits")


def filters_of(network: nn.Module) -> torch.Tensor:
    layer = network.get_submodule("whitening")
    assert isinstance(layer, PatchWhitening)
    return layer.weight


def test_the_filters_are_those_of_the_training_images(digits: Dataset, tmp_path: Path) -> None:
    run = sartor.fit(digits, out=tmp_path / "run", **SETTINGS)
    expected = PatchWhitening(1, 4)
    preprocess = run.recipe.preprocess
    mean, std = (torch.tensor(one) for one in (preprocess.mean, preprocess.std))
    expected.fit(torch.from_numpy(digits.images[run.split().train]), mean, std)
    torch.testing.assert_close(filters_of(run.network("last")), expected.weight, rtol=0, atol=0)


def test_a_network_given_as_an_object_keeps_its_own(digits: Dataset, tmp_path: Path) -> None:
    kwargs = SETTINGS["model_kwargs"]
    assert isinstance(kwargs, dict)
    network = build_model("convnet", input_shape=(1, 8, 8), num_classes=10, kwargs=kwargs)
    before = filters_of(network).clone()
    settings = {key: one for key, one in SETTINGS.items() if not key.startswith("model")}
    run = sartor.fit(digits, model=network, out=tmp_path / "run", **settings)
    assert torch.equal(filters_of(run.network("last")), before)


def test_interrupted_and_resumed_ends_in_the_same_bits(digits: Dataset, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGTERM)

    whole = sartor.fit(digits, out=tmp_path / "whole", **SETTINGS)
    with pytest.raises(Interrupted):
        sartor.fit(digits, out=tmp_path / "cut", on_event=stop, **SETTINGS)
    resumed = sartor.resume(tmp_path / "cut", data=digits, report=False)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history[-1]["val_loss"] == whole.history[-1]["val_loss"]
