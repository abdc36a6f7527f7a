"""Predictions for pictures, held against the evaluation of the same images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import PictureError, UsageError
from sartor.evaluation.calibration import fit_temperature
from sartor.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    """The finished run; only read here, but for its predictions."""
    return sartor.Run.open(trained)


class TestPredict:
    @pytest.fixture(scope="class")
    @classmethod
    def saved(cls, run: sartor.Run) -> Predictions:
        run.evaluate("test")
        return Predictions.load(run.path / "predictions" / "test.npz")

    def test_a_saved_test_image_is_judged_as_in_the_evaluation(
        self, run: sartor.Run, saved: Predictions, digits: Dataset, tmp_path: Path
    ) -> None:
        for row, index in enumerate(saved.indices[:40]):
            as_picture(digits.images[index]).save(tmp_path / f"{row}.png")
        answers = run.predict(tmp_path, calibrated=False)
        assert [Path(answer.file).name for answer in answers] == [f"{n}.png" for n in range(40)]
        for row, answer in enumerate(answers):
            expected = saved.probabilities()[row]
            assert answer.label == digits.classes[saved.predicted()[row]]
            assert list(answer.probabilities) == list(digits.classes)
            assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-6)
            assert answer.probability == max(answer.probabilities.values())
            assert sum(answer.probabilities.values()) == pytest.approx(1)

    def test_files_folders_patterns_and_pictures_in_memory(
        self, run: sartor.Run, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("in").mkdir()
        picture = as_picture(digits.images[3])
        picture.save("in/a.png")
        picture.convert("RGBA").save("in/b.png")
        (one,) = run.predict("in/a.png")
        answers = run.predict(["in/a.png", Path("in"), "in/*.png", picture])
        assert [answer.file for answer in answers] == [
            *("in/a.png", "in/a.png", "in/b.png", "in/a.png", "in/b.png"),
            "picture",
        ]
        assert {answer.label for answer in answers} == {one.label}
        assert sartor.predict(run.path, "in/a.png") == [one]

    def test_more_pictures_than_fit_at_once(self, run: sartor.Run, digits: Dataset) -> None:
        pictures = [as_picture(image) for image in digits.images[:300]]
        answers = run.predict(pictures)
        assert len(answers) == 300
        (alone,) = run.predict(pictures[299])
        assert answers[299].label == alone.label
        assert answers[299].probability == pytest.approx(alone.probability, abs=1e-6)

    def test_arrays_have_a_way_of_their_own(self, run: sartor.Run, digits: Dataset) -> None:
        with pytest.raises(UsageError, match="Arrays are no pictures") as error:
            sartor.predict(run, digits.images[:2])
        assert "sartor.Predictor" in error.value.hint

    def test_inverted(self, run: sartor.Run, digits: Dataset) -> None:
        light, dark = digits.images[3], 255 - digits.images[3]
        (one,), (two,) = (
            run.predict(as_picture(light)),
            run.predict(as_picture(dark), invert=True),
        )
        assert one.probabilities == two.probabilities

    def test_every_bad_file_is_named(self, run: sartor.Run, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("hello")
        (tmp_path / "empty.png").touch()
        Image.new("L", (9, 9)).save(tmp_path / "good.png")
        with pytest.raises(PictureError) as caught:
            run.predict(tmp_path)
        assert "text.png" in caught.value.message
        assert "empty.png" in caught.value.message
        assert "good.png" not in caught.value.message

    def test_top(self, run: sartor.Run, digits: Dataset) -> None:
        (one,) = run.predict(as_picture(digits.images[3]))
        assert [name for name, _ in one.top(1)] == [one.label]
        probabilities = [p for _, p in one.top(10)]
        assert probabilities == sorted(one.probabilities.values(), reverse=True)
        assert list(one.to_json(2)["probabilities"]) == [name for name, _ in one.top(2)]


class TestCalibrated:
    def test_logits_are_divided_by_the_temperature_of_the_validation_images(
        self, run: sartor.Run, digits: Dataset
    ) -> None:
        run.evaluate("val")
        validation = Predictions.load(run.path / "predictions" / "val.npz")
        temperature = fit_temperature(validation).value
        assert abs(temperature - 1) > 0.01
        images = digits.images[:20]
        plain = run.predictor(calibrated=False)
        assert plain.temperature == 1
        logits = plain.logits(images).astype(float) / temperature
        expected = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
        found = run.predictor()
        assert found.temperature == temperature
        np.testing.assert_allclose(found.probabilities(images), expected, rtol=1e-6)
        assert found.labels(images) == plain.labels(images)
        (raw,), (calibrated,) = (
            run.predict(as_picture(images[0]), calibrated=wanted) for wanted in (False, True)
        )
        assert calibrated.probability == pytest.approx(expected[0].max(), abs=1e-6)
        assert raw.label == calibrated.label

    def test_the_command_names_the_temperature_and_can_do_without(
        self, run: sartor.Run, digits: Dataset, tmp_path: Path, command: Any
    ) -> None:
        temperature = run.predictor().temperature
        as_picture(digits.images[3]).save(tmp_path / "a.png")
        answer = command("predict", run.path, tmp_path / "a.png", "--json")
        assert f"by the temperature {temperature:.3f}" in answer.err
        for flags, calibrated in (((), True), (("--no-calibrated",), False)):
            answer = command("predict", run.path, tmp_path / "a.png", "--json", *flags)
            (expected,) = run.predict(tmp_path / "a.png", calibrated=calibrated)
            assert answer.document[0]["probability"] == expected.probability
        assert "Probabilities are the network's own" in answer.err

    def test_where_nothing_was_fitted_it_says_how_to(
        self, run: sartor.Run, digits: Dataset, tmp_path: Path, command: Any
    ) -> None:
        copy = shutil.copytree(run.path, tmp_path / "a copy")
        for folder in ("predictions", "calibration"):
            shutil.rmtree(copy / folder, ignore_errors=True)
        assert sartor.Run.open(copy).predictor().temperature == 1
        as_picture(digits.images[3]).save(tmp_path / "a.png")
        answer = command("predict", copy, tmp_path / "a.png")
        assert f"sartor evaluate '{copy}' --split val" in " ".join(answer.err.split())


@pytest.mark.parametrize("given", [None, 3, [None], ["a.png", 3.0], b"a.png", [b"a.png"]])
def test_what_names_no_picture_is_refused(given: Any, trained: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a picture, nor does it name one"):
        list(sartor.predict_stream(trained, given))
