"""Networks of one's own: objects of the program, and classes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import (
    DataError,
    ModelError,
    RunError,
)


class Net(nn.Module):
    """A network of one's own, with a buffer and tied weights."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Linear(64, 10)
        self.norm = nn.BatchNorm1d(10)
        self.last = nn.Linear(10, 10, bias=False)
        self.again = self.last
        self.scale = scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.first(images.flatten(1)) * self.scale).relu()
        logits: torch.Tensor = self.again(self.last(features))
        return logits


class TestPythonObjects:
    @pytest.fixture
    def data(self, digits: Dataset) -> Dataset:
        return Dataset(digits.images[:300], digits.labels[:300], name="mine")

    @pytest.fixture
    def mine(self, data: Dataset, tmp_path: Path) -> Path:
        settings = {"epochs": 2, "batch_size": 50, "threads": 1, "lr": 0.01, "report": False}
        return sartor.fit(data, model=Net(), out=tmp_path / "mine", **settings).path  # type: ignore[arg-type]

    def test_the_run_at_hand_has_them(self, data: Dataset, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"batch_size": 50, "threads": 1, "sched": "constant"}
        settings["split_method"] = "drawn"
        run = sartor.fit(data, model=Net(), epochs=1, out=tmp_path / "mine", **settings)
        assert run.evaluate().count == 60
        assert run.resume(epochs=2).evaluate("val").count == 24
        long = sartor.fit(data, model=Net(), epochs=2, out=tmp_path / "long", **settings)
        assert run.weights_sha256 == long.weights_sha256

    def test_given_again(self, mine: Path, data: Dataset) -> None:
        run = sartor.resume(mine, epochs=3, data=data, model=Net())
        assert len(run.history) == 3
        evaluation = sartor.evaluate(mine, data=data, model=Net())
        assert evaluation.to_json() == run.evaluate().to_json()

    def test_not_given_again(self, mine: Path, data: Dataset) -> None:
        with pytest.raises(DataError, match="The run's data mine is not at hand") as caught:
            sartor.evaluate(mine)
        assert "data=..." in caught.value.hint
        for call in (sartor.evaluate, sartor.resume):
            with pytest.raises(ModelError, match="trained Net, an object of a Python") as problem:
                call(mine, data=data, **({"epochs": 9} if call is sartor.resume else {}))  # type: ignore[operator]
            assert "model=..." in problem.value.hint
        assert sartor.Run.open(mine).recipe.training.epochs == 2, "a refused resume changes nothing"
        with pytest.raises(ModelError, match="an object of a Python program"):
            sartor.predict(mine, as_picture(data.images[0]))

    def test_other_data_or_another_network(
        self, mine: Path, digits: Dataset, data: Dataset
    ) -> None:
        with pytest.raises(DataError, match=r"is not what .* was trained on"):
            sartor.evaluate(mine, data=digits, model=Net())
        with pytest.raises(RunError, match="do not fit its model"):
            sartor.evaluate(mine, data=data, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    def test_networks_that_do_not_fit(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for network, reason in (
            (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), r"gives the shape \(64, 7\)"),
            (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "cannot take images of shape"),
            (nn.Flatten(), "has no trainable parameters"),
            (nn.LSTM(8, 10), "cannot take images|not a tensor"),
        ):
            with pytest.raises(ModelError, match=reason) as caught:
                sartor.fit(data, model=network)
            assert caught.value.hint
        assert list(tmp_path.iterdir()) == [], "no run was begun"

    def test_outputs_that_are_probabilities_are_warned_of(
        self, data: Dataset, tmp_path: Path
    ) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(dim=1))
        with pytest.warns(sartor.SartorWarning, match="as after a softmax"):
            sartor.fit(data, model=network, epochs=1, out=tmp_path / "run")


SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width: int = 8):
        last = nn.Linear(width, num_classes)
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), last)
"""


class TestModelFile:
    @pytest.mark.parametrize("change", ["vanishes", "changes", "breaks"])
    def test_the_copy_in_the_run_is_used(
        self, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        file = Path("net.py")
        file.write_text(SOURCE)
        settings: dict[str, Any] = {"threads": 1, "sched": "constant", "batch_size": 300}
        settings["report"] = False
        model = {"model": "net.py:Net", "model_kwargs": {"width": 9}}
        long = sartor.fit("digits", epochs=3, out="long", **model, **settings)
        run = sartor.fit("digits", epochs=2, out="run", **model, **settings)
        assert (run.path / "model.py").read_text() == SOURCE
        before = run.evaluate().to_json()

        if change == "vanishes":
            file.unlink()
        else:
            text = SOURCE.replace("ReLU", "Tanh") if change == "changes" else "def ("
            file.write_text(text)
        assert sartor.evaluate("run").to_json() == before
        assert sartor.resume("run", epochs=3).weights_sha256 == long.weights_sha256
        assert sartor.evaluate("run").to_json() == long.evaluate().to_json()
        assert sartor.summary(sartor.Run.open("run")).parameters == 64 * 9 + 9 + 9 * 10 + 10

    def test_again_from_its_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("net.py").write_text(SOURCE)
        run = sartor.fit("digits", model="net.py:Net", epochs=1, threads=1)
        assert run.path == Path("runs/digits-net-1")
        again = sartor.fit(recipe=run.path / "recipe.toml")
        assert again.weights_sha256 == run.weights_sha256
