"""A run is calibrated once, keeps what was fitted, and every verb uses it the same way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import UsageError
from sartor.evaluation.calibration import fit_temperature, log_probabilities, scaled
from sartor.evaluation.conformal import conformal_quantile, members, true_scores
from sartor.evaluation.predictions import Predictions
from sartor.inference.calibration import EVERY_CLASS, METHODS
from sartor.inference.noise import noise_of


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> sartor.Run:
    """A copy of the finished run, judged on the test images."""
    copy = sartor.Run.open(shutil.copytree(trained, tmp_path_factory.mktemp("copy") / "run"))
    copy.evaluate("test")
    return copy


def few(digits: Dataset, count: int) -> Dataset:
    """So many images for validation, and as many to test."""
    chosen = np.arange(100 + 2 * count)
    given = {"val": chosen[100 : 100 + count], "test": chosen[100 + count :]}
    return Dataset(digits.images[chosen], digits.labels[chosen], digits.classes, **given)


def fitted_on(data: Any, out: Path, **settings: Any) -> sartor.Run:
    given: dict[str, Any] = {"epochs": 1, "threads": 1, "check": False, "report": False}
    return sartor.Run.of(sartor.fit(data, model="linear", out=out, **(given | settings)))


class TestFitted:
    def test_on_the_validation_images_of_the_best_weights(self, run: sartor.Run) -> None:
        run.evaluate("val")
        validation = Predictions.load(run.path / "predictions" / "val.npz")
        calibration = api.calibration_of(run)
        assert calibration.temperature == fit_temperature(validation).value != 1
        p = np.exp(scaled(log_probabilities(validation), calibration.temperature))
        scores = true_scores(p, validation.labels)
        assert calibration.set_threshold == conformal_quantile(scores, 0.95)
        assert (calibration.coverage, calibration.images) == (0.95, len(validation))
        assert calibration.remarks == ()
        assert calibration.novelty is not None
        assert calibration.novelty.images == len(validation)
        assert set(calibration.novelty.separation) == set(METHODS)

    def test_fit_keeps_it_so_that_nothing_is_fitted_again(
        self, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sartor.api.calibrating._fitted", None)
        found = api.calibration_of(sartor.Run.open(trained))
        assert found.novelty is not None

    def test_the_settings_decide_coverage_and_false_alarms(self, tmp_path: Path) -> None:
        run = fitted_on("digits", tmp_path / "run", coverage=0.8, false_alarms=0.1)
        calibration = api.calibration_of(run)
        assert calibration.coverage == 0.8
        assert calibration.novelty is not None
        assert calibration.novelty.false_alarms == 0.1
        evaluation = run.evaluate("test")
        assert evaluation.sets is not None
        assert evaluation.sets.promise.level == 0.8
        assert evaluation.sets.kept

    def test_of_the_last_weights_on_demand(self, run_copy: Path) -> None:
        run = sartor.Run.open(run_copy)
        last = api.calibration_of(run, "last")
        assert last.images == 144
        saved = run.evaluate("test", checkpoint="last")
        assert saved.sets is not None

    def test_a_longer_training_is_calibrated_again(self, run_copy: Path) -> None:
        before = api.calibration_of(sartor.Run.open(run_copy)).to_json()
        longer = sartor.resume(run_copy, epochs=6)
        after = api.calibration_of(longer).to_json()
        assert after != before
        assert api.calibration_of(sartor.Run.open(run_copy)).to_json() == after

    def test_an_old_run_is_calibrated_when_it_is_judged(self, run_copy: Path) -> None:
        kept = api.calibration_of(sartor.Run.open(run_copy)).to_json()
        shutil.rmtree(run_copy / "calibration")
        run = sartor.Run.open(run_copy)
        assert run.predictor().calibration.novelty is None
        evaluation = run.evaluate("test")
        assert evaluation.novelty is not None
        assert api.calibration_of(sartor.Run.open(run_copy)).to_json() == kept

    def test_a_damaged_file_is_named_and_made_again(self, run_copy: Path) -> None:
        path = run_copy / "calibration" / "best.safetensors"
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        run = sartor.Run.open(run_copy)
        with pytest.warns(sartor.SartorWarning, match="is damaged: its checksum"):
            run.evaluate("test")
        assert api.calibration_of(sartor.Run.open(run_copy)).novelty is not None

    def test_a_run_that_cannot_be_written_to_is_calibrated_all_the_same(
        self, run_copy: Path
    ) -> None:
        shutil.rmtree(run_copy / "calibration")
        (run_copy / "calibration").write_bytes(b"in the way of the folder")
        run = sartor.Run.open(run_copy)
        with pytest.warns(sartor.SartorWarning, match="calibration is not kept"):
            assert run.evaluate("test").sets is not None


class TestUsed:
    def test_predict_says_what_the_arrays_say(self, run: sartor.Run, digits: Dataset) -> None:
        saved = Predictions.load(run.path / "predictions" / "test.npz")
        calibration = api.calibration_of(run)
        assert calibration.novelty is not None
        assert saved.novelty is not None
        rows = saved.indices[:40]
        found = run.predict([as_picture(image) for image in digits.images[rows]])
        p = np.exp(scaled(log_probabilities(saved), calibration.temperature))[:40]
        assert calibration.set_threshold is not None
        inside = members(p, calibration.set_threshold)
        for row, one in enumerate(found):
            assert list(one.probabilities.values()) == pytest.approx(p[row], abs=1e-6)
            assert set(one.set or ()) == {digits.classes[k] for k in np.flatnonzero(inside[row])}
            assert one.novelty == pytest.approx(saved.novelty[row], rel=1e-4)
            assert one.unknown == bool(calibration.novelty.unknown(saved.novelty[row]))

    def test_raw_probabilities_come_without_sets(self, run: sartor.Run, digits: Dataset) -> None:
        picture = as_picture(digits.images[3])
        (raw,) = run.predict(picture, calibrated=False)
        (used,) = run.predict(picture)
        assert raw.set is None
        assert raw.novelty == used.novelty
        logits = run.predictor().logits(digits.images[3:4]).astype(float)
        softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert raw.probability == pytest.approx(softmax.max(), abs=1e-6)
        assert used.label == raw.label

    def test_noise_is_more_novel_than_digits(self, run: sartor.Run, digits: Dataset) -> None:
        images = digits.images[run.split().test[:60]]
        labels = digits.labels[run.split().test[:60]]
        usual = np.mean([one.novelty for one in run.predict([as_picture(i) for i in images])])
        for kind in ("uniform noise", "shuffled pixels"):
            made = [as_picture(image) for image in noise_of(kind, images, labels)]
            assert np.mean([one.novelty for one in run.predict(made)]) > usual

    def test_the_evaluation_is_of_these_sets(self, run: sartor.Run) -> None:
        evaluation = run.evaluate("test")
        saved = Predictions.load(run.path / "predictions" / "test.npz")
        calibration = api.calibration_of(run)
        sets, novelty = evaluation.sets, evaluation.novelty
        assert sets is not None
        assert novelty is not None
        assert calibration.set_threshold is not None
        p = np.exp(scaled(log_probabilities(saved), calibration.temperature))
        inside = members(p, calibration.set_threshold)
        assert sets.covered == inside[np.arange(len(p)), saved.labels].sum()
        assert sets.mean_size == inside.sum(1).mean()
        assert sum(sets.sizes) == sets.count == sum(row.count for row in sets.per_class)
        assert sets.covered == sum(row.covered for row in sets.per_class)
        assert calibration.novelty is not None
        assert saved.novelty is not None
        assert novelty.unknown == calibration.novelty.unknown(saved.novelty).sum()
        assert run.evaluate("val").sets is None, "the images that they were fitted on"

    def test_abstaining(self, run: sartor.Run, digits: Dataset, command: Any) -> None:
        noise = np.random.default_rng(0).integers(0, 2, (1, 8, 8), np.uint8) * 255
        folder = Path("pictures")
        folder.mkdir()
        as_picture(digits.images[3]).save(folder / "a.png")
        as_picture(noise).save(folder / "b.png")
        for way in ("off", "novelty", "set"):
            document = command("predict", run.path, folder, "--abstain", way, "--json").document
            assert [row["file"] for row in document] == ["pictures/a.png", "pictures/b.png"]
            for row in document:
                withheld = {"off": False, "novelty": row["unknown"], "set": len(row["set"]) != 1}
                assert (row["label"] is None) == withheld[way]
        with pytest.raises(UsageError, match="unknown way to abstain"):
            run.predict(folder, abstain="maybe")

    def test_the_command_shows_sets_and_what_is_unknown_in_80_columns(
        self, run: sartor.Run, digits: Dataset, command: Any, tmp_path: Path
    ) -> None:
        copy = shutil.copytree(run.path, tmp_path / "run")
        changed = sartor.Run.open(copy)
        kept = api.calibration_of(changed)
        from dataclasses import replace

        from sartor.api.kept_calibration import keep_calibration

        assert kept.novelty is not None
        every = replace(
            kept, set_threshold=0.9999999, novelty=replace(kept.novelty, threshold=-1e9)
        )
        weights = changed.predictor().weights_sha256
        keep_calibration(changed, every, weights, "best")
        as_picture(digits.images[3]).save("a.png")
        answer = command("predict", copy, "a.png")
        lines = answer.out.splitlines()
        assert lines[0].split() == ["picture", "label", "probability", "or,", "at", "95", "%"]
        assert "unknown, " in lines[2]
        assert max(map(len, lines)) <= 80
        assert "1 of 1 picture is unknown" in answer.err
        answer = command("predict", copy, "a.png", "--abstain", "novelty")
        assert answer.out.splitlines()[2].split()[:3] == ["a.png", "none", "unknown,"]

    def test_other_data_is_held_against_the_promise(self, run: sartor.Run, digits: Dataset) -> None:
        """Images that are not like those of validation break it, and that is said."""
        dark = (255 - digits.images[:400], digits.labels[:400])
        evaluation = sartor.evaluate(run, data=dark)
        assert evaluation.sets is not None
        assert not evaluation.sets.kept
        assert evaluation.novelty is not None
        assert evaluation.novelty.share > 0.05


class TestOddRuns:
    def test_without_validation_images(self, digits: Dataset, tmp_path: Path, command: Any) -> None:
        run = fitted_on("digits", tmp_path / "run", val_fraction=0)
        calibration = api.calibration_of(run)
        assert (calibration.temperature, calibration.set_threshold, calibration.novelty) == (
            *(1.0, None, None),
        )
        assert "no validation images" in calibration.remarks[0]
        (one,) = run.predict(as_picture(digits.images[0]))
        assert (one.set, one.novelty, one.unknown) == (None, None, None)
        assert run.evaluate("test").sets is None
        as_picture(digits.images[0]).save("a.png")
        assert "no validation images" in command("predict", run.path, "a.png").err

    @pytest.mark.parametrize("loss", ["mse", "bce"])
    def test_other_losses(self, loss: str, digits: Dataset, tmp_path: Path) -> None:
        run = fitted_on("digits", tmp_path / "run", loss=loss)
        calibration = api.calibration_of(run)
        (one,) = run.predict(as_picture(digits.images[0]))
        assert calibration.novelty is not None
        assert one.unknown is not None
        if loss == "mse":
            assert "scores, not probabilities: there are no sets" in calibration.remarks[0]
            assert one.set is None
            assert (calibration.temperature, run.evaluate("test").sets) == (1.0, None)
        else:
            assert one.set is not None
            sets = run.evaluate("test").sets
            assert sets is not None
            assert sets.coverage > 0.85

    @pytest.mark.parametrize("count", [1, 2, 5, 18, 19, 20])
    def test_few_validation_images(self, count: int, digits: Dataset, tmp_path: Path) -> None:
        run = fitted_on(few(digits, count), tmp_path / "run")
        calibration = api.calibration_of(run)
        (one,) = run.predict(as_picture(digits.images[0]))
        assert one.set is not None
        if count < 19:
            assert calibration.set_threshold == EVERY_CLASS
            assert len(one.set) == 10
            assert f"need 19 validation images and there are {count}" in calibration.remarks[1]
            assert one.unknown is None
        else:
            assert calibration.set_threshold is not None
            assert calibration.set_threshold < 1
            assert one.unknown is not None
        if count < 20:
            assert calibration.temperature == 1
        assert one.novelty is not None
        evaluation = run.evaluate("test")
        assert evaluation.sets is not None
        assert evaluation.sets.kept or count > 18

    def test_two_classes(self, digits: Dataset, tmp_path: Path) -> None:
        two = digits.labels < 2
        data = Dataset(digits.images[two], digits.labels[two], digits.classes[:2])
        run = fitted_on(data, tmp_path / "run", epochs=3)
        sets = run.evaluate("test").sets
        assert sets is not None
        assert sets.kept
        assert len(sets.sizes) == 3

    def test_all_validation_images_right_say_nothing_of_certainty(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        two = np.isin(digits.labels, (0, 1))
        data = Dataset(digits.images[two], digits.labels[two], digits.classes[:2])
        run = fitted_on(data, tmp_path / "run", epochs=10, lr=0.05)
        validation = Predictions.load(run.path / "predictions" / "val.npz")
        assert (validation.predicted() == validation.labels).all()
        calibration = api.calibration_of(run)
        assert calibration.temperature == 1
        assert "validation images are classified correctly" in calibration.remarks[0]

    def test_groups_of_images(self, digits: Dataset, tmp_path: Path) -> None:
        groups = tuple(f"writer {number // 9}" for number in range(len(digits.images)))
        data = Dataset(digits.images, digits.labels, digits.classes, groups=groups)
        run = fitted_on(data, tmp_path / "run", epochs=2)
        calibration = api.calibration_of(run)
        validation = Predictions.load(run.path / "predictions" / "val.npz")
        assert validation.groups is not None
        assert calibration.groups == len(np.unique(validation.groups))
        sets = run.evaluate("test").sets
        assert sets is not None
        assert (sets.expected, sets.promise.groups) == (None, calibration.groups)
        assert "one more group" in sets.promise.assumption

    def test_a_network_without_a_linear_layer_is_described_by_its_logits(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        network = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
        run = sartor.fit(
            "digits",
            model=network,
            epochs=1,
            threads=1,
            out=tmp_path / "run",
            check=False,
            report=False,
        )
        calibration = api.calibration_of(run)
        assert calibration.novelty is not None
        assert calibration.novelty.layer == ""
        (one,) = sartor.Run.of(run).predict(as_picture(digits.images[0]))
        assert one.unknown is not None

    @pytest.mark.filterwarnings("ignore:The loss before training is nan")
    def test_outputs_that_are_not_finite(self, tmp_path: Path) -> None:
        class Bursts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(64, 10)

            def forward(self, images: Any) -> Any:
                outputs = self.linear(images.flatten(1))
                return outputs if self.training else outputs * float("inf")

        run = sartor.fit(
            "digits",
            model=Bursts(),
            epochs=1,
            threads=1,
            out=tmp_path / "run",
            check=False,
            report=False,
        )
        calibration = api.calibration_of(run)
        assert (calibration.temperature, calibration.set_threshold, calibration.novelty) == (
            *(1.0, None, None),
        )
        assert len(calibration.remarks) == 2
        assert run.evaluate("test").sets is None

    def test_a_network_that_fails_only_now_costs_the_score_and_not_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sartor.api.calibrating.noise_of", lambda *_given: 1 / 0)
        calibration = api.calibration_of(fitted_on("digits", tmp_path / "run"))
        assert calibration.novelty is None
        assert calibration.set_threshold is not None
        assert "ZeroDivisionError" in calibration.remarks[0]
