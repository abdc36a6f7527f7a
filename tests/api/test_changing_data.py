"""Data that changes while it is used: never an end of the process, never "finished"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sartor
from sartor.api.opened import OpenedRun
from sartor.data.splits.split import Split
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


class TestArrays:
    """Those of the program, which may write to them whenever it likes."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> sartor.Run:
        images = IMAGES.copy()
        return sartor.fit((images, LABELS), epochs=1, out=tmp_path / "run", **QUICK)

    def test_are_compared_whenever_they_are_asked_for(self, run: sartor.Run) -> None:
        run.dataset().images[0, 0, 0, 0] ^= 1
        with pytest.raises(DataError, match=r"is not what .* was trained on"):
            run.dataset()

    def test_are_compared_once_where_they_are_kept_at_hand(
        self, run: sartor.Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared = []
        before = sartor.Dataset.fingerprint_now
        monkeypatch.setattr(
            sartor.Dataset, "fingerprint_now", lambda self: compared.append(self) or before(self)
        )
        with run.kept_at_hand():
            assert run.dataset() is run.dataset()
            assert run.split() is run.split()
        assert len(compared) == 1
        assert run.split() is not run.split()
        run.dataset().images[0, 0, 0, 0] ^= 1
        with pytest.raises(DataError), run.kept_at_hand():
            run.dataset()

    def test_that_change_in_training_are_found_after_it(self, tmp_path: Path) -> None:
        images = IMAGES.copy()

        def sink(event: Event) -> None:
            if isinstance(event, EpochDone):
                images[0] ^= 1

        with pytest.warns(sartor.errors.SartorWarning, match="could not be calibrated: The data"):
            sartor.fit((images, LABELS), epochs=1, out=tmp_path / "run", on_event=sink, **QUICK)

    def test_the_split_of_a_fit_is_the_one_that_is_read_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[Split | None] = []
        before = OpenedRun.kept_at_hand
        monkeypatch.setattr(
            OpenedRun,
            "kept_at_hand",
            lambda self, split: given.append(split) or before(self, split),
        )
        run = sartor.fit((IMAGES, LABELS), epochs=1, out=tmp_path / "run", **QUICK)
        (split,) = given
        assert split is not None
        assert split.to_bytes() == run.split().to_bytes()
