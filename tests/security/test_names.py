"""Names from outside are shown escaped, wherever they are shown: no terminal obeys them, no line is
made up by them, no text reads in another order than it has."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sartor import api

SPOOF = "SPOOFED"
HOSTILE = (
    "a\x1b]0;title\x07\x1b[2J\x1b[31m\x9b1m\u202eb\u2066\u200f\u061c\u200e\u2028\ufeff"
    f"\r\n{SPOOF}\tz"
)
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]"
)
SETTINGS = ["--model", "linear", "--threads", 1, "--epochs", 1]
LANES = ("out", "err")


def said(answer: Any) -> str:
    """All of it, without the colours that rich may add."""
    return f"{answer.out}\n{answer.err}"


def refuse_unsafe(text: str, what: object) -> None:
    found = UNSAFE.search(text)
    assert not found, (what, text[max(0, found.start() - 80) : found.end() + 20])


def refuse_made_up_lines(text: str, what: object) -> None:
    made_up = [line for line in text.splitlines() if line.strip(" ").startswith(SPOOF)]
    assert not made_up, (what, text)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; their names, those of the files, and that of the folder are hostile."""
    folder = tmp_path_factory.mktemp("names") / f"set{HOSTILE}"
    chance = np.random.default_rng(0)
    for label in range(2):
        place = folder / f"{'yx'[label]}{HOSTILE}"
        place.mkdir(parents=True)
        for number in range(14):
            pixels = chance.integers(0, 255, (8, 8), np.uint8) // 2 + np.uint8(label * 60)
            Image.fromarray(pixels).save(place / f"{number}{HOSTILE}.png")
    return folder


