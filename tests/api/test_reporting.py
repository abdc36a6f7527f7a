"""The report of a run, in Python."""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import nn

import sartor
from sartor import api
from sartor.api import reporting
from sartor.data.dataset import Dataset
from sartor.errors import FileError, RunError, UsageError
from sartor.evaluation.calibration import fit_temperature
from sartor.evaluation.predictions import Predictions

SMALL: dict[str, Any] = {
    "model": "mlp",
    "model_kwargs": {"hidden": (8,), "dropout": 0.2},
    "batch_size": 300,
    "epochs": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def judged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> sartor.Report:
    """The final judgement of a run; only read here."""
    run = Path(shutil.copytree(trained, tmp_path_factory.mktemp("judged") / "run"))
    return sartor.report(run)


class TestFinal:
    def test_figures_are_those_of_scikit_learn(self, judged: sartor.Report) -> None:
        predictions = Predictions.load(judged.path.parent / "predictions" / "test.npz")
        labels, predicted = predictions.labels, predictions.predicted()
        evaluation = judged.document["evaluation"]
        assert evaluation["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
        assert (
            evaluation["confusion"] == sklearn.metrics.confusion_matrix(labels, predicted).tolist()
        )
        columns = sklearn.metrics.precision_recall_fscore_support(
            labels, predicted, zero_division=np.nan
        )
        for row, (precision, recall, f1, count) in zip(
            evaluation["per_class"], zip(*columns, strict=True), strict=True
        ):
            assert row["count"] == count
            assert row["recall"] == pytest.approx(recall)
            assert row["f1"] == pytest.approx(f1)
            assert (row["precision"] is None) == math.isnan(precision)
        loss = sklearn.metrics.log_loss(labels, predictions.probabilities())
        assert evaluation["loss"] == pytest.approx(loss, rel=1e-6)
        assert judged.document["calibration"]["before"]["log_loss"] == pytest.approx(loss, rel=1e-6)

    def test_it_says_what_evaluate_says(self, judged: sartor.Report) -> None:
        plain = sartor.evaluate(judged.path.parent).to_json()
        evaluation = judged.document["evaluation"]
        assert evaluation | plain == evaluation | {"per_class": plain["per_class"]}
        assert judged.document["judged"] == {"split": "test", "final": True, "count": 359}

    def test_the_temperature_is_of_the_validation_split(self, judged: sartor.Report) -> None:
        val = Predictions.load(judged.path.parent / "predictions" / "val.npz")
        calibration = judged.document["calibration"]
        assert calibration["temperature"] == vars(fit_temperature(val))
        assert calibration["fitted_on"] == "val"
        assert calibration["cross_fitted"] is False
        assert sum(one["count"] for one in calibration["after"]["bins"]) == 359, "judged on test"

    def test_what_is_written(self, judged: sartor.Report) -> None:
        folder = judged.path.parent
        assert json.loads((folder / "report.json").read_text()) == judged.document
        assert (folder / "report.json").read_text().count("\n") == 1
        page = (folder / "report.html").read_text()
        assert "test split" in page
        assert "validation split</span>" not in page
        with (folder / "mistakes.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        evaluation = judged.document["evaluation"]
        wrong = evaluation["count"] - sum(row["correct"] for row in evaluation["per_class"])
        assert len(rows) == wrong == judged.document["mistakes"]["count"]
        assert list(rows[0]) == [
            *("index", "file", "true", "predicted"),
            *("confidence", "probability_of_true", "loss"),
        ]
        losses = [float(row["loss"]) for row in rows]
        assert losses == sorted(losses, reverse=True)

    def test_the_same_run_gives_the_same_files(self, judged: sartor.Report, tmp_path: Path) -> None:
        again = sartor.report(judged.path.parent, out=tmp_path / "again.html")
        assert again.path.read_bytes().replace(b"again-mistakes.csv", b"mistakes.csv") == (
            judged.path.read_bytes()
        )
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            *("again-mistakes.csv", "again.html", "again.json"),
        ]

    def test_its_map_shows_the_images_that_it_judges(self, judged: sartor.Report) -> None:
        run = sartor.Run.open(judged.path.parent)
        embedding = sartor.embed(run, "test")
        drawn = judged.document["map"]
        assert [point["index"] for point in drawn["points"]] == embedding.indices.tolist()
        places = [(point["x"], point["y"]) for point in drawn["points"]]
        assert np.array(places) == pytest.approx(embedding.points, abs=1e-3)
        strangest = [one["index"] for one in drawn["outliers"]]
        assert strangest == embedding.outliers(len(strangest)).tolist()
        page = judged.path.read_text()
        assert page.count('<span class="point') == len(drawn["points"])
        assert page.count('<span class="point strange') == len(strangest)

    def test_the_map_can_be_of_another_kind(self, judged: sartor.Report, tmp_path: Path) -> None:
        folder = judged.path.parent
        report = sartor.report(folder, split="val", map="tsne", out=tmp_path / "tsne.html")
        assert report.document["map"]["method"] == "tsne"
        expected = sartor.embed(folder, "val", method="tsne").points
        drawn = [(point["x"], point["y"]) for point in report.document["map"]["points"]]
        assert np.array(drawn) == pytest.approx(expected, abs=1e-3)
        with pytest.raises(UsageError, match='did you mean "tsne"'):
            sartor.report(folder, map="t-sne", out=tmp_path / "wrong.html")

    def test_it_shows_what_spoke_for_either_class_of_the_worst_mistakes(
        self, judged: sartor.Report
    ) -> None:
        explained = judged.document["explained"]
        assert explained["method"] == "occlusion"
        worst = judged.document["mistakes"]["images"][:8]
        names = ("index", "true", "predicted")
        assert [[one[name] for name in names] for one in explained["images"]] == [
            [one[name] for name in names] for one in worst
        ]
        page = judged.path.read_text()
        for one in worst:
            for name in (one["true"], one["predicted"]):
                assert f'aria-label="evidence for {name} in image {one["index"]}"' in page

    def test_without_captum_the_rest_is_there(
        self, judged: sartor.Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "captum.attr", None)
        with pytest.warns(sartor.SartorWarning, match=r"does not explain.*sartor\[explain\]"):
            report = sartor.report(judged.path.parent, out=tmp_path / "report.html")
        assert report.document["explained"] is None
        assert report.document["evaluation"] == judged.document["evaluation"]
        assert "Evidence for the predicted" not in report.path.read_text()

    def test_in_a_notebook(self, judged: sartor.Report) -> None:
        assert repr(judged).startswith(f"<Report {judged.path}: test accuracy ")
        assert "<table>" in judged._repr_html_()
        assert judged.split == "test"
        run = sartor.Run.open(judged.path.parent)
        assert run.report().document == judged.document


class TestOfTraining:
    def test_judges_the_validation_split_alone(self, trained: Path) -> None:
        document = json.loads((trained / "report.json").read_text())
        assert document["judged"] == {"split": "val", "final": False, "count": 144}
        assert document["calibration"]["cross_fitted"] is True
        assert document["untouched"] == {
            "split": "test",
            "count": 359,
            "command": f"sartor report {trained}",
        }
        page = (trained / "report.html").read_text()
        assert "359 test images have not been used yet" in page
        assert "test split" not in page

    def test_the_test_images_change_nothing_in_it(self, digits: Dataset, tmp_path: Path) -> None:
        test = np.arange(0, len(digits), 5)
        images = digits.images.copy()
        images[test] = 255 - images[test]
        found = []
        for number, pixels in enumerate((digits.images, images)):
            data = Dataset(pixels, digits.labels, test=test, name="set")
            run = sartor.fit(data, out=tmp_path / str(number), **SMALL)
            document = json.loads((run.path / "report.json").read_text())
            assert not (run.path / "predictions" / "test.npz").exists()
            found.append([document[key] for key in ("evaluation", "mistakes", "calibration")])
        assert found[0] == found[1]

    def test_without_a_validation_split_nothing_is_judged(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        run = sartor.fit(digits, out=tmp_path / "run", val_fraction=0.0, **SMALL)
        document = json.loads((run.path / "report.json").read_text())
        assert document["judged"] is None
        assert "no validation split" in (run.path / "report.html").read_text()
        assert not (run.path / "predictions").exists()
        final = sartor.report(run)
        assert final.split == "test"
        assert "no validation split" in final.document["calibration"]["reason"]
        assert final.document["calibration"]["after"] is None
        with pytest.raises(UsageError, match=r"val split of .* has no images"):
            sartor.report(run, "val")

    def test_a_set_without_either(self, digits: Dataset, tmp_path: Path) -> None:
        nothing = {"val_fraction": 0.0, "test_fraction": 0.0}
        run = sartor.fit(digits, out=tmp_path / "run", **nothing, **SMALL)
        final = sartor.report(run)
        assert final.split is None
        assert "nothing judged" in repr(final)
        assert "there is nothing to evaluate" in final._repr_html_()

    def test_it_can_be_left_out(self, digits: Dataset, tmp_path: Path) -> None:
        run = sartor.fit(digits, out=tmp_path / "run", report=False, **SMALL)
        assert not list(run.path.glob("report.*"))
        run.resume(epochs=2)
        document = json.loads((run.path / "report.json").read_text())
        assert document["training"]["epochs"] == 2, "a longer run has another one"

    @pytest.mark.parametrize("error", [FileError("Cannot write it."), ZeroDivisionError("mine")])
    def test_where_it_fails_the_run_is_finished_all_the_same(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(reporting, "write_text", fails)
        with pytest.warns(sartor.SartorWarning, match="report could not be made: .*sartor resume"):
            run = sartor.fit(digits, out=tmp_path / "run", **SMALL)
        assert run.status["state"] == "finished"
        monkeypatch.undo()
        assert sartor.report(run, "val").path.is_file()


class Net(nn.Module):
    """A network of a Python program."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(images.flatten(1))
        return logits


class TestAgain:
    """The commands of a report make the same weights."""

    def weights_after(self, commands: list[str], command: Any, folder: Path) -> str:
        for line in commands:
            words = shlex.split(line)
            if words[0] == "cp":
                shutil.copy(words[1], words[2])
                continue
            out = [] if "--out" in words or words[1] == "resume" else ["--out", folder / "made"]
            assert words[0] == "sartor"
            answer = command(*words[1:], *out, "--json", "--quiet")
            assert answer.exit_code == 0, answer.err
        return str(answer.document["weights_sha256"])

    def test_of_a_named_set(self, trained: Path, command: Any, tmp_path: Path) -> None:
        document = json.loads((trained / "report.json").read_text())
        again = self.weights_after(document["again"]["commands"], command, tmp_path)
        assert again == document["run"]["weights_sha256"] == sartor.Run.open(trained).weights_sha256

    def test_of_a_run_that_was_made_longer(
        self, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        run = sartor.fit("digits", out="my run", sched="cosine", report=False, **SMALL)
        for epochs in (2, 4):
            sartor.resume(run, epochs=epochs, report=epochs == 4)
        document = json.loads((run.path / "report.json").read_text())
        commands = document["again"]["commands"]
        assert commands[1:] == [f"sartor resume again --epochs {count}" for count in (2, 4)]
        assert self.weights_after(commands, command, tmp_path) == run.weights_sha256

    def test_of_a_network_in_a_file_that_has_changed(
        self, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        source = (
            "from torch import nn\n\n\n"
            "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        )
        Path("net.py").write_text(source)
        settings = SMALL | {"model": "net.py:net", "model_kwargs": {}}
        run = sartor.fit("digits", out="run", **settings)
        commands, _ = api.repeating.commands_to_repeat(run)
        assert len(commands) == 1
        Path("net.py").write_text(source.replace("Linear(64", "Linear(3"))
        commands, _ = api.repeating.commands_to_repeat(run)
        assert self.weights_after(commands, command, tmp_path) == run.weights_sha256
        Path("net.py").unlink()
        commands, _ = api.repeating.commands_to_repeat(run)
        assert self.weights_after(commands, command, tmp_path / "x") == run.weights_sha256

    def test_of_python_objects(self, digits: Dataset, tmp_path: Path) -> None:
        data = Dataset(digits.images, digits.labels)
        settings = SMALL | {"model": Net(), "model_kwargs": {}}
        run = sartor.fit(data, out=tmp_path / "run", **settings)
        (line,), note = api.repeating.commands_to_repeat(run)
        assert note == "A Python program gave this run the data and the network; call this in it."
        names = {"sartor": sartor, "data": data, "network": Net()}
        again = eval(line.replace(")", f", out={str(tmp_path / 'again')!r})"), names)
        assert again.weights_sha256 == run.weights_sha256


class TestBadInput:
    def test_of_the_training_images_there_is_none(self, trained: Path) -> None:
        with pytest.raises(UsageError, match='cannot judge "train"'):
            sartor.report(trained, "train")

    def test_a_page_ends_in_html(self, trained: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"x\.json does not end in \.html"):
            sartor.report(trained, "val", out=tmp_path / "x.json")

    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="There is nothing at"):
            sartor.report(tmp_path / "nowhere")

    def test_a_damaged_findings_file_is_none(self, run_copy: Path) -> None:
        for content in ("{", "{}", '"words"'):
            (run_copy / "findings.json").write_text(content)
            assert sartor.report(run_copy, "val").document["data"]["findings"] is None
        (run_copy / "findings.json").write_text("[]")
        assert sartor.report(run_copy, "val").document["data"]["findings"] == []

    def test_predictions_of_other_weights_are_made_anew(self, run_copy: Path) -> None:
        before = sartor.report(run_copy).document["calibration"]
        path = run_copy / "predictions" / "val.npz"
        for content in (b"damaged", None):
            if content is None:
                sartor.evaluate(run_copy, "val", checkpoint="last")
            else:
                path.write_bytes(content)
            assert sartor.report(run_copy).document["calibration"] == before
