"""The JSON that scripts rely on: one line on stdout and nothing else there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture

FIT = {
    "run": str,
    "epochs": int,
    "steps": int,
    "seconds": float,
    "images_per_second": float,
    "train_loss": float,
    "train_accuracy": float,
    "val_loss": float,
    "val_accuracy": float,
    "weights_sha256": str,
    "best": dict,
}
ROW = {
    "epoch": int,
    "step": int,
    "seconds": float,
    "learning_rate": float,
    "train_loss": float,
    "train_accuracy": float,
    "val_loss": float,
    "val_accuracy": float,
    "images_per_second": float,
    "val_balanced_accuracy": float,
    "val_macro_f1": float,
}
NONE = type(None)


def check(document: dict[str, Any], contract: dict[str, Any]) -> None:
    """Exactly these keys, and values of these types."""
    assert document.keys() == contract.keys()
    for key, kind in contract.items():
        assert isinstance(document[key], kind), key


class TestFitAndResume:
    def test_fit(self, command: Any, tmp_path: Path) -> None:
        out = tmp_path / "run"
        answer = command("fit", "digits", "--epochs", 2, "--threads", 1, "--out", out, "--json")
        assert answer.exit_code == 0
        check(answer.document, FIT)
        run = sartor.Run.open(out)
        assert answer.document == run.result()
        assert answer.document["run"] == str(out)
        assert (answer.document["epochs"], answer.document["steps"]) == (2, 2 * 41)
        assert answer.document["weights_sha256"] == run.weights_sha256

    def test_without_a_validation_split_null(self, command: Any, tmp_path: Path) -> None:
        words = ["--epochs", 1, "--threads", 1, "--val-fraction", 0, "--out", tmp_path / "run"]
        document = command("fit", "digits", *words, "--json", "--quiet").document
        check(document, FIT | {"val_loss": NONE, "val_accuracy": NONE, "best": NONE})
        (row,) = command("show", tmp_path / "run", "--json").document["history"]
        open_ones = [key for key in ROW if key.startswith("val_")]
        check(row, ROW | dict.fromkeys(open_ones, NONE))

    def test_resume(self, command: Any, run_copy: Path) -> None:
        check(command("resume", run_copy, "--epochs", 4, "--json").document, FIT)
        check(command("resume", run_copy, "--json").document, FIT)

    def test_a_loss_that_is_no_number_is_null(
        self, command: Any, run_copy: Path, trained: Path
    ) -> None:
        path = run_copy / "history.jsonl"
        loss = repr(sartor.Run.open(trained).history[0]["val_loss"])
        path.write_text(path.read_text().replace(loss, "NaN"))
        assert math.isnan(sartor.Run.open(run_copy).history[0]["val_loss"])
        assert command("show", run_copy, "--json").document["history"][0]["val_loss"] is None

    def test_overfit_batch(self, command: Any, tmp_path: Path) -> None:
        words = ["fit", "digits", "--overfit-batch", "--model", "mlp", "--batch-size", 8]
        answer = command(*words, "--threads", 1, "--json", "--out", tmp_path / "run")
        check(
            answer.document,
            {
                "learnt": bool,
                "steps": int,
                "images": int,
                "first_loss": float,
                "loss": float,
                "accuracy": float,
            },
        )
        assert answer.document["learnt"] is True
        assert list(tmp_path.iterdir()) == [], "it makes no run"


class TestEvaluate:
    def test_keys_and_types(self, command: Any, trained: Path) -> None:
        document = command("evaluate", trained, "--json").document
        contract = {
            "split": str,
            "count": int,
            "loss": float,
            "accuracy": float,
            "accuracy_interval": list,
            "balanced_accuracy": float,
            "macro_f1": float,
            "per_class": list,
            "confusion": list,
            "checkpoint": str,
            "epoch": int,
            "chosen_on_validation": bool,
            "looks": dict,
            "as_given": NONE,
            "not_finite": int,
            "choices": int,
            "groups": NONE,
            "interval_method": str,
            "weakest": dict,
            "sets": dict,
            "novelty": dict,
        }
        check(document, contract)
        for row in document["per_class"]:
            check(
                row,
                {
                    "class": str,
                    "count": int,
                    "correct": int,
                    "accuracy": float,
                    "interval": list,
                    "precision": float | None,
                    "recall": float,
                    "f1": float | None,
                },
            )
        assert document["split"] == "test"

    def test_figures_belong_together(self, command: Any, trained: Path) -> None:
        for split, count in (("test", 359), ("val", 144), ("train", 1294)):
            document = command("evaluate", trained, "--split", split, "--json").document
            confusion = np.array(document["confusion"])
            assert confusion.sum() == document["count"] == count
            assert np.trace(confusion) / count == document["accuracy"]
            low, high = document["accuracy_interval"]
            assert low < document["accuracy"] < high
            assert [row["count"] for row in document["per_class"]] == confusion.sum(1).tolist()
            assert [row["correct"] for row in document["per_class"]] == np.diag(confusion).tolist()

    def test_equals_python(self, command: Any, trained: Path) -> None:
        document = command("evaluate", trained, "--json", "--checkpoint", "last").document
        weights = {"checkpoint": "last", "epoch": 3, "chosen_on_validation": False}
        assert document.pop("looks").keys() == {"times", "by_this_run", "weights", "single"}
        assert document == sartor.evaluate(trained, checkpoint="last").to_json() | weights


class TestReport:
    def test_it_is_what_the_file_holds(self, command: Any, run_copy: Path, tmp_path: Path) -> None:
        answer = command("report", run_copy, "--split", "val", "--json")
        assert answer.exit_code == 0
        assert answer.out == (run_copy / "report.json").read_text()
        assert answer.document["version"] == 1
        final = command("report", run_copy, "--out", tmp_path / "new" / "page.html", "--json")
        assert final.document["judged"] == {"split": "test", "final": True, "count": 359}
        assert final.out == (tmp_path / "new" / "page.json").read_text()
        assert answer.out == (run_copy / "report.json").read_text(), "the run's own stays"


class TestPredict:
    @pytest.fixture
    def pictures(self, digits: Dataset, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for index in range(3):
            as_picture(digits.images[index]).save(folder / f"{index}.png")
        return folder

    def test_keys_and_types(self, command: Any, trained: Path, pictures: Path) -> None:
        document = command("predict", trained, pictures, "--json").document
        assert [Path(one["file"]).name for one in document] == ["0.png", "1.png", "2.png"]
        for one in document:
            contract = {
                "file": str,
                "label": str,
                "probability": float,
                "probabilities": dict,
                "set": list,
                "novelty": float,
                "novelty_percentile": float,
                "unknown": bool,
                "unlike_training": list,
            }
            check(one, contract)
            assert one["set"][0] == one["label"]
            assert list(one["probabilities"]) == list("0123456789")
            assert sum(one["probabilities"].values()) == pytest.approx(1)
            assert one["probabilities"][one["label"]] == one["probability"]

    def test_topk(self, command: Any, trained: Path, pictures: Path) -> None:
        everything = command("predict", trained, pictures, "--json").document
        short = command("predict", trained, pictures, "--json", "--topk", 2).document
        for one, other in zip(everything, short, strict=True):
            best = sorted(one["probabilities"].values(), reverse=True)[:2]
            assert list(other["probabilities"].values()) == best
            assert next(iter(other["probabilities"])) == one["label"] == other["label"]

    def test_what_cannot_be_read_is_in_its_place(
        self, command: Any, trained: Path, pictures: Path
    ) -> None:
        words = pictures / "0.png", "nowhere.png", pictures / "1.png"
        answer = command("predict", trained, *words, "--json")
        assert answer.exit_code == 1
        assert [one["file"] for one in answer.document] == list(map(str, words))
        fault = answer.document[1]
        check(fault, {"file": str, "error": str})
        assert "no such file" in fault["error"]
        assert all("error" not in one for one in answer.document[::2])


class TestShowAndRuns:
    def test_show(self, command: Any, trained: Path) -> None:
        document = command("show", trained, "--json").document
        contract = {
            "run": str,
            "recipe": dict,
            "status": str,
            "history": list,
            "weights_sha256": str,
            "split_sha256": str,
            "engine": NONE,
            "transfer": NONE,
        }
        check(document, contract)
        for row in document["history"]:
            check(row, ROW)
        run = sartor.Run.open(trained)
        assert document["weights_sha256"] == run.weights_sha256
        assert document["split_sha256"] == run.split_sha256 == run.recipe.data.split_hash
        assert type(run.recipe).from_tables(document["recipe"]) == run.recipe
        assert document["status"] == "finished"

    def test_runs(self, command: Any, trained: Path) -> None:
        (document,) = command("runs", trained.parent, "--json").document
        check(
            document,
            {
                "name": str,
                "path": str,
                "state": str,
                "source": str,
                "model": str,
                "epochs_done": int,
                "epochs": int,
                "best_epoch": int,
                "val_accuracy": float,
                "train_accuracy": float,
                "seconds": float,
                "seeds": NONE,
            },
        )

    def test_no_runs_is_an_empty_list(self, command: Any, tmp_path: Path) -> None:
        assert command("runs", tmp_path, "--json").document == []
        assert command("runs", tmp_path / "nowhere", "--json").document == []


class TestDataAndSummary:
    def test_data(self, command: Any, digits: Dataset) -> None:
        document = command("data", "digits", "--json").document
        assert document["set"] == "digits"
        assert document["count"] == len(digits)
        assert document["shape"] == [1, 8, 8]
        assert document["fingerprint"] == digits.fingerprint
        counts = np.bincount(digits.labels).tolist()
        (part,) = document["parts"]
        assert [row[part] for row in document["classes"]] == counts
        assert [row["class"] for row in document["classes"]] == list(digits.classes)
        pixels = digits.images / 255
        assert document["mean"] == [pytest.approx(pixels.mean(), abs=1e-6)]
        assert document["std"] == [pytest.approx(pixels.std(), abs=1e-6)]

    def test_data_with_a_picture(self, command: Any, tmp_path: Path) -> None:
        answer = command("data", "--json", "--samples", 4, "--out", tmp_path / "few.png")
        assert answer.document["count"] == 1797
        assert answer.err == f"Wrote {tmp_path / 'few.png'}\n"
        assert (tmp_path / "few.png").stat().st_size > 1000

    def test_latest_is_a_run_wherever_one_is_asked_for(
        self, command: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "one").symlink_to(trained.resolve())
        monkeypatch.chdir(tmp_path)
        named = command("summary", "one", "--json").document
        assert command("summary", "latest", "--json").document == named

    def test_one_image_of_a_set(self, command: Any, tmp_path: Path, digits: Any) -> None:
        words = ("data", "digits", "--image", 5, "--out", tmp_path / "five.png")
        image = command(*words, "--json").document["image"]
        pixels = digits.images[5]
        assert (image["index"], image["class"]) == (5, digits.classes[digits.labels[5]])
        assert (image["lowest"], image["highest"]) == (pixels.min(), pixels.max())
        assert image["mean"] == pytest.approx(pixels.mean(), abs=0.01)
        printed = command(*words).out
        assert printed.startswith(f"image 5 of digits: class {image['class']}\n1x8x8 pixels from 0")
        assert len(printed.splitlines()) == 2

    def test_summary(self, command: Any, trained: Path) -> None:
        for words in (["lenet", "--model-kwargs", "dropout=0.2"], [trained]):
            document = command("summary", *words, "--json").document
            assert document["parameters"] == sum(row["parameters"] for row in document["rows"])
            assert document["input_shape"] == [1, 1, 8, 8]
            assert document["output_shape"] == [1, 10]


def test_every_json_document_is_ascii(command: Any, run_copy: Path) -> None:
    renamed = run_copy.rename(run_copy.parent / "Läufe")
    answer = command("show", renamed, "--json")
    assert answer.out.isascii()
    assert answer.document["run"] == str(renamed)
