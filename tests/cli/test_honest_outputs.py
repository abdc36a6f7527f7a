"""Outputs that are not finite, and outputs that are scores, as people and scripts meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.cli.comparing import seed_line

NETWORK = """
import torch
from torch import nn

class OftenNan(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)

    def forward(self, images):
        pixels = images.flatten(1)
        logits = self.layer(pixels)
        bright = pixels.mean(1, keepdim=True) > 0
        return logits if self.training else torch.where(bright, logits * torch.nan, logits)
"""


@pytest.fixture(scope="module")
def not_finite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose outputs are NaN for about every second image, outside of training."""
    folder = tmp_path_factory.mktemp("not-finite")
    (folder / "net.py").write_text(NETWORK)
    fit = {"model": f"{folder / 'net.py'}:OftenNan", "epochs": 1, "engine": "plain"}
    return sartor.fit("digits", out=folder / "run", report=False, device="cpu", **fit).path


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained with mse."""
    out = tmp_path_factory.mktemp("scores") / "run"
    fit = {"model": "linear", "loss": "mse", "epochs": 3, "engine": "plain", "ink": "off"}
    return sartor.fit("digits", out=out, report=False, device="cpu", **fit).path


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[list[Path]]:
    """A dark and a bright one."""
    paths = [tmp_path / "dark.png", tmp_path / "bright.png"]
    for path, level in zip(paths, (0, 255), strict=True):
        Image.new("L", (8, 8), level).save(path)
    return iter([paths])


class TestNotFinite:
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_it_is_said_and_counts_as_wrong_everywhere(
        self, command: Any, not_finite: Path, tmp_path: Path
    ) -> None:
        answer = command("evaluate", not_finite, "--split", "val", "--json")
        number, count = answer.document["not_finite"], answer.document["count"]
        assert 0 < number < count
        assert answer.document["accuracy"] <= 1 - number / count
        assert np.sum(answer.document["confusion"]) == count - number
        said = f"outputs are not finite for {number} of {count} images: they count as wrong"
        assert said in command("evaluate", not_finite, "--split", "val").out
        (row,) = sartor.Run.open(not_finite).history
        assert row["val_accuracy"] == answer.document["accuracy"], "training judges as evaluate"

        page = tmp_path / "page.html"
        answer = command("report", not_finite, "--split", "val", "--out", page)
        assert said in answer.out
        assert said in " ".join(page.read_text().split())
        assert "no prediction" in page.read_text()
        assert "nan" not in answer.out.lower()

    def test_compare_says_it(self, command: Any, not_finite: Path, scores: Path) -> None:
        for path in (not_finite, scores):
            command("evaluate", path)
        answer = command("compare", not_finite, scores)
        words = " ".join(answer.out.split())
        assert "outputs are not finite for" in words
        assert "loss nan" not in words.lower()
        document = command("compare", not_finite, scores, "--json").document
        assert document["runs"][0]["not_finite"] > document["runs"][1]["not_finite"] == 0

    def test_predict_has_no_answer_and_exits_with_1(
        self, command: Any, not_finite: Path, pictures: Iterator[list[Path]]
    ) -> None:
        dark, bright = next(pictures)
        answer = command("predict", not_finite, dark, bright, "--json")
        assert answer.exit_code == 1
        assert [one["file"] for one in answer.document] == [str(dark), str(bright)]
        assert ["label" in one for one in answer.document] == [True, False]
        assert f"not finite for {bright}, so there is no prediction." in answer.err
        answer = command("predict", not_finite, bright)
        assert (answer.exit_code, answer.out) == (1, "")
        with pytest.raises(sartor.errors.PictureError, match="not finite"):
            sartor.predict(not_finite, bright)
        images = np.stack([np.full((8, 8), level, np.uint8) for level in (0, 255)])
        with pytest.raises(sartor.errors.DataError, match="not finite for 1 of 2 images"):
            sartor.Run.open(not_finite).predictor().labels(images)

    def test_a_training_with_a_seed_whose_loss_is_not_finite(self) -> None:
        result: dict[str, Any] = {
            "val_accuracy": 0.1,
            "val_loss": None,
            "seconds": 1.0,
            "run": "runs/x",
        }
        best = {"epoch": 1, "val_accuracy": 0.1, "val_loss": None}
        result |= {"epochs": 1, "best": best}
        assert "loss not finite" in seed_line(3, result)


class TestScores:
    def test_nothing_calls_them_probabilities(
        self, command: Any, scores: Path, tmp_path: Path
    ) -> None:
        page = tmp_path / "page.html"
        answer = command("report", scores, "--out", page)
        assert "ECE" not in answer.out
        assert "temperature" not in answer.out
        text = " ".join(page.read_text().split())
        assert "gives scores, not probabilities: there is no log loss" in text
        assert "overconfident" not in text
        assert "by chance" not in text
        document = json.loads(page.with_suffix(".json").read_text())
        assert document["calibration"] is None
        assert "mse" in document["no_calibration"]
        assert document["coverage"]["points"][0]["accuracy"] == document["evaluation"]["accuracy"]

    def test_labels_come_from_outputs(self, scores: Path) -> None:
        """Where several outputs are clipped to 1, evaluate and predict still say the same."""
        run = sartor.Run.open(scores)
        images = np.random.default_rng(0).integers(0, 256, (500, 8, 8), np.uint8)
        predictor = run.predictor()
        logits = predictor.logits(images)
        clipped = ((logits >= 1).sum(axis=1) > 1).sum()
        assert clipped > 3, "the case occurs"
        expected = [predictor.classes[place] for place in logits.argmax(axis=1)]
        assert predictor.labels(images) == expected
        pictures = [Image.fromarray(image) for image in images]
        answers = run.predict(pictures)
        assert [one.label for one in answers] == expected
        assert [one.top(1)[0][0] for one in answers] == expected

    def test_predict_says_what_its_numbers_are(
        self, command: Any, scores: Path, pictures: Iterator[list[Path]]
    ) -> None:
        answer = command("predict", scores, *next(pictures))
        assert "share of scores" in answer.out
        assert "probability" not in answer.out
        assert "not probabilities" in " ".join(answer.err.split())

    def test_they_have_no_temperature(
        self, command: Any, scores: Path, pictures: Iterator[list[Path]]
    ) -> None:
        answer = command("predict", scores, *next(pictures), "--json")
        assert "by the temperature" not in answer.err
        assert answer.document[0]["set"] is None

    def test_losses_of_two_kinds_are_not_in_one_column(
        self, command: Any, scores: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        sartor.fit("digits", model="linear", epochs=1, out=other, report=False, device="cpu")
        for path in (scores, other):
            command("evaluate", path)
        answer = command("compare", scores, other)
        words = " ".join(answer.out.split())
        assert "Losses of different kinds, which cannot be compared: " in words
        assert "(mse) for 1" in words
        assert "(cross-entropy) for 2" in words
        assert "95 % interval loss" not in words
        kinds = [
            run["loss_kind"] for run in command("compare", scores, other, "--json").document["runs"]
        ]
        assert kinds == ["mse", "cross-entropy"]

    def test_no_chance_level_is_said(self, command: Any, tmp_path: Path) -> None:
        words = ("fit", "digits", "--model", "linear", "--epochs", "1", "--no-report")
        answer = command(*words, "--loss", "mse", "--out", tmp_path / "run")
        assert "loss before training: 0." in answer.err
        assert "chance level" not in answer.err
