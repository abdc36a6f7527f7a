"""Names that shells, patterns and file systems find hard go through the verbs that take a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = (
    *("-x", "L" * 225, "q'\"*[y]?", " x ", "~x", "$HOME", "#x,y=z:w\\v"),
    "e\u0301\N{GRINNING FACE}",
)
SETTINGS = ("--model", "linear", "--threads", 1, "--epochs", 1)


def save_pictures(folder: Path, classes: tuple[str, str], stem: str) -> None:
    chance = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(14):
            pixels = chance.integers(0, 255, (8, 8), np.uint8) // 2 + np.uint8(label * 60)
            Image.fromarray(pixels).save(folder / name / f"{stem}{number}.png")


@pytest.mark.parametrize("name", NAMES)
def test_from_data_to_predictions(name: str, command: Any) -> None:
    # With ./, as users are told to write what begins with a dash.
    here = os.curdir + os.sep
    source, run, bundle = f"{here}{name}", f"{here}{name}.run", f"{here}{name}.zip"
    save_pictures(Path(source), (f"{name}1", f"{name}2"), name)
    picture = f"{source}/{name}1/{name}0.png"
    table = f"{here}{name}.csv"
    for words in (
        ["data", source],
        ["check", source],
        ["fit", source, *SETTINGS, "--out", run, "--no-report"],
        ["predict", run, picture],
        ["predict", run, source, "--out", table],
        ["evaluate", run],
        ["report", run],
        ["show", run],
        ["trace", run],
        ["export", run, "--out", bundle, "--no-onnx"],
        ["verify", bundle],
        ["predict", bundle, picture],
    ):
        answer = command(*words)
        assert answer.exit_code == 0, (words, answer.err)
    assert len(Path(table).read_text().splitlines()) == 1 + 28


@pytest.mark.parametrize("name", NAMES)
def test_work(name: str, command: Any) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    source, job = f"./{name}", f"./{name}.job"
    save_pictures(Path(source), (f"{name}1", f"{name}2"), name)
    for words in (
        ["work", job, source, "--plan", "check"],
        ["work", job, "--status"],
        ["work", job, "--threads", 1],
        ["work", job],
    ):
        answer = command(*words)
        assert answer.exit_code == 0, (words, answer.err)
    assert Path(job, "report.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
def test_names_that_are_not_text(command: Any, tmp_path: Path) -> None:
    try:
        folder = Path(os.fsdecode(b"x\xff\xfe"))
        save_pictures(folder, ("a", "b"), "")
    except OSError:
        pytest.skip("the file system takes text only")
    for words in (
        ["data", folder],
        ["check", folder],
        ["fit", folder, *SETTINGS],
        ["show", folder],
        ["verify", folder],
        ["evaluate", folder],
        ["work", "job", folder, "--plan", "check"],
    ):
        answer = command(*words)
        assert answer.exit_code in (1, 2), words
        assert "\\udcff" in answer.err
    # A picture of such a name in a folder with another is a picture as others are.
    plain = tmp_path / "plain"
    save_pictures(plain, ("a", "b"), "")
    (plain / "a" / "0.png").rename(plain / "a" / os.fsdecode(b"\xff.png"))
    assert command("data", plain).exit_code in (0, 1)
