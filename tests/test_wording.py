"""Text from outside is shown as it is, and moves no terminal, whoever wrote it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sartor
from sartor.wording import cell, plain

HOSTILE = "a\x1b]0;title\x07\x1b[2J\u202eb\x9b1m"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text())
def test_nothing_moves_a_terminal_and_the_rest_stays(text: str) -> None:
    shown = plain(text)
    assert not UNSAFE.search(shown)
    assert plain(shown) == shown
    if all(unicodedata.category(one)[0] in "LNPSZ" and one.isprintable() for one in text):
        assert shown == text


def test_what_stands_for_it() -> None:
    assert plain("a\x1b[1m\u202e\U000e0041\n\tü é 漢 👨‍👩‍👧") == (
        "a\\x1b[1m\\u202e\\U000e0041\n\tü é 漢 👨‍👩‍👧"
    )


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell("plain") == "plain"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, one with a hostile name; hostile names of files, too."""
    folder = tmp_path_factory.mktemp("hostile") / f"set{HOSTILE}"
    random = np.random.default_rng(0)
    for label, name in enumerate((f"=cmd{HOSTILE}", f"z{HOSTILE}")):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (8, 8), np.uint8) // 2 + np.uint8(label * 20)
            Image.fromarray(pixels).save(folder / name / f"=1+{number}{HOSTILE}.png")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_no_object_shows_a_hostile_name_as_it_is(pictures: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": "linear", "threads": 1, "epochs": 1, "report": False}
    runs = [
        sartor.fit(pictures, out=tmp_path / f"{number}{HOSTILE}", seed=number, **settings)
        for number in range(2)
    ]
    shown = [
        *(runs[0], runs[0].dataset(), runs[0].evaluate("test"), sartor.compare(*runs)),
        *(sartor.check(pictures), sartor.trace(runs[0])),
    ]
    for one in shown:
        assert not UNSAFE.search(repr(one)), type(one)
        assert "\\x1b" in repr(one) or "\\u202e" in repr(one), type(one)


@pytest.mark.filterwarnings("ignore")
def test_no_verb_prints_a_hostile_name_as_it_is(pictures: Path, command: Any) -> None:
    run = Path("runs") / f"run{HOSTILE}"
    one = sorted(pictures.rglob("*.png"))[0]
    fit = ["fit", pictures, "--model", "linear", "--threads", "1", "--epochs", "1"]
    for words in (
        ["data", pictures],
        ["check", pictures, "--html", "check.html"],
        [*fit, "--out", run],
        [*fit, "--out", "runs/other", "--seed", "1"],
        ["resume", run, "--epochs", "2"],
        ["runs"],
        ["show", run, "--recipe"],
        ["evaluate", run],
        ["evaluate", run, "--split", "val", "--json"],
        ["compare", run, "runs/other"],
        ["report", run],
        ["predict", run, one],
        ["predict", run, f"nowhere{HOSTILE}.png"],
        ["summary", run],
        ["trace", run, "--out", "trace.html"],
        ["show", f"nothing{HOSTILE}"],
        [f"verb{HOSTILE}"],
    ):
        answer = command(*words)
        assert not UNSAFE.search(answer.out + answer.err), words
    for page in (run / "report.html", Path("check.html"), Path("trace.html")):
        assert not UNSAFE.search(page.read_text()), page
    table = (run / "mistakes.csv").read_text()
    assert not re.search(r'(^|,)"?=', table, re.MULTILINE)