@pytest.fixture
def broken(pictures: Path, tmp_path: Path) -> Path:
    """The same with a download that broke off."""
    folder = Path(shutil.copytree(pictures, tmp_path / f"broken{HOSTILE}"))
    (sorted(folder.iterdir())[0] / f"cut{HOSTILE}.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on them, judged; its name is hostile."""
    import sartor

    out = tmp_path_factory.mktemp("runs") / f"run{HOSTILE}"
    return sartor.fit(pictures, model="linear", epochs=1, threads=1, out=out).path


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.export(run, tmp_path_factory.mktemp("out") / f"b{HOSTILE}", onnx=False).path


@pytest.mark.filterwarnings("ignore")
class TestOnTheTerminal:
    def test_no_verb_shows_a_name_as_it_is(
        self, pictures: Path, broken: Path, run: Path, bundle: Path, command: Any
    ) -> None:
        one = sorted(pictures.rglob("1a*.png"))[0]
        told = []
        for words in (
            ["data", pictures],
            ["check", pictures, "--html", "check.html"],
            ["fit", pictures, *SETTINGS, "--out", f"new{HOSTILE}"],
            ["fit", broken, *SETTINGS, "--max-unreadable", 0.2, "--out", "other"],
            ["fit", broken, *SETTINGS, "--max-unreadable", 0],
            ["check", broken],
            ["predict", run, broken],
            ["resume", f"new{HOSTILE}", "--epochs", 2],
            ["runs", run.parent],
            ["show", run, "--recipe"],
            ["evaluate", run],
            ["evaluate", run, "--split", "val"],
            ["compare", run, f"new{HOSTILE}"],
            ["report", run, "--split", "val"],
            ["predict", run, one],
            ["predict", run, pictures],
            ["predict", run, f"nowhere{HOSTILE}.png"],
            ["summary", run],
            ["trace", run],
            ["verify", bundle],
            ["verify", f"none{HOSTILE}"],
            ["export", run, "--out", bundle],
            ["export", f"none{HOSTILE}", "--out", "x"],
            ["serve", f"none{HOSTILE}"],
            ["predict", bundle, one],
            ["evaluate", bundle, "--data", pictures],
        ):
            answer = command(*words)
            refuse_unsafe(said(answer), words)
            refuse_made_up_lines(said(answer), words)
            told.append(answer)
        assert len(told) > 20

    @pytest.mark.parametrize(
        "words",
        [
            [f"verb{HOSTILE}"],
            ["fit", f"set{HOSTILE}"],
            ["fit", f"./set{HOSTILE}.zip"],
            ["fit", "digits", "--model", f"m{HOSTILE}"],
            ["fit", "digits", "--model", f"m{HOSTILE}.py:Net"],
            ["fit", "digits", "--recipe", f"r{HOSTILE}.toml"],
            ["fit", "digits", "--opt", f"o{HOSTILE}"],
            ["fit", "digits", "--model-kwargs", f"k{HOSTILE}=1"],
            ["fit", "digits", "--weights", f"w{HOSTILE}.pth"],
            ["fit", "digits", "--exclude", f"e{HOSTILE}"],
            ["fit", "digits", "--epochs", f"e{HOSTILE}"],
            ["show", f"none{HOSTILE}"],
            ["show", f"./none{HOSTILE}"],
            ["summary", f"none{HOSTILE}"],
            ["models", f"none{HOSTILE}"],
            ["data", "digits", "--out", f"x{HOSTILE}.bmp"],
            ["compare", f"none{HOSTILE}", f"nor{HOSTILE}"],
        ],
    )
    def test_no_error_shows_a_name_as_it_is(self, words: list[Any], command: Any) -> None:
        answer = command(*words)
        assert answer.exit_code in (1, 2)
        refuse_unsafe(said(answer), words)
        refuse_made_up_lines(said(answer), words)

    def test_strings_of_a_recipe(self, command: Any) -> None:
        import tomli_w

        for table, key in (
            ("data", "source"),
            ("model", "model"),
            ("training", "opt"),
            ("training", f"k{HOSTILE}"),
            (f"t{HOSTILE}", "x"),
        ):
            Path("r.toml").write_text(tomli_w.dumps({table: {key: HOSTILE}}))
            answer = command("fit", "--recipe", "r.toml")
            assert answer.exit_code in (1, 2)
            refuse_unsafe(said(answer), (table, key))
            refuse_made_up_lines(said(answer), (table, key))
        Path("r.toml").write_text(f"x = {HOSTILE}")
        refuse_unsafe(said(command("fit", "--recipe", "r.toml")), "not TOML")

    def test_json_is_one_line_and_says_the_name(
        self, pictures: Path, run: Path, command: Any
    ) -> None:
        one = sorted(pictures.rglob("1a*.png"))[0]
        for words in (
            ["predict", run, one],
            ["evaluate", run, "--split", "val"],
            ["show", run],
            ["runs", run.parent],
            ["data", pictures],
            ["check", pictures],
        ):
            answer = command(*words, "--json")
            assert answer.out.isascii(), "a JSON document may be shown by a terminal, too"
            assert answer.document
            assert SPOOF in answer.out


@pytest.mark.filterwarnings("ignore")
class TestInFiles:
    def test_pages_and_cards(self, run: Path, bundle: Path, pictures: Path, command: Any) -> None:
        command("check", pictures, "--html", "check.html")
        command("trace", run, "--out", "trace.html")
        pages = [run / "report.html", bundle / "README.md", Path("check.html"), Path("trace.html")]
        for page in pages:
            refuse_unsafe(page.read_text(), page)
        refuse_made_up_lines((bundle / "README.md").read_text(), "card")

    def test_tables_for_spreadsheets(self, run: Path, pictures: Path, command: Any) -> None:
        command("predict", run, pictures, "--out", "rows.csv")
        for table in (run / "mistakes.csv", Path("rows.csv")):
            refuse_made_up_lines(table.read_text(), table)
        refuse_unsafe((run / "mistakes.csv").read_text(), "mistakes")

    def test_lines_of_json_and_of_logs(self, run: Path, pictures: Path, command: Any) -> None:
        command("predict", run, pictures, "--out", "rows.jsonl")
        lines = Path("rows.jsonl").read_bytes().splitlines()
        assert len(lines) == 28
        for line in lines:
            assert line.isascii()
            json.loads(line)
        for path in (*run.glob("*.json"), *run.glob("*.jsonl")):
            refuse_unsafe(path.read_text(), path)
