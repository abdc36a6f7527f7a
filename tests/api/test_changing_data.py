"""Data that changes while it is used: never an end of the process, never "finished"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sartor
from sartor.errors import DataError
from sartor.events import EpochDone, Event
from sartor.files import write_bytes

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (200, 8, 8)).astype(np.uint8)
LABELS = np.arange(200) % 2
QUICK = {"model": "linear", "threads": 1, "report": False, "check": False}


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An .npz whose images are mapped, as one is that is large."""
    for setting, value in (("_MAPPED_FROM_BYTES", 100), ("_MEMORY_SHARE", 0.0)):
        monkeypatch.setattr(f"sartor.data.readers.npz.{setting}", value)
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS)
    return tmp_path / "set.npz"


def replaced(path: Path) -> None:
    write_bytes(path, path.read_bytes())


def overwritten(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(300)
        stream.write(bytes(1000))


def cut_short(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(500)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.filterwarnings("ignore::sartor.errors.SartorWarning")
class TestMapped:
    @pytest.mark.parametrize("change", [replaced, overwritten, cut_short, removed])
    @pytest.mark.parametrize("epoch", [1, 3])
    def test_training_stops(self, mapped: Path, tmp_path: Path, change: object, epoch: int) -> None:
        def sink(event: Event) -> None:
            if isinstance(event, EpochDone) and event.row["epoch"] == epoch:
                change(mapped)  # type: ignore[operator]

        with pytest.raises(DataError, match=r"set.npz was changed while its images were in use"):
            sartor.fit(mapped, epochs=3, out=tmp_path / "run", on_event=sink, **QUICK)
        assert sartor.Run.open(tmp_path / "run").status["state"] == "failed"

    def test_undisturbed_it_trains(self, mapped: Path, tmp_path: Path) -> None:
        run = sartor.fit(mapped, epochs=1, out=tmp_path / "run", **QUICK)
        assert run.status["state"] == "finished"


def test_what_fits_into_memory_may_change(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS)
    dataset = sartor.load(tmp_path / "set.npz")
    cut_short(tmp_path / "set.npz")
    np.testing.assert_array_equal(dataset.images[:, 0], IMAGES)
