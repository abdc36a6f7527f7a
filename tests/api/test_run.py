"""A run as an object: shown, plotted, opened."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from PIL import Image

import sartor
from sartor import api
from sartor.errors import (
    RunError,
)


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    """The finished run; only read here, but for its predictions."""
    return sartor.Run.open(trained)


def test_repr(run: sartor.Run) -> None:
    best = max(run.history, key=lambda row: row["val_accuracy"])
    figure = f"val accuracy {best['val_accuracy']:.2%} (best epoch, {best['epoch']})"
    assert repr(run) == f"<Run {run.path}: finished, 3 epochs, {figure}>"


def test_html_for_notebooks(run: sartor.Run, tmp_path: Path) -> None:
    page = run._repr_html_()
    assert page.startswith("<code>&lt;Run ")
    assert '<img alt="loss and accuracy over epochs" src="data:image/png;base64,' in page
    empty = tmp_path / "<b>"
    empty.mkdir()
    (empty / "recipe.toml").touch()
    page = sartor.Run.open(empty)._repr_html_()
    assert "<b>" not in page
    assert "<img" not in page


def test_plot(run: sartor.Run, tmp_path: Path) -> None:
    run.plot().savefig(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 100


def test_open(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is nothing at"):
        sartor.Run.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a complete run"):
        sartor.Run.open(tmp_path)


def test_network_has_the_weights(run: sartor.Run) -> None:
    network = run.network("last")
    assert not network.training
    kept = api.load_checkpoint(run.folder, "last").weights
    assert all(torch.equal(kept[name], tensor) for name, tensor in network.state_dict().items())


def test_verbs_that_train_say_that_they_return_a_run() -> None:
    for verb in (sartor.fit, sartor.resume):
        assert inspect.signature(verb).return_annotation is sartor.Run
