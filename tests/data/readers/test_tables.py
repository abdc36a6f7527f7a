"""Parquet files: which column is which, classes as the hub names them, damage."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sartor.data.listing import Listing
from sartor.data.readers import parquet as parquet_file
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import (
    CorruptDataError,
    DataError,
    MissingExtraError,
    PictureError,
    SartorError,
    UsageError,
)


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (3, 3), value).save(stream, "PNG")
    return stream.getvalue()


IMAGES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def cells(count: int, *, path: Callable[[int], str | None] = lambda _: None) -> pa.Array:
    return pa.array([{"bytes": png(k), "path": path(k)} for k in range(count)], IMAGES)


def hub(**features: Any) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def class_label(*names: str) -> dict[str, Any]:
    return {"_type": "ClassLabel", "names": list(names)}


def write(path: Path, columns: dict[str, Any], metadata: Any = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)
    return path


def read(path: Path, **given: Any) -> Listing:
    found = find_source(DataSettings(source=str(path), **given))
    assert isinstance(found, Listing)
    return found


def labels(listing: Listing) -> list[str]:
    return [listing.classes[label] for label in listing.labels.tolist()]


class TestClasses:
    def test_the_hub_names_them_in_its_own_order(self, tmp_path: Path) -> None:
        columns = {"image": cells(4), "label": [0, 1, 2, 0]}
        features = hub(image={"_type": "Image"}, label=class_label("zebra", "ant", "cow"))
        listing = read(write(tmp_path / "set", columns, features))
        assert listing.classes == ("zebra", "ant", "cow")
        assert labels(listing) == ["zebra", "ant", "cow", "zebra"]

    def test_those_without_pictures_are_named(self, tmp_path: Path) -> None:
        columns = {"image": cells(2), "label": [3, 1]}
        features = hub(label=class_label("a", "b", "c", "d"))
        listing = read(write(tmp_path / "set", columns, features))
        assert listing.classes == ("b", "d")
        assert labels(listing) == ["d", "b"]
        assert "Left out 2 classes without pictures: a, c." in listing.remarks

    def test_a_number_without_a_name_is_refused(self, tmp_path: Path) -> None:
        columns = {"image": cells(2), "label": [0, 2]}
        with pytest.raises(DataError, match="label 2, but names 2 classes"):
            read(write(tmp_path / "set", columns, hub(label=class_label("a", "b"))))

    @pytest.mark.parametrize(
        ("column", "expected"),
        [
            (pa.array(["10", "9", "9"]), ["10", "9", "9"]),
            (pa.array([10, 9, 9], pa.uint8()), ["10", "9", "9"]),
            (pa.array([10.0, 9.0, 9.0]), ["10", "9", "9"]),
            (pa.array([True, False, False]), ["true", "false", "false"]),
            (pa.array(["b", "a", "a"]).dictionary_encode(), ["b", "a", "a"]),
            (pa.array([b"b", b"a", b"a"]), ["b", "a", "a"]),
        ],
    )
    def test_labels_of_any_simple_type(
        self, tmp_path: Path, column: pa.Array, expected: list[str]
    ) -> None:
        path = write(tmp_path / "set", {"image": cells(3), "label": column})
        assert labels(read(path, image_column="image", label_column="label")) == expected

    @pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": {"features": 3}}', b"\xff"])
    def test_what_the_hub_never_wrote_is_passed_over(self, tmp_path: Path, metadata: bytes) -> None:
        columns = {"image": cells(2), "label": ["a", "b"]}
        path = write(tmp_path / "set", columns, {b"huggingface": metadata})
        assert labels(read(path)) == ["a", "b"]

    def test_a_split_with_secret_labels_is_left_out(self, tmp_path: Path) -> None:
        features = hub(label=class_label("a", "b"))
        write(tmp_path / "train-0.parquet", {"image": cells(2), "label": [0, 1]}, features)
        write(tmp_path / "test-0.parquet", {"image": cells(3), "label": [-1] * 3}, features)
        listing = read(tmp_path)
        assert (len(listing), listing.test) == (2, None)
        assert "Left out test: its 3 rows have no label." in listing.remarks

    def test_one_secret_label_is_a_fault(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "set",
            {"image": cells(2), "label": [0, -1]},
            hub(label=class_label("a", "b")),
        )
        with pytest.raises(DataError, match="has the label -1"):
            read(path)


class TestColumns:
    @pytest.mark.parametrize(
        ("columns", "given", "message"),
        [
            ({"fine": ["a", "b"], "coarse": ["x", "y"]}, {}, "unclear which column .* label"),
            ({"label": ["a", "b"]}, {"label_column": "labl"}, 'did you mean "label"'),
            ({"label": [["a"], ["b"]]}, {}, "label .* holds lists"),
            ({"kind": [["a"], ["b"]]}, {"label_column": "kind"}, "kind .* holds lists"),
            ({"label": ["a", None]}, {}, "1 row .* without a label: line 2"),
            ({"label": ["a", "a"]}, {}, "same label"),
        ],
    )
    def test_faults(
        self, tmp_path: Path, columns: dict[str, Any], given: dict[str, str], message: str
    ) -> None:
        with pytest.raises(SartorError, match=message) as caught:
            read(write(tmp_path / "set", {"image": cells(2), **columns}), **given)
        assert caught.value.hint

    def test_a_label_chosen_among_two(self, tmp_path: Path) -> None:
        columns = {"img": cells(2), "fine_label": [0, 1], "coarse_label": [1, 0]}
        features = hub(fine_label=class_label("a", "b"), coarse_label=class_label("x", "y"))
        path = write(tmp_path / "set", columns, features)
        with pytest.raises(UsageError, match="label: fine_label, coarse_label"):
            read(path)
        assert labels(read(path, label_column="coarse_label")) == ["y", "x"]

    def test_a_group_by_any_name(self, tmp_path: Path) -> None:
        columns = {
            "image": cells(2),
            "label": ["a", "b"],
            "hospital": [7, None],
            "part": ["train"] * 2,
        }
        path = write(tmp_path / "set", columns)
        assert read(path).groups is None
        assert read(path, group_column="hospital").groups == ("7", "set[1]")

    def test_two_columns_of_pictures(self, tmp_path: Path) -> None:
        columns = {"left": cells(2), "right": cells(2), "label": ["a", "b"]}
        path = write(tmp_path / "set", columns)
        with pytest.raises(UsageError, match="pictures: left, right"):
            read(path)
        assert len(read(path, image_column="right")) == 2

    def test_plain_bytes(self, tmp_path: Path) -> None:
        columns = {"jpg": pa.array([png(0), png(1)], pa.large_binary()), "cls": ["a", "b"]}
        listing = read(write(tmp_path / "set.parquet", columns))
        assert listing.pictures.names == ("set.parquet[0]", "set.parquet[1]")
        assert [listing.pictures.read(k) for k in range(2)] == [png(0), png(1)]

    def test_names_are_the_paths_where_these_tell(self, tmp_path: Path) -> None:
        columns = {"image": cells(2, path=lambda k: f"{k}.png"), "label": ["a", "b"]}
        assert read(write(tmp_path / "set", columns)).pictures.names == ("0.png", "1.png")
        columns["image"] = cells(2, path=lambda _: "same.png")
        assert read(write(tmp_path / "set", columns)).pictures.names == ("set[0]", "set[1]")

    def test_paths_where_the_hub_kept_no_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "0.png").write_bytes(png(0))
        (tmp_path / "1.png").write_bytes(png(1))
        empty = pa.array([{"bytes": None, "path": f"{k}.png"} for k in range(2)], IMAGES)
        listing = read(write(tmp_path / "set", {"image": empty, "label": ["a", "b"]}))
        assert [listing.pictures.read(k) for k in range(2)] == [png(0), png(1)]

    def test_an_empty_cell_is_a_picture_that_cannot_be_read(self, tmp_path: Path) -> None:
        images = pa.array([{"bytes": png(0), "path": None}, {"bytes": None, "path": None}], IMAGES)
        listing = read(write(tmp_path / "set", {"image": images, "label": ["a", "b"]}))
        with pytest.raises(PictureError, match=r"set\[1\] .*row 2.* is empty"):
            listing.pictures.read(1)


class TestFiles:
    def parts(self, root: Path, names: Sequence[str]) -> Path:
        for name in names:
            write(root / f"{name}.parquet", {"image": cells(2), "label": ["a", "b"]})
        return root

    def test_a_folder_for_each_split(self, tmp_path: Path) -> None:
        listing = read(self.parts(tmp_path, ["default/train/0000", "default/test/0000"]))
        assert listing.test is not None
        assert [listing.pictures.names[k] for k in listing.test] == [
            "default/test/0000.parquet[0]",
            "default/test/0000.parquet[1]",
        ]

    def test_several_sets_are_told_apart(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="parquet files of several sets, in one, two"):
            read(self.parts(tmp_path, ["one/train-0", "two/train-0"]))

    def test_a_file_that_is_no_split_among_those_that_are(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"others are not: dev-0\.parquet"):
            read(self.parts(tmp_path, ["train-0", "dev-0"]))

    def test_parts_that_are_not_there(self, tmp_path: Path) -> None:
        root = self.parts(tmp_path, ["train-00000-of-00003", "train-00002-of-00003"])
        assert "Only 2 of the 3 parts of train are read." in read(root).remarks
        one = read(root / "train-00000-of-00003.parquet")
        assert any("1 of the 3 parts" in remark and "folder" in remark for remark in one.remarks)

    def test_other_columns(self, tmp_path: Path) -> None:
        self.parts(tmp_path, ["train-0"])
        write(tmp_path / "test-0.parquet", {"image": cells(2), "kind": ["a", "b"]})
        with pytest.raises(DataError, match="has other columns than"):
            read(tmp_path)

    def test_no_row(self, tmp_path: Path) -> None:
        empty = {"image": pa.array([], IMAGES), "label": pa.array([], pa.string())}
        with pytest.raises(DataError, match="has 0 rows"):
            read(write(tmp_path / "set", empty))

    def test_what_only_begins_as_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "set").write_bytes(b"PAR1" + bytes(99) + b"PAR1")
        with pytest.raises(CorruptDataError, match="set is damaged"):
            read(tmp_path / "set")

    def test_without_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.parts(tmp_path, ["train"]) / "train.parquet"
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'sartor\[parquet\]'"):
            read(path)


class TestReading:
    def test_threads_find_their_own_pictures(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Few row groups are kept, so that they have to be read again and again."""
        monkeypatch.setattr(parquet_file, "_KEPT_BYTES", 1)
        columns = {"image": cells(90), "label": [str(k % 3) for k in range(90)]}
        listing = read(write(tmp_path / "set", columns, row_group_size=7))
        order = [(k * 37) % 90 for k in range(270)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(listing.pictures.read, order)) == [png(k) for k in order]

    def test_only_the_row_group_in_use_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parquet_file, "_KEPT_BYTES", 10_000)
        big = pa.array([bytes([k]) * 4_000 for k in range(40)])
        columns = {"image": big, "label": [str(k % 3) for k in range(40)]}
        listing = read(write(tmp_path / "set", columns, row_group_size=1))
        assert isinstance(listing.pictures, parquet_file.PictureCells)
        for index in range(40):
            assert listing.pictures.read(index) == bytes([index]) * 4_000
            assert listing.pictures._kept_bytes() <= 10_000

    def test_a_stamp_tells_of_a_change(self, tmp_path: Path) -> None:
        columns = {"image": cells(2), "label": ["a", "b"]}
        listing = read(write(tmp_path / "set", columns))
        assert listing.pictures.stamp(0) != listing.pictures.stamp(1)
        again = read(write(tmp_path / "set", {**columns, "more": [1, 2]}))
        assert again.pictures.stamp(0) != listing.pictures.stamp(0)
