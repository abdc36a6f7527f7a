"""Arrays in .npz files: keys, types, and headers that lie."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.feed.mapped import mapping_of
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import CorruptDataError, DataError, SartorError, UsageError

IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def read(path: Path, **given: Any) -> Dataset:
    found = find_source(DataSettings(source=str(path), **given))
    assert isinstance(found, Dataset)
    return found


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x", "y"), ("X", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1")],
)
def test_the_usual_keys(tmp_path: Path, images: str, labels: str) -> None:
    data = read(save(tmp_path / "set.npz", **{images: IMAGES, labels: LABELS}))
    assert data.name == "set"
    np.testing.assert_array_equal(data.images[:, 0], IMAGES)
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.val, data.test) == (None, None)


def test_parts_stand_in_the_order_training_validation_test(tmp_path: Path) -> None:
    data = read(
        save(
            tmp_path / "set.npz",
            **{"test_images": IMAGES[:1] + 100, "test_labels": LABELS[:1, None]},
            **{"val_images": IMAGES[:2] + 50, "val_labels": LABELS[:2, None]},
            **{"train_images": IMAGES, "train_labels": LABELS[:, None]},
        )
    )
    assert data.val is not None
    assert data.test is not None
    assert (data.val.tolist(), data.test.tolist()) == ([6, 7], [8])
    np.testing.assert_array_equal(data.images[6:8, 0], IMAGES[:2] + 50)


class TestImages:
    @pytest.mark.parametrize(
        "array",
        [
            IMAGES.astype(np.int64),
            IMAGES.astype(np.float64),
            (IMAGES / 255).astype(np.float32),
            IMAGES / 255,
            np.asfortranarray(IMAGES),
            IMAGES.astype(">u2"),
        ],
    )
    def test_what_can_be_bytes_exactly_is(self, tmp_path: Path, array: Any) -> None:
        data = read(save(tmp_path / "set.npz", x=array, y=LABELS))
        np.testing.assert_array_equal(data.images[:, 0], IMAGES)

    def test_truths_become_black_and_white(self, tmp_path: Path) -> None:
        data = read(save(tmp_path / "set.npz", x=IMAGES % 2 == 1, y=LABELS))
        np.testing.assert_array_equal(data.images[:, 0], IMAGES % 2 * 255)

    def test_whole_numbers_up_to_one_stay_what_they_are(self, tmp_path: Path) -> None:
        data = read(save(tmp_path / "set.npz", x=IMAGES.astype(int) % 2, y=LABELS))
        np.testing.assert_array_equal(data.images[:, 0], IMAGES % 2)

    @pytest.mark.parametrize("shape", [(6, 4, 5, 3), (6, 3, 4, 5)])
    def test_colours(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        array = np.arange(360, dtype=np.uint16).reshape(shape) % 256
        assert read(save(tmp_path / "set.npz", x=array, y=LABELS)).shape == (3, 4, 5)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (IMAGES / 1000, "not bytes divided by 255"),
            (IMAGES - 0.5, "hold values from -0.5 to 118.5"),
            (IMAGES.astype(int) * 3, "hold values from 0 to 357"),
            (np.where(IMAGES == 7, np.nan, IMAGES), "hold values from"),
            (np.full((6, 4, 5), "a"), "not numeric"),
            (IMAGES.astype(complex), "not numeric"),
            (IMAGES.reshape(6, 20), r"shape \(N, H, W\)"),
            (IMAGES[:0], "differ in length: x 0, y 6"),
            (np.uint8(3), "differ in length: x none"),
        ],
    )
    def test_others_are_refused(self, tmp_path: Path, array: Any, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            read(save(tmp_path / "set.npz", x=array, y=LABELS))
        assert caught.value.hint

    def test_splits_of_different_sizes(self, tmp_path: Path) -> None:
        arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, 1:], "y_test": LABELS}
        with pytest.raises(DataError, match="from split to split: 3x5, 4x5"):
            read(save(tmp_path / "set.npz", **arrays))


class TestLabels:
    @pytest.mark.parametrize(
        ("array", "classes", "labels"),
        [
            (LABELS + 7, ("7", "8", "9"), [0, 1, 2, 0, 1, 2]),
            (LABELS * 5, ("0", "5", "10"), [0, 1, 2, 0, 1, 2]),
            (LABELS.astype(np.float32), ("0", "1", "2"), [0, 1, 2, 0, 1, 2]),
            (LABELS[:, None].astype(np.uint8), ("0", "1", "2"), [0, 1, 2, 0, 1, 2]),
            (np.eye(3)[LABELS], ("0", "1", "2"), [0, 1, 2, 0, 1, 2]),
            (LABELS > 1, ("0", "1"), [0, 0, 1, 0, 0, 1]),
            (np.array(["b", "a", "c"])[LABELS], ("a", "b", "c"), [1, 0, 2, 1, 0, 2]),
            (np.array([b"b", b"a", b"\xff"])[LABELS], ("\\xff", "a", "b"), [2, 1, 0, 2, 1, 0]),
            (np.array(["10", "9", "2"])[LABELS], ("2", "9", "10"), [2, 1, 0, 2, 1, 0]),
        ],
    )
    def test_numbers_or_names(
        self, tmp_path: Path, array: Any, classes: tuple[str, ...], labels: list[int]
    ) -> None:
        data = read(save(tmp_path / "set.npz", x=IMAGES, y=array))
        assert data.classes == classes
        assert data.labels.tolist() == labels

    def test_names_of_the_classes(self, tmp_path: Path) -> None:
        names = np.array(["boot", "bag", "coat", "dress"])
        data = read(save(tmp_path / "set.npz", x=IMAGES, y=LABELS, class_names=names))
        assert data.classes == ("boot", "bag", "coat")
        with pytest.raises(DataError, match="label 2, but names 2 classes"):
            read(save(tmp_path / "set.npz", x=IMAGES, y=LABELS, class_names=names[:2]))

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.ones((6, 14), int), "14 columns: several labels for one picture"),
            (LABELS + 0.5, "not whole, such as 0.5"),
            (np.full(6, np.nan), "says nothing .nan."),
            (LABELS[:5], "differ in length: x 6, y 5"),
            (np.zeros(6, int), "same label: 0"),
            (np.zeros((6, 2, 2), int), "there must be one label per image"),
            (np.arange(6).astype("M8[s]"), "no labels"),
        ],
    )
    def test_others_are_refused(self, tmp_path: Path, array: Any, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            read(save(tmp_path / "set.npz", x=IMAGES, y=array))
        assert caught.value.hint


class TestKeys:
    @pytest.mark.parametrize(
        ("keys", "given", "message"),
        [
            (("a", "b"), {}, "No key .* usually have: a, b"),
            (("train_images", "b"), {}, "has train_images, but no labels to it"),
            (("x", "b"), {"label_column": "c"}, 'unknown key "c"'),
            (("a", "b"), {"label_column": "b"}, "no usual key for the other"),
        ],
    )
    def test_faults(
        self, tmp_path: Path, keys: tuple[str, str], given: dict[str, str], message: str
    ) -> None:
        path = save(tmp_path / "set.npz", **dict(zip(keys, (IMAGES, LABELS), strict=True)))
        with pytest.raises(SartorError, match=message) as caught:
            read(path, **given)
        assert caught.value.hint

    def test_two_of_a_kind(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", x=IMAGES, images=IMAGES, y=LABELS)
        with pytest.raises(UsageError, match="has x and images: unclear which"):
            read(path)
        assert len(read(path, image_column="images")) == 6

    def test_other_keys_do_not_hinder(self, tmp_path: Path) -> None:
        assert len(read(save(tmp_path / "set.npz", x=IMAGES, y=LABELS, info=np.zeros(3)))) == 6

    def test_a_part_without_training(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", test_images=IMAGES, test_labels=LABELS)
        with pytest.raises(DataError, match="no pictures for training"):
            read(path)

    def test_groups(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", x=IMAGES, y=LABELS, who=np.array([7, 7, 8, 8, 9, 9]))
        assert read(path, group_column="who").groups == ("7", "7", "8", "8", "9", "9")


def npy(header: str, content: bytes = b"") -> bytes:
    padded = header.encode().ljust(118 - len(b"\n")) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(padded)) + padded + content


class TestDamage:
    def bad(self, path: Path, member: bytes) -> Path:
        """A file whose images are this member."""
        labels = io.BytesIO()
        np.save(labels, LABELS)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", member)
            archive.writestr("y.npy", labels.getvalue())
        return path

    @pytest.mark.parametrize(
        ("member", "message"),
        [
            (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (6, 4, 5)}"), "claims 6x4x5"),
            (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 4)}"), "claims -6x4"),
            (npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, 9)}}"), "claims"),
            (npy("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}", b"x"), "Python objects"),
            (npy("{'descr': '|u1'}"), "damaged"),
            (npy("__import__('os').abort()"), "damaged"),
            (npy("(" * 100), "damaged"),
            (b"\x93NUMPY\3\0" + bytes(200), "unknown version"),
            (b"\x93NUMPY", "damaged"),
            (b"", "damaged"),
        ],
    )
    def test_a_header_that_lies(self, tmp_path: Path, member: bytes, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            read(self.bad(tmp_path / "set.npz", member))
        assert caught.value.hint

    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", x=np.array([[1], None], dtype=object), y=LABELS)
        with pytest.raises(DataError, match="Python objects, which could run programs"):
            read(path)

    def test_a_flipped_bit_in_the_content_is_noticed(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", x=IMAGES, y=LABELS)
        content = bytearray(path.read_bytes())
        content[content.index(IMAGES.tobytes()) + 60] ^= 4
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match="Bad CRC-32"):
            read(path)

    def test_too_much_for_the_memory_is_refused_unread(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        zeros = np.zeros((3_000, 100, 100), np.uint8)
        np.savez_compressed(tmp_path / "set.npz", x=zeros, y=np.zeros(3_000, int))
        monkeypatch.setattr("os.sysconf", lambda name: 1_000 if name == "SC_PHYS_PAGES" else 4_096)
        tracemalloc.start()
        with pytest.raises(DataError, match=r"take 0 GiB; this machine has 0 GiB"):
            read(tmp_path / "set.npz")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000


class TestMapped:
    """Large plain arrays of bytes stay in their file."""

    @pytest.fixture(autouse=True)
    def small_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sartor.data.readers.npz._MAPPED_FROM_BYTES", 100)
        monkeypatch.setattr("sartor.data.readers.npz._MEMORY_SHARE", 0.0)

    def test_bit_for_bit_the_same(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", y=LABELS, x=IMAGES)
        dataset = read(path)
        assert mapping_of(dataset.images) is not None
        np.testing.assert_array_equal(dataset.images[:, 0], IMAGES)
        np.testing.assert_array_equal(dataset.labels, LABELS)
        assert dataset.fingerprint == Dataset(IMAGES, LABELS, dataset.classes).fingerprint

    def test_whatever_the_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(tmp_path / "set.npz", y=LABELS, x=IMAGES)
        monkeypatch.setattr("sartor.data.readers.npz.total_memory", lambda: 400)
        assert len(read(path)) == len(IMAGES)
        np.savez_compressed(path, y=LABELS, x=IMAGES)
        with pytest.raises(DataError, match="GiB of memory") as caught:
            read(path)
        assert "uncompressed" in caught.value.hint

    @pytest.mark.parametrize("images", [IMAGES / 255, np.asfortranarray(IMAGES)], ids=["f8", "F"])
    def test_others_are_read_into_memory(self, tmp_path: Path, images: np.ndarray) -> None:
        dataset = read(save(tmp_path / "set.npz", x=images, y=LABELS))
        assert mapping_of(dataset.images) is None
        np.testing.assert_array_equal(dataset.images[:, 0], IMAGES)

    def test_so_are_those_that_fit_into_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is read cannot change any more."""
        monkeypatch.setattr("sartor.data.readers.npz._MEMORY_SHARE", 0.25)
        assert mapping_of(read(save(tmp_path / "set.npz", x=IMAGES, y=LABELS)).images) is None

    def test_so_are_several_splits(self, tmp_path: Path) -> None:
        arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
        assert mapping_of(read(save(tmp_path / "set.npz", **arrays)).images) is None

    def test_a_flipped_bit_is_noticed(self, tmp_path: Path) -> None:
        path = save(tmp_path / "set.npz", x=IMAGES, y=LABELS)
        content = bytearray(path.read_bytes())
        content[content.index(IMAGES.tobytes()) + 60] ^= 4
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match="Bad CRC-32"):
            read(path)
