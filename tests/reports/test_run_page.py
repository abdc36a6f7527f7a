"""The page of a run, and what report.json says."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.evaluation.judgement import judge
from sartor.evaluation.predictions import Predictions
from sartor.models.summary import Row, Summary
from sartor.reports.contents import Document, Evidence, describe, mistakes_table
from sartor.reports.page import render
from sartor.reports.run_page import _stages, render_notebook, render_report

_reading = importlib.util.spec_from_file_location("reading", Path(__file__).parent / "reading.py")
assert _reading
assert _reading.loader
reading = importlib.util.module_from_spec(_reading)
_reading.loader.exec_module(reading)

NETWORK = Summary(
    model="Sequential",
    input_shape=(1, 1, 8, 8),
    output_shape=(1, 4),
    rows=(
        Row(
            name="linear<1>",
            kind="Linear",
            output_shape=(1, 4),
            parameter_shapes={"weight": (4, 64), "bias": (4,)},
            parameters=260,
            parameter_bytes=1040,
            multiply_adds=0,
            memory_bytes=16,
            repeated=False,
        ),
    ),
    parameters=260,
    trainable_parameters=260,
    parameter_bytes=1040,
    multiply_adds=0,
    memory_bytes=16,
)
HISTORY = [
    {
        "epoch": epoch,
        "step": epoch,
        "seconds": 0.5,
        "learning_rate": 0.001,
        "train_loss": 1.0 / epoch,
        "train_accuracy": 0.5,
        "val_loss": math.inf if epoch == 1 else None,
        "val_accuracy": None,
        "images_per_second": 1000.0,
    }
    for epoch in (1, 2)
]

Make = Callable[..., tuple[Document, Dataset]]


@pytest.fixture
def made() -> Make:
    """A report of predictions that were drawn, on images that were drawn."""

    def make(
        *,
        count: int = 200,
        classes: int = 4,
        shape: tuple[int, int, int] = (1, 8, 8),
        skill: float = 1.5,
        split: str = "test",
        judged: bool = True,
        **changes: Any,
    ) -> tuple[Document, Dataset]:
        random = np.random.default_rng(0)
        names = [f"<i>{place}</i> & co" for place in range(classes)]
        labels = np.arange(2 * count) % classes
        files = tuple(f"a folder/{number}.png" for number in range(2 * count))
        images = random.integers(0, 256, (2 * count, *shape), np.uint8)
        dataset = Dataset(images, labels, tuple(names), name="drawn", files=files)
        indices = np.arange(count, 2 * count)
        logits = random.normal(size=(count, classes))
        logits[np.arange(count), labels[indices]] += skill
        predictions = Predictions(
            logits=logits.astype(np.float32),
            labels=labels[indices],
            indices=indices,
            classes=tuple(names),
            split=split,
            loss="cross-entropy",
            weights_sha256="w",
            dataset_fingerprint=dataset.fingerprint,
        )
        parts = {"test": indices[:0], "val": indices[:0]} | {split: indices}
        evidence = {
            "run": {
                "path": "runs/x",
                "state": "finished",
                "checkpoint": "best",
                "epoch": 2,
                "best_epoch": 2,
                "judged_weights_sha256": "0" * 64,
                "weights_sha256": "1" * 64,
            },
            "dataset": dataset,
            "split": Split(np.arange(count), parts["val"], parts["test"]),
            "network": NETWORK,
            "history": HISTORY,
            "recipe": {"model": {"model": "mlp"}},
            "environment": {"python": "3", "packages": {"torch": "2"}, "command": ["a", "b"]},
            "findings": None,
            "commands": ["sartor fit --recipe runs/x/recipe.toml"],
            "note": "",
            "predictions": predictions if judged else None,
            "judgement": judge(predictions, predictions if split == "val" else None)
            if judged
            else None,
        }
        return describe(Evidence(**evidence | changes)), dataset

    return make


def page_of(made: tuple[Document, Dataset]) -> str:
    return render_report(*made, recipe="[data]\n", mistakes="mistakes.csv")


class TestPage:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"split": "val"},
            {"judged": False},
            {"skill": 99.0},
            {"classes": 2, "count": 2},
            {"classes": 120, "count": 1200, "shape": (3, 32, 32), "skill": 4.0},
            {"shape": (3, 130, 200), "skill": 0.0},
            {"history": []},
        ],
    )
    def test_is_whole_and_asks_for_nothing(self, made: Make, settings: dict[str, Any]) -> None:
        text = page_of(made(**settings))
        page = reading.Page(text)
        assert page.faults == []
        assert len(text.encode()) < 3_000_000
        assert page.tags["main"] == page.tags["h1"] == page.tags["header"] == 1
        assert "http" not in text.replace("Content-Security-Policy", "").replace("http-equiv", "")

    def test_it_stays_small_with_the_worst_of_images(self, made: Make) -> None:
        """Noise in colour cannot be compressed."""
        text = page_of(made(count=900, classes=30, shape=(3, 96, 96), skill=0.0))
        assert len(text.encode()) < 3_000_000

    def test_names_are_escaped(self, made: Make) -> None:
        text = page_of(made())
        assert "<i>1</i>" not in text
        assert "&lt;i&gt;1&lt;/i&gt; &amp; co" in text
        assert "linear&lt;1&gt;" in text

    def test_every_wrong_cell_opens_its_images(self, made: Make) -> None:
        document, dataset = made()
        text = page_of((document, dataset))
        for one in document["confusions"]:
            heading = re.escape(f"{one['true']} predicted as {one['predicted']}").replace(
                "&", "&amp;"
            )
            heading = heading.replace("<", "&lt;").replace(">", "&gt;")
            popover = re.search(
                rf"<div popover(?:(?!</div>).)*<h3[^>]*>{heading}</h3>.*?</div>", text, re.S
            )
            assert popover, heading
            shown = popover[0].count('role="img"')
            assert 1 <= shown <= one["count"]
            more = one["count"] - shown
            assert (f"{more:,} more are listed" in popover[0]) == (more > 0)

    def test_many_classes_have_pairs_instead_of_a_matrix(self, made: Make) -> None:
        text = page_of(made(classes=31, count=620))
        assert 'class="matrix"' not in text
        assert "Most confused pairs" in text
        assert "popovertarget" in text
        assert 'class="matrix"' in page_of(made(classes=30, count=600))

    def test_each_section_says_what_it_is_about(self, made: Make) -> None:
        for split, called in (("test", "test split"), ("val", "validation split")):
            text = page_of(made(split=split))
            assert text.count(f'<span class="about">{called}</span>') == 7
            other = {"test split": "validation split", "validation split": "test split"}[called]
            assert f'<span class="about">{other}</span>' not in text

    def test_what_the_check_found(self, made: Make) -> None:
        assert "was not checked" in page_of(made())
        assert "No faults found." in page_of(made(findings=[]))
        found = [
            {
                "check": "twins",
                "severity": "error",
                "summary": "2 images are <the same>.",
                "count": 2,
                "files": ["a.png", "b&c.png"],
                "remedy": "Remove one.",
            },
            {"summary": "So little is known."},
        ]
        text = page_of(made(findings=found))
        for words in ("2 images are &lt;the same&gt;.", "b&amp;c.png", "Remove one.", "So little"):
            assert words in text

    def test_no_template_lacks_a_value(self) -> None:
        assert "<main" in render("base.html")


class TestDocument:
    def test_is_strict_json_under_the_documented_keys(self, made: Make) -> None:
        import sartor.reports.contents

        for settings in ({}, {"judged": False}, {"split": "val"}):
            document, _ = made(**settings)
            assert json.loads(json.dumps(document, allow_nan=False)) == document
            assert document["version"] == 1
            words = sartor.reports.contents.__doc__ or ""
            listed = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*)  ", words, re.M)
            assert set(", ".join(listed).split(", ")) == set(document)

    def test_judged_and_not(self, made: Make) -> None:
        document, _ = made(judged=False)
        assert document["judged"] is document["evaluation"] is document["mistakes"] is None
        document, _ = made()
        assert document["judged"] == {"split": "test", "final": True, "count": 200}
        assert document["untouched"] is None
        document, _ = made(split="val")
        assert document["judged"]["final"] is False

    def test_mistakes_are_the_wrong_answers_the_worst_first(self, made: Make) -> None:
        document, dataset = made()
        images = document["mistakes"]["images"]
        evaluation = document["evaluation"]
        wrong = evaluation["count"] - sum(row["correct"] for row in evaluation["per_class"])
        assert document["mistakes"]["count"] == wrong
        losses = [image["loss"] for image in images]
        assert losses == sorted(losses, reverse=True)
        for image in images:
            assert image["true"] == dataset[image["index"]].class_name != image["predicted"]
            assert image["file"] == dataset.files[image["index"]]
            assert image["loss"] == pytest.approx(-math.log(image["probability_of_true"]))
            assert image["confidence"] >= image["probability_of_true"]

    def test_confusions_and_pairs_add_up(self, made: Make) -> None:
        document, _ = made()
        matrix, classes = np.array(document["evaluation"]["confusion"]), document["data"]["classes"]
        off = {(t, p): matrix[i, j] for i, t in enumerate(classes) for j, p in enumerate(classes)}
        for one in document["confusions"]:
            assert one["count"] == off[one["true"], one["predicted"]]
            assert {image["predicted"] for image in one["images"]} == {one["predicted"]}
        total = matrix.sum() - matrix.trace()
        assert sum(one["count"] for one in document["confusions"]) == total
        assert sum(one["count"] for one in document["pairs"]) == total
        for pair in document["pairs"]:
            assert pair["there"] + pair["back"] == pair["count"]

    def test_data_and_samples(self, made: Make) -> None:
        document, dataset = made()
        data = document["data"]
        assert data["splits"]["train"] == {"count": 200, "per_class": [50] * 4}
        for label, row in enumerate(data["samples"]):
            assert row["class"] == dataset.classes[label]
            assert len(row["indices"]) == len(set(row["indices"])) == 6
            assert (dataset.labels[row["indices"]] == label).all()
            assert max(row["indices"]) < 200, "of the training split"

    def test_a_loss_that_is_no_number_is_null(self, made: Make) -> None:
        document, _ = made()
        assert document["training"]["history"][0]["val_loss"] is None

    def test_mistakes_table_names_all(self, made: Make) -> None:
        _, dataset = made()
        random = np.random.default_rng(1)
        logits = random.normal(size=(200, 4)).astype(np.float32)
        predictions = Predictions(
            logits=logits,
            labels=dataset.labels[:200],
            indices=np.arange(200),
            classes=dataset.classes,
            split="test",
            loss="cross-entropy",
            weights_sha256="w",
            dataset_fingerprint="d",
        )
        rows = mistakes_table(predictions, None)
        assert len(rows) == (predictions.predicted() != predictions.labels).sum()
        assert {row["file"] for row in rows} == {None}


def test_notebook(made: Make) -> None:
    document, _ = made()
    page = render_notebook(document, "runs/x/report.html")
    assert "<i>1</i>" not in page
    assert "runs/x/report.html" in page
    assert "nothing to evaluate" in render_notebook(made(judged=False)[0], "x")


class TestCalibrationInWords:
    """What the page says, by hand-made figures of the calibration."""

    def said(self, made: Make, gap: tuple[float, float, float], ece: float) -> str:
        document, dataset = made()
        before = document["calibration"]["before"]
        low, value, high = gap
        verdict = "overconfident" if low > 0 else "underconfident" if high < 0 else None
        before |= {"gap": value, "gap_interval": [low, high], "verdict": verdict}
        before |= {"ece": ece, "ece_by_chance": 0.03, "ece_by_chance_mean": 0.02}
        return " ".join(render_report(document, dataset, "", "mistakes.csv").split())

    @pytest.mark.parametrize("ece", [0.01, 0.05])
    def test_a_gap_decides_what_is_claimed(self, made: Make, ece: float) -> None:
        over = self.said(made, (0.01, 0.02, 0.03), ece)
        assert "The network is overconfident." in over
        under = self.said(made, (-0.03, -0.02, -0.01), ece)
        assert "The network is underconfident." in under
        neither = self.said(made, (-0.01, 0.002, 0.02), ece)
        assert "neither over- nor underconfidence is shown" in neither
        assert "The network is" not in neither
        for page in (over, under):
            assert "may be chance" not in page, "which would contradict the verdict"
            assert "neither over- nor" not in page

    def test_an_error_within_chance_is_said_to_be_one(self, made: Make) -> None:
        inside = self.said(made, (-0.01, 0.002, 0.02), 0.01)
        assert "5,000 draws: it may be chance" in inside
        outside = self.said(made, (-0.01, 0.002, 0.02), 0.05)
        assert "5,000 draws: some levels of confidence are too high and others too low" in outside

    @pytest.mark.parametrize(
        ("value", "words"),
        [(0.2, "no validation image or nearly none is wrong"), (20.0, "hardly tell the classes")],
    )
    def test_a_temperature_at_either_limit(self, made: Make, value: float, words: str) -> None:
        document, dataset = made(split="val")
        document["calibration"]["temperature"] |= {"value": value, "at_bound": True}
        page = " ".join(render_report(document, dataset, "", "mistakes.csv").split())
        assert words in page


def test_a_large_network_is_shown_by_stage(made: Make) -> None:
    def row(name: str) -> dict[str, Any]:
        shapes = {"weight": [4, 4]}
        return {
            "name": name,
            "kind": "Linear",
            "output_shape": [1, 4],
            "parameter_shapes": shapes,
            "parameters": 16,
            "repeated": name == "stages.b.0",
        }

    rows = [
        row("stem"),
        *(row(f"stages.{one}.{n}") for one in "ab" for n in range(25)),
        row("head"),
    ]
    shown = _stages(rows)
    assert [(one["name"], one["layers"]) for one in shown] == [
        ("stem", 1),
        ("stages.a", 25),
        ("stages.b", 25),
        ("head", 1),
    ]
    assert [one["parameters"] for one in shown] == [16, 400, 384, 16]
    assert _stages(rows[:20]) == []
    document, dataset = made()
    document["network"]["rows"] = rows
    html = render_report(document, dataset, "", "mistakes.csv")
    assert "All 52 layers" in html
    assert html.count('<th scope="row">stages.a</th>') == 1
