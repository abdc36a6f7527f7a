"""The model card: made of records, in Hugging Face's form, with no markup from outside."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from markdown_it import MarkdownIt

from sartor.bundle.card import card, text

HOSTILE = (
    "a | b",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "`code` **bold** _it_ ~~s~~",
    "line\nbreak\r\n---\n# head",
    "\x1b[31mred\u202e",
    "![i](http://example.org/x.png) www.example.org a@example.org",
    "&lt;b&gt; \\ \\| $x$ #1",
    "---",
    "-1 + 2 = 1.",
    " ",
    "",
)


def rendered(markdown: str) -> str:
    """As a reader of Hugging Face's or GitHub's pages sees it."""
    body = markdown.partition("\n---\n")[2] if markdown.startswith("---\n") else markdown
    return str(MarkdownIt("gfm-like", {"linkify": False}).render(body))


def record(**changes: Any) -> dict[str, Any]:
    """What bundle.json says of a run with hostile names everywhere."""
    classes = list(HOSTILE)
    count = len(classes)
    row = {"count": 3, "correct": 2, "accuracy": 2 / 3, "interval": [0.2, 0.9]}
    row |= {"precision": 0.5, "recall": 2 / 3, "f1": None}
    calibrated = {"gap": 0.02, "gap_interval": [-0.01, 0.05], "confidence": 0.9}
    calibrated |= {"ece": 0.03, "ece_by_chance": 0.04}
    return {
        "sartor": "0.1.0",
        "architecture": {"model": "lenet", "parameters": 61706, "own": False},
        "classes": classes,
        "preprocess": {"channels": 3, "width": 20, "height": 16},
        "calibration": {
            "temperature": 1.25,
            "coverage": 0.95,
            "novelty": {
                "method": "energy",
                "threshold": 2.0,
                "false_alarms": 0.01,
                "separation": {"energy": {"smooth noise": 0.99, "blends": 0.654321}},
            },
        },
        "licence": {"model": "not stated", "data": HOSTILE[1]},
        "data": {
            "source": HOSTILE[2],
            "fingerprint": "ab" * 32,
            "counts": {"train": [7] * count, "val": [0] * count, "test": [3] * count},
            "looks": "looked at once",
        },
        "split": {"sha256": "cd" * 32},
        "golden": {"count": 24, "as_they_lie": True},
        "recipe": {"data": {"source": "``` \n# x"}},
        "figures": {
            "split": "test",
            "count": 3 * count,
            "interval_method": "Wilson",
            **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.66),
            **{f"{n}_interval": [0.5, 0.8] for n in ("accuracy", "balanced_accuracy", "macro_f1")},
            "per_class": [{"class": name, **row} for name in classes],
            "calibration": {"before": calibrated, "after": calibrated},
            "no_calibration": None,
            "sets": {"coverage": 0.94, "interval": [0.9, 0.97], "mean_size": 1.234},
            "novelty": {"share": 0.02, "interval": [0.0, 0.05]},
            "coverage": [
                {"coverage": 0.9, "accuracy": 0.95, "interval": [0.8, 0.99], "threshold": 0.4}
            ],
            "confused": [
                {"true": one, "predicted": other, "count": 2, "of": 3}
                for one, other in pairwise(classes)
            ],
            "mistakes": [
                {"file": name, "true": name, "predicted": name, "probability": 0.9}
                for name in classes
            ],
        },
    } | changes


FILES = ("golden/pictures/000.png", "model.onnx", "model.safetensors")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_outside_are_shown_and_are_no_markup(name: str) -> None:
    page = rendered(f"| a | b |\n|---|---|\n| {text(name)} | end |\n\nOf {text(name)}, too.")
    assert page.count("<tr>") == 2
    assert page.count("<td>") == 2
    assert not re.findall(r"<(?!/?(table|thead|tbody|tr|th|td|p)\b)", page)


def test_the_whole_card_has_no_markup_of_names() -> None:
    page = rendered(card("| hostile <b>", record(), FILES))
    assert not re.findall(r"<(script|a|img|b|del)\b", page)
    assert len(re.findall("<h1>", page)) == 1
    assert page.count("<pre>") == 6
    rows = record()["figures"]["per_class"]
    assert page.count("<tr>") == page.count("</tr>") > 3 * len(rows)


def test_the_front_matter_says_what_hugging_face_reads() -> None:
    matter = card('my "model"', record(), FILES).split("\n---\n")[0]
    lines = matter.splitlines()
    assert lines[:5] == [
        "---",
        "license: unknown",
        "library_name: sartor",
        "pipeline_tag: image-classification",
        "tags: [image-classification, sartor, safetensors, pytorch, onnx]",
    ]
    assert '- name: "my \\"model\\""' in lines
    quoted = [line.split(": ", 1)[1] for line in lines if line.endswith('"')]
    assert HOSTILE[2] in [json.loads(one) for one in quoted]
    assert "      value: 0.660000" in lines


@pytest.mark.parametrize(
    ("named", "lines"),
    [
        ("Apache-2.0", ["license: apache-2.0"]),
        ("not stated", ["license: unknown"]),
        ("Mine: #1\n---", ["license: other", 'license_name: "Mine: #1\\n---"']),
    ],
)
def test_licences_are_named_as_hugging_face_names_them(named: str, lines: list[str]) -> None:
    page = card("x", record(licence={"model": named, "data": "not stated"}), FILES)
    assert page.splitlines()[1 : 1 + len(lines)] == lines


def test_the_card_says_what_the_records_say() -> None:
    page = card("x", record(), FILES)
    for part in (
        "66.0% (50.0% to 80.0%)",
        "61,706 parameters",
        "temperature 1.250",
        "gap of +2.0 points (95 % interval -1.0 to +5.0)",
        "contain the true class for 95.0% of images",
        "exchangeable",
        "they do for 94.0% (90.0% to 97.0%), with 1.23 classes on average",
        "expected for at most 1.0% of images",
        "it was 2.0% (0.0% to 5.0%)",
        "separates blends least well from real images (area under the ROC curve 0.654)",
        "To be filled in by the owner",
        "looked at once",
        "`" + "ab" * 32 + "`",
        "24 golden pictures are unchanged files from the data",
    ):
        assert part in page, part


def test_a_run_without_figures_says_so() -> None:
    page = card("x", record(figures=None), ("model.safetensors",))
    assert "nothing is known of its accuracy" in page
    assert "model-index" not in page
    assert "exported without ONNX" in page
    assert "None is known" not in page
