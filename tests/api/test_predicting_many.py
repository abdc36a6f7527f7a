"""Predictions into a file: every format says the same, and an interruption leaves no trace."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import FileError, PictureError, UsageError
from sartor.events import Event, Predicting

COUNT = 700
"""Two chunks of 256, and a part."""
FORMATS = ["csv", "jsonl", "json", "parquet"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Pictures of digits, some damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        as_picture(digits.images[number]).save(folder / f"{number}.png")
    for number in (0, 255, 400):
        (folder / f"{number}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    return sartor.Run.open(trained)


class Stop:
    """Asks to stop when it was asked so many times."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


class TestRows:
    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, run: sartor.Run, pictures: Path) -> list[dict[str, Any]]:
        return [row.to_json() for row in sartor.predict_stream(run, pictures)]

    def test_a_stream_has_a_row_for_each(
        self, run: sartor.Run, pictures: Path, expected: list[dict[str, Any]]
    ) -> None:
        assert [Path(one["file"]).name for one in expected] == [f"{n}.png" for n in range(COUNT)]
        bad = [place for place, one in enumerate(expected) if "error" in one]
        assert bad == [0, 255, 400]
        good = [one for one in expected if "label" in one]
        found = sartor.predict(run, [one["file"] for one in good])
        assert [one.label for one in found] == [one["label"] for one in good]
        with pytest.raises(PictureError) as caught:
            sartor.predict(run.path, pictures)
        assert caught.value.message.count("\n") == 2

    def test_json_lines_and_json(
        self, run: sartor.Run, pictures: Path, expected: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        done = sartor.predict_to_file(run, pictures, tmp_path / "a.jsonl")
        assert (done.rows, done.kept, done.stopped) == (COUNT, 0, False)
        assert (done.tally.predicted, done.tally.without) == (COUNT - 3, 3)
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == expected
        sartor.predict_to_file(run, pictures, tmp_path / "a.json")
        assert json.loads((tmp_path / "a.json").read_bytes()) == expected
        assert {one.name for one in tmp_path.iterdir()} == {"a.jsonl", "a.json"}

    def test_csv(
        self, run: sartor.Run, pictures: Path, expected: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        sartor.predict_to_file(run, pictures, tmp_path / "a.csv")
        rows = _table(tmp_path / "a.csv")
        assert [row["file"] for row in rows] == [one["file"] for one in expected]
        for row, one in zip(rows, expected, strict=True):
            assert row["error"] == one.get("error", "")
            assert row["label"] == one.get("label", "")
            shares = {name: row[f"p:{name}"] for name in run.classes}
            wanted = one.get("probabilities", dict.fromkeys(run.classes, ""))
            assert {name: x and float(x) for name, x in shares.items()} == wanted

    def test_csv_of_the_most_probable(
        self, run: sartor.Run, pictures: Path, expected: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        sartor.predict_to_file(run, pictures, tmp_path / "a.csv", topk=2)
        rows = _table(tmp_path / "a.csv")
        assert list(rows[0])[-2:] == ["label_2", "probability_2"]
        best = sorted(expected[1]["probabilities"].items(), key=lambda pair: -pair[1])
        assert (rows[1]["label_2"], float(rows[1]["probability_2"])) == best[1]
        assert rows[0]["label_2"] == ""
        sartor.predict_to_file(run, pictures, tmp_path / "b.csv", topk=1)
        assert (tmp_path / "b.csv").read_text().splitlines()[0].endswith("error")

    @pytest.mark.parametrize("topk", [None, 2])
    def test_parquet(
        self,
        topk: int | None,
        run: sartor.Run,
        pictures: Path,
        expected: list[dict[str, Any]],
        tmp_path: Path,
    ) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        sartor.predict_to_file(run, pictures, tmp_path / "a.parquet", topk=topk)
        table = parquet.read_table(tmp_path / "a.parquet")
        record = json.loads(table.schema.metadata[b"sartor"])
        assert record["weights_sha256"] == run.predictor().weights_sha256
        rows = table.to_pylist()
        assert [row["file"] for row in rows] == [one["file"] for one in expected]
        for row, one in zip(rows, expected, strict=True):
            assert row["error"] == one.get("error")
            assert row["label"] == one.get("label")
            if topk is None:
                assert row["probabilities"] == one.get("probabilities")
            else:
                best = sorted(one.get("probabilities", {}).items(), key=lambda pair: -pair[1])
                assert [tuple(pair) for pair in row["probabilities"]] == best[:2]
        assert {one.name for one in tmp_path.iterdir()} == {"a.parquet"}

    def test_no_picture_at_all(self, run: sartor.Run, tmp_path: Path) -> None:
        for suffix in FORMATS:
            sartor.predict_to_file(run, [], tmp_path / f"a.{suffix}")
        assert json.loads((tmp_path / "a.json").read_bytes()) == []
        assert (tmp_path / "a.jsonl").read_bytes() == b""
        assert len((tmp_path / "a.csv").read_text().splitlines()) == 1

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_odd_names(self, suffix: str, run: sartor.Run, tmp_path: Path) -> None:
        """A row stays a line, whatever the name holds, and finds its place again."""
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ('a\n"b",c.png', "=1+2.png", "é\r.png", "\\n.png"):
            Image.new("L", (8, 8)).save(folder / name)
        given = [*sorted(folder.iterdir())] * 100
        whole, broken = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        sartor.predict_to_file(run, given, whole)
        sartor.predict_to_file(run, given, broken, stopped=Stop(1))
        done = sartor.predict_to_file(run, given, broken, resume=True)
        assert (done.kept, done.rows) == (256, 400)
        assert broken.read_bytes() == whole.read_bytes()
        if suffix == "csv":
            assert len(whole.read_text().splitlines()) == 401
            assert "\n=" not in whole.read_text()


class TestResume:
    @pytest.fixture(scope="class")
    @classmethod
    def whole(
        cls, run: sartor.Run, pictures: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        for suffix in FORMATS:
            sartor.predict_to_file(run, pictures, folder / f"a.{suffix}")
        return folder

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_stopped_anywhere_it_comes_out_alike(
        self, suffix: str, run: sartor.Run, pictures: Path, whole: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / f"a.{suffix}"
        for chunks in (0, 1, 1):
            done = sartor.predict_to_file(run, pictures, out, resume=True, stopped=Stop(chunks))
            assert done.stopped
        assert done.kept == 256
        done = sartor.predict_to_file(run, pictures, out, resume=True)
        assert (done.kept, done.rows, done.stopped) == (512, COUNT, False)
        assert out.read_bytes() == (whole / out.name).read_bytes()
        assert {one.name for one in tmp_path.iterdir()} == {out.name}

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
    def test_torn_at_any_byte(
        self, suffix: str, run: sartor.Run, pictures: Path, whole: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / f"a.{suffix}"
        sartor.predict_to_file(run, pictures, out, stopped=Stop(2))
        written, record = out.read_bytes(), (tmp_path / f"{out.name}.unfinished").read_bytes()
        lines = written.splitlines(keepends=True)
        head = 1 if suffix == "csv" else 0
        first_chunk = len(b"".join(lines[: 256 + head]))
        for length in (0, 3, len(written) - 1, first_chunk, first_chunk - 1, first_chunk + 5):
            out.write_bytes(written[:length])
            (tmp_path / f"{out.name}.unfinished").write_bytes(record)
            done = sartor.predict_to_file(run, pictures, out, resume=True)
            assert done.kept == (256 if length >= first_chunk else 0)
            assert out.read_bytes() == (whole / out.name).read_bytes()

    def test_the_end_was_written_but_not_yet_announced(
        self, run: sartor.Run, pictures: Path, whole: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "a.json"
        sartor.predict_to_file(run, pictures, out, stopped=Stop(1))
        out.write_bytes((whole / "a.json").read_bytes())
        sartor.predict_to_file(run, pictures, out, resume=True)
        assert out.read_bytes() == (whole / "a.json").read_bytes()

    def test_an_iterator_is_resumed_as_well(
        self, run: sartor.Run, pictures: Path, whole: Path, tmp_path: Path
    ) -> None:
        def named() -> Iterator[str]:
            yield from (str(pictures / f"{number}.png") for number in range(COUNT))

        out = tmp_path / "a.csv"
        sartor.predict_to_file(run, named(), out, stopped=Stop(1))
        sartor.predict_to_file(run, named(), out, resume=True)
        assert out.read_bytes() == (whole / "a.csv").read_bytes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"invert": True}, "invert was False, and is True now"),
            ({"topk": 1}, "topk was None"),
            ({"ink": "mass"}, "preparation was"),
            ({"checkpoint": "last"}, "weights sha256 was"),
        ],
    )
    def test_only_with_the_same_model_and_settings(
        self,
        change: dict[str, Any],
        message: str,
        run: sartor.Run,
        pictures: Path,
        tmp_path: Path,
    ) -> None:
        if change == {"checkpoint": "last"}:
            best, last = (run.predictor(checkpoint=one).weights_sha256 for one in ("best", "last"))
            if best == last:
                pytest.skip("the last epoch is the best")
        out = tmp_path / "a.csv"
        sartor.predict_to_file(run, pictures, out, stopped=Stop(1))
        before = out.read_bytes()
        with pytest.raises(UsageError, match=message) as caught:
            sartor.predict_to_file(run, pictures, out, resume=True, **change)
        assert "--overwrite" in caught.value.hint
        assert out.read_bytes() == before

    def test_a_full_disk_says_how_to_go_on(
        self, run: sartor.Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sartor.api.prediction_files import Results

        def full(_content: bytes) -> None:
            raise FileError("Cannot write a.csv: no space left on device.", "Free some space.")

        out, add = tmp_path / "a.csv", Results.add

        def into_full(self: Results, rows: Any) -> None:
            self._write = full
            add(self, rows)

        monkeypatch.setattr(Results, "add", into_full)
        with pytest.raises(FileError) as caught:
            sartor.predict_to_file(run, pictures, out)
        assert caught.value.hint.startswith("Free some space. --resume")
        monkeypatch.undo()
        sartor.predict_to_file(run, pictures, out, resume=True)
        assert len(out.read_text().splitlines()) == COUNT + 1

    def test_only_with_the_same_pictures(
        self, run: sartor.Run, pictures: Path, tmp_path: Path
    ) -> None:
        names = [str(pictures / f"{number}.png") for number in range(COUNT)]
        out = tmp_path / "a.jsonl"
        sartor.predict_to_file(run, names, out, stopped=Stop(1))
        for other, seen in ((names[1:], "0.png, and there is"), (names[:10], "no picture now")):
            with pytest.raises(UsageError, match="not those that") as caught:
                sartor.predict_to_file(run, other, out, resume=True)
            assert seen in caught.value.message
        sartor.predict_to_file(run, names, out, resume=True)

    def test_what_is_there_is_not_replaced_unasked(
        self, run: sartor.Run, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "a.csv"
        out.write_text("mine\n")
        for choices, message in (
            ({}, "exists"),
            ({"resume": True}, "nothing to resume"),
            ({"resume": True, "overwrite": True}, "either resumed or overwritten"),
        ):
            with pytest.raises(UsageError, match=message):
                sartor.predict_to_file(run, pictures, out, **choices)
            assert out.read_text() == "mine\n"
        sartor.predict_to_file(run, pictures, out, overwrite=True, stopped=Stop(1))
        with pytest.raises(UsageError, match="is unfinished") as caught:
            sartor.predict_to_file(run, pictures, out)
        assert "--resume" in caught.value.hint
        sartor.predict_to_file(run, pictures, out, overwrite=True)
        with pytest.raises(UsageError, match="nothing to resume"):
            sartor.predict_to_file(run, pictures, out, resume=True)

    def test_a_record_that_is_damaged_or_newer(
        self, run: sartor.Run, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "a.csv"
        sartor.predict_to_file(run, pictures, out, stopped=Stop(1))
        for text in ("", "[]", '{"format": 99}', "{"):
            (tmp_path / "a.csv.unfinished").write_text(text)
            with pytest.raises(FileError, match="cannot be read") as caught:
                sartor.predict_to_file(run, pictures, out, resume=True)
            assert "--overwrite" in caught.value.hint

    @pytest.mark.parametrize("name", ["a", "a.txt", "a.csv.gz"])
    def test_other_formats(self, name: str, run: sartor.Run, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no suffix of a known format"):
            sartor.predict_to_file(run, [], tmp_path / name)

    def test_a_folder_in_the_way(self, run: sartor.Run, tmp_path: Path) -> None:
        (tmp_path / "a.csv").mkdir()
        for choices in ({}, {"overwrite": True}):
            with pytest.raises(UsageError, match="is not a file"):
                sartor.predict_to_file(run, [], tmp_path / "a.csv", **choices)

    def test_two_at_once_are_refused(self, run: sartor.Run, pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "a.csv"

        def meanwhile() -> Iterator[str]:
            with pytest.raises(FileError, match="Another process is writing"):
                sartor.predict_to_file(run, pictures, out, overwrite=True)
            yield str(pictures / "1.png")

        assert sartor.predict_to_file(run, meanwhile(), out).rows == 1


class TestProgress:
    def test_events_count_and_end(
        self, run: sartor.Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sartor.api.predicting_many._EVENT_SECONDS", 0)
        events: list[Event] = []
        sartor.predict_to_file(run, pictures, tmp_path / "a.csv", on_event=events.append)
        said = [event for event in events if isinstance(event, Predicting)]
        assert [event.done for event in said] == [256, 512, COUNT, COUNT]
        assert [event.ended for event in said] == [False, False, False, True]
        assert {event.total for event in said} <= {None, COUNT}
        assert said[-1].unreadable == 3
        assert said[-1].pictures_per_second > 0

    def test_memory_does_not_grow_with_the_number(
        self, run: sartor.Run, pictures: Path, tmp_path: Path
    ) -> None:
        import tracemalloc

        taken: list[int] = []

        def named() -> Iterator[str]:
            for number in range(4_000):
                if number in (1_500, 3_900):
                    taken.append(tracemalloc.get_traced_memory()[0])
                yield str(pictures / f"{number % COUNT}.png")

        tracemalloc.start()
        try:
            sartor.predict_to_file(run, named(), tmp_path / "a.jsonl")
        finally:
            tracemalloc.stop()
        assert taken[1] - taken[0] < 1_000_000


def test_a_stream_can_be_left_early(run: sartor.Run, pictures: Path) -> None:
    import threading

    stream = sartor.predict_stream(run.path, [pictures, "nowhere.png"])
    assert isinstance(next(stream), sartor.Unreadable)
    assert isinstance(next(stream), sartor.Prediction)
    stream.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("sartor-decode")]


def test_arrays_among_others_have_a_way_of_their_own(run: sartor.Run) -> None:
    array = np.zeros((8, 8), np.uint8)
    with pytest.raises(UsageError, match="Arrays are no pictures"):
        list(sartor.predict_stream(run, iter([Image.fromarray(array), array])))
