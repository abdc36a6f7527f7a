"""A few unreadable pictures or rows are named and left out; more of them stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.data.pictures.exclude import read_exclusions
from sartor.errors import DataError, SartorError, SartorWarning
from sartor.files import write_bytes, write_text

RNG = np.random.default_rng(0)
COUNT = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for label, name in enumerate(("one", "two")):
        (root / name).mkdir(parents=True)
        for number in range(COUNT // 2):
            noise = RNG.integers(0, 100, (8, 8)) + 100 * label
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def spoil(folder: Path, count: int) -> None:
    for number in range(count):
        write_bytes(folder / "two" / f"{number}.png", b"nothing")


class TestPictures:
    def test_one_of_a_hundred_is_named_and_left_out(self, folder: Path) -> None:
        spoil(folder, 1)
        said: list[str] = []
        dataset = sartor.load(folder, on_event=lambda event: said.append(str(event)))
        assert len(dataset) == COUNT - 1
        assert set(dataset.excluded) == {"two/0.png"}
        told = " ".join(said)
        assert "1 of 100 pictures cannot be read and are left out (more than 1 % would" in told
        assert "two/0.png is not a picture" in told

    def test_a_program_is_warned(self, folder: Path) -> None:
        spoil(folder, 1)
        with pytest.warns(SartorWarning, match="1 of 100 pictures cannot be read"):
            sartor.load(folder)

    def test_two_of_a_hundred_stop(self, folder: Path) -> None:
        spoil(folder, 2)
        with pytest.raises(DataError, match="2 of 100 pictures cannot be read") as error:
            sartor.load(folder)
        flag = "--max-unreadable 0.02"
        assert flag in error.value.hint
        with pytest.warns(SartorWarning, match="2 of 100"):
            assert len(sartor.load(folder, max_unreadable=0.02)) == COUNT - 2

    def test_none_may_be_asked_for(self, folder: Path) -> None:
        spoil(folder, 1)
        with pytest.raises(DataError, match="1 of 100"):
            sartor.load(folder, max_unreadable=0.0)

    def test_what_is_excluded_does_not_count(self, folder: Path) -> None:
        spoil(folder, 2)
        write_text(folder.parent / "list.txt", "two/0.png\ntwo/1.png\n")
        assert len(sartor.load(folder, exclude=str(folder.parent / "list.txt"))) == COUNT - 2

    @pytest.mark.filterwarnings("ignore::sartor.errors.SartorWarning")
    def test_the_run_lists_them_and_goes_on_without(self, folder: Path, tmp_path: Path) -> None:
        spoil(folder, 1)
        run = sartor.fit(
            folder, model="linear", epochs=1, threads=1, report=False, out=tmp_path / "run"
        )
        assert read_exclusions(run.path / "excluded.txt") == {
            "two/0.png": "is not a picture that Pillow can read."
        }
        again = sartor.Run.open(run.path)
        assert again.evaluate("val").count == len(run.split().val)

    def test_all_of_them_are_too_many(self, folder: Path) -> None:
        for path in folder.rglob("*.png"):
            write_bytes(path, b"nothing")
        with pytest.raises(DataError, match="100 of 100") as error:
            sartor.load(folder, max_unreadable=1.0)
        assert "--max-unreadable" not in error.value.hint


def listed(folder: Path, change: Callable[[list[str]], object], encoding: str = "utf-8") -> Path:
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
    lines = ["path,label", *sorted(rows)]
    change(lines)
    write_bytes(folder / "list.csv", "\n".join(lines).encode(encoding))
    return folder / "list.csv"


def without_label(lines: list[str]) -> None:
    lines[7] = lines[7].partition(",")[0] + ","


def too_wide(lines: list[str]) -> None:
    lines[7] += ",what,is,this"


def no_such_picture(lines: list[str]) -> None:
    lines[7] = "two/gone.png,two"


BAD_ROWS = [
    (without_label, "1 row of .*list.csv without a label: line 8", "line 8"),
    (too_wide, "Line 8 of .*list.csv has 5 columns", "line 8"),
    (no_such_picture, "Missing are 1 of the 100 files", "two/gone.png"),
]


class TestLists:
    @pytest.mark.parametrize(("change", "refused", "named"), BAD_ROWS)
    def test_one_bad_row_is_named_and_left_out(
        self, folder: Path, change: Callable[[list[str]], object], refused: str, named: str
    ) -> None:
        path = listed(folder, change)
        said: list[str] = []
        dataset = sartor.load(path, on_event=lambda event: said.append(str(event)))
        assert len(dataset) == COUNT - 1
        (line,) = [line for line in said if "Left out 1 row of" in line]
        assert named in line
        assert "more than 1 % would stop" in line
        with pytest.raises(DataError, match=refused) as error:
            sartor.load(path, max_unreadable=0.0)
        assert "--max-unreadable 0.01" in error.value.hint

    def test_one_bad_line_of_json(self, folder: Path) -> None:
        rows = [
            f'{{"file": "{path.relative_to(folder)}", "label": "{path.parent.name}"}}'
            for path in sorted(folder.rglob("*.png"))
        ]
        rows[5] = rows[5][:-4]
        write_text(folder / "list.jsonl", "\n".join(rows))
        assert len(sartor.load(folder / "list.jsonl")) == COUNT - 1
        with pytest.raises(DataError, match="Not JSON: line 6"):
            sartor.load(folder / "list.jsonl", max_unreadable=0.0)

    def test_the_run_keeps_what_was_said_of_the_source(self, folder: Path, tmp_path: Path) -> None:
        path = listed(folder, too_wide)
        run = sartor.fit(
            path,
            model="linear",
            epochs=1,
            threads=1,
            report=False,
            out=tmp_path / "run",
            on_event=lambda _event: None,
        )
        assert "unlike the others: line 8" in (run.path / "source.txt").read_text("utf-8")


class TestEncodings:
    def named(self, lines: list[str]) -> None:
        lines[1:] = [line.replace(",two", ",Größe") for line in lines[1:]]

    @pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16"])
    def test_umlauts_are_read(self, folder: Path, encoding: str) -> None:
        said: list[str] = []
        dataset: Any = sartor.load(
            listed(folder, self.named, encoding), on_event=lambda event: said.append(str(event))
        )
        assert dataset.classes == ("Größe", "one")
        assert ("read as Windows-1252" in " ".join(said)) == (encoding == "cp1252")

    @pytest.mark.parametrize("content", [bytes(range(256)), b"a.png,caf\x81\n", b"a.png,\x01\xff"])
    def test_what_is_no_text_is_refused(self, tmp_path: Path, content: bytes) -> None:
        write_bytes(tmp_path / "list.csv", content)
        with pytest.raises(SartorError, match="not text"):
            sartor.load(tmp_path / "list.csv")
