"""Files that would fill the memory or never end: named, and the others are answered."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.errors import DataError, PictureError
from sartor.files import set_length

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for label, name in enumerate(("one", "two")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            noise = RNG.integers(0, 100, (8, 8)) + 100 * label
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def sparse(path: Path) -> Path:
    """8 GB that take no room."""
    set_length(path, 8 << 30)
    return path


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> sartor.Run:
    return sartor.fit(
        folder, model="linear", epochs=1, threads=1, report=False, out=tmp_path / "run"
    )


class TestTraining:
    def test_a_huge_file_is_named(self, folder: Path) -> None:
        sparse(folder / "one" / "huge.png")
        with pytest.raises(DataError, match=r"one/huge\.png has 8,589,934,592 bytes"):
            sartor.load(folder)

    @pytest.mark.filterwarnings("ignore::sartor.errors.SartorWarning")
    def test_the_others_are_read(self, folder: Path) -> None:
        sparse(folder / "one" / "huge.png")
        assert len(sartor.load(folder, max_unreadable=0.1)) == 40
        report = sartor.check(folder, only=["files"])
        assert [item.file for item in report.findings[0].items] == ["one/huge.png"]

    @pytest.mark.filterwarnings("ignore::sartor.errors.SartorWarning")
    def test_so_is_one_for_which_there_is_no_memory(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Path.read_bytes

        def read(path: Path) -> bytes:
            if path.name == "3.png":
                raise MemoryError
            return real(path)

        monkeypatch.setattr(Path, "read_bytes", read)
        dataset = sartor.load(folder, max_unreadable=0.1)
        assert set(dataset.excluded) == {"one/3.png", "two/3.png"}
        assert "needs more memory" in dataset.excluded["one/3.png"]

    @pytest.mark.parametrize("kind", ["fifo", "device"])
    def test_a_source_is_a_regular_file(self, tmp_path: Path, kind: str) -> None:
        place = tmp_path / "pipe"
        if kind == "fifo":
            os.mkfifo(place)
        else:
            place = Path("/dev/zero")
        with pytest.raises(DataError, match="is a device or a pipe, not a file"):
            sartor.load(place)


class TestPredicting:
    def test_the_others_are_answered(self, run: sartor.Run, folder: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        asked = [
            "/dev/zero",
            str(tmp_path / "pipe"),
            str(sparse(tmp_path / "huge.png")),
            str(folder / "one" / "0.png"),
        ]
        *faults, prediction = sartor.predict_stream(run, asked)
        assert (prediction.file, isinstance(prediction, sartor.Prediction)) == (asked[-1], True)
        told = [fault.error for fault in faults if isinstance(fault, sartor.Unreadable)]
        assert told == [
            "/dev/zero is a device or a pipe, not a file.",
            f"{asked[1]} is a device or a pipe, not a file.",
            f"{asked[2]} has 8,589,934,592 bytes, more than any picture.",
        ]

    def test_a_picture_that_fills_the_memory_is_a_fault_of_its_own(
        self, run: sartor.Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(_picture: Image.Image) -> None:
            raise MemoryError

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        with pytest.raises(PictureError, match="needs more memory than is free"):
            run.predict(folder / "one" / "0.png")
