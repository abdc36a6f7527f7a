"""A predictor says of arrays what judging and predicting say of the same images."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import DataError, RunError
from sartor.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return sartor.load("digits")


@pytest.fixture(scope="module")
def run(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> sartor.Run:
    out = tmp_path_factory.mktemp("predictor") / "run"
    return sartor.fit(digits, model="lenet", epochs=2, out=out, device="cpu", report=False)


def test_equals_the_saved_predictions(run: sartor.Run, digits: Dataset) -> None:
    run.evaluate("test")
    saved = Predictions.load(run.folder.predictions_path("test"))
    predictor = run.predictor(calibrated=False)
    images = digits.images[saved.indices]
    np.testing.assert_allclose(
        predictor.probabilities(images), saved.probabilities(), rtol=1e-4, atol=1e-6
    )
    assert predictor.labels(images) == [digits.classes[one] for one in saved.predicted()]


def test_shapes_and_the_size_of_batches_do_not_matter(run: sartor.Run, digits: Dataset) -> None:
    predictor = run.predictor()
    many = np.concatenate([digits.images, digits.images])[:2100]
    expected = predictor.probabilities(many)
    assert expected.shape == (2100, 10)
    np.testing.assert_allclose(predictor.probabilities(many[:, 0]), expected, rtol=1e-5)
    for index in (0, 999, 1000, 2099):
        alone = predictor.probabilities(many[index : index + 1])
        np.testing.assert_allclose(alone[0], expected[index], rtol=1e-4, atol=1e-6)
    assert predictor.probabilities(many[:0]).shape == (0, 10)
    backwards = many[::-1]
    backwards.flags.writeable = False
    np.testing.assert_allclose(predictor.probabilities(backwards), expected[::-1], rtol=1e-5)


def test_larger_images_are_prepared_as_pictures_are(run: sartor.Run) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 30, 40), np.uint8)
    pictures = [Image.fromarray(one.transpose(1, 2, 0)) for one in pixels]
    expected = [list(one.probabilities.values()) for one in run.predict(pictures)]
    np.testing.assert_allclose(run.predictor().probabilities(pixels), expected, rtol=1e-4)


def test_the_run_is_opened_once(run: sartor.Run, digits: Dataset, tmp_path: Path) -> None:
    copy = shutil.copytree(run.path, tmp_path / "copy")
    predictor = sartor.Run.open(copy).predictor(checkpoint="last")
    shutil.rmtree(copy)
    assert predictor.labels(digits.images[:3]) == run.predictor(checkpoint="last").labels(
        digits.images[:3]
    )


def test_channels_may_come_last_as_a_dataset_takes_them(run: sartor.Run, digits: Dataset) -> None:
    predictor = run.predictor()
    colours = np.repeat(digits.images[:5], 3, axis=1)
    expected = predictor.probabilities(colours)
    np.testing.assert_array_equal(predictor.probabilities(colours.transpose(0, 2, 3, 1)), expected)
    gray = digits.images[:5]
    np.testing.assert_array_equal(
        predictor.probabilities(gray.transpose(0, 2, 3, 1)), predictor.probabilities(gray)
    )
    in_3_pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 1), np.uint8)
    np.testing.assert_array_equal(
        predictor.probabilities(in_3_pixels),
        predictor.probabilities(np.ascontiguousarray(in_3_pixels.transpose(0, 3, 1, 2))),
    )


def test_numbers_may_be_whatever_fit_takes(
    run: sartor.Run, digits: Dataset, tmp_path: Path
) -> None:
    run.export(tmp_path / "b.zip")
    images = digits.images[:5]
    floats = images / np.float32(255)
    for predictor in (run.predictor(), sartor.Predictor(tmp_path / "b.zip")):
        expected = predictor.probabilities(images)
        for same in (floats, torch.from_numpy(floats), list(floats), images.astype(np.int64)):
            np.testing.assert_array_equal(predictor.probabilities(same), expected)
        assert predictor.labels(floats) == predictor.labels(images)
        assert predictor.labels(floats[:0]) == []
    trained = sartor.fit(
        (floats, digits.labels[:5] % 2),
        model="linear",
        epochs=1,
        val_fraction=0,
        report=False,
        out=tmp_path / "floats",
    )
    assert trained.predictor().labels(floats) == trained.predictor().labels(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((2, 1, 8, 8), 1.5, np.float32), "from 1.5 to 1.5, which are neither bytes nor"),
        (np.full((2, 1, 8, 8), -0.5, np.float32), "neither bytes nor floats"),
        (np.full((2, 1, 8, 8), np.nan), "Not finite"),
        (np.full((2, 1, 8, 8), "a"), "no pixels"),
        (np.zeros((8, 8), np.uint8), r"shape \(8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"shape \(2, 8, 8, 4\)"),
        (np.ma.masked_less(np.zeros((2, 8, 8), np.uint8), 1), "128 masked values"),
        (np.zeros((28, 28, 3), np.uint8), r"may be one image in colour, or 28 gray ones"),
    ],
)
def test_other_arrays_are_refused(run: sartor.Run, images: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        run.predictor().probabilities(images)
    assert caught.value.hint


class TestPickled:
    def test_another_process_opens_it_again(
        self, run: sartor.Run, digits: Dataset, tmp_path: Path
    ) -> None:
        run.export(tmp_path / "b.zip")
        for source in (run.path, tmp_path / "b.zip"):
            predictor = sartor.Predictor(source, threads=1, calibrated=True)
            again = pickle.loads(pickle.dumps(predictor))
            images = digits.images[:5]
            assert np.array_equal(again.probabilities(images), predictor.probabilities(images))
            assert again.runtime == predictor.runtime
            assert again.calibration.to_json() == predictor.calibration.to_json()

    def test_options_come_along(self, run: sartor.Run) -> None:
        again = pickle.loads(pickle.dumps(sartor.Predictor(run.path, calibrated=False)))
        assert again.temperature == 1
        assert again.calibration.set_threshold is None

    def test_other_weights_in_its_place_are_refused(self, run_copy: Path) -> None:
        content = pickle.dumps(sartor.Predictor(run_copy, checkpoint="last"))
        sartor.resume(run_copy, epochs=4)
        with pytest.raises(RunError, match=r"other weights than when"):
            pickle.loads(content)

    def test_it_says_what_it_is(self, run: sartor.Run) -> None:
        predictor = sartor.Predictor(run.path)
        weights = predictor.weights_sha256[:12]
        assert repr(predictor) == f"<Predictor of {run.path}: 10 classes, torch, weights {weights}>"
