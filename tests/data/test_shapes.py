"""One set in every usual shape: whatever it is written as, the same dataset comes of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import sartor
from sartor.data.dataset import Dataset
from sartor.data.listing import Listing
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source, open_source
from sartor.errors import SartorError


class Picture(NamedTuple):
    """What is known of one picture before it is written anywhere."""

    number: int
    label: int
    split: str
    group: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]

    @property
    def png(self) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "PNG")
        return stream.getvalue()


def digit_pictures() -> list[Picture]:
    """60 digits: of each class four to train on, one for validation, one to test."""
    digits = load_digits()
    splits = ("train", "train", "train", "train", "val", "test")
    pictures = []
    for label in range(10):
        for place, row in enumerate(np.flatnonzero(digits.target == label)[:6].tolist()):
            pixels = (digits.images[row] * 255 / 16).round().astype(np.uint8)
            pictures.append(Picture(row, label, splits[place], f"writer {row % 7}", pixels))
    return pictures


PICTURES = digit_pictures()
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shape:
    """A way to write the pictures down."""

    write: Callable[[Path], Path]
    """Writes them below a folder; what is to be named."""
    splits: bool = False
    groups: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def write_pictures(folder: Path, name: Callable[[Picture], str]) -> Path:
    for picture in PICTURES:
        path = folder / name(picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.png)
    return folder


def class_folders(root: Path) -> Path:
    return write_pictures(root / "digits", lambda one: f"{one.label}/{one.number}.png")


def nested_class_folders(root: Path) -> Path:
    return write_pictures(
        root / "digits", lambda one: f"{one.label}/{one.group}/a/{one.number}.png"
    )


def split_folders(root: Path, words: tuple[str, str, str] = SPLITS) -> Path:
    word = dict(zip(SPLITS, words, strict=True))
    return write_pictures(
        root / "digits", lambda one: f"{word[one.split]}/{one.label}/{one.number}.png"
    )


def flat(root: Path, folder: str = "pictures") -> Path:
    write_pictures(root / folder, lambda one: f"{one.number}.png")
    return root


HEADER = ("file_name", "label", "split", "group")


def rows(prefix: str = "") -> list[tuple[str, ...]]:
    return [(f"{prefix}{one.number}.png", str(one.label), one.split, one.group) for one in PICTURES]


def table(
    path: Path,
    rows: Iterable[tuple[str, ...]],
    header: tuple[str, ...] = HEADER,
    **style: Any,
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, **style)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def lines(path: Path, chosen: Iterable[Picture], prefix: str) -> Path:
    path.write_text("".join(f"{prefix}{one.number}.png {one.label}\n" for one in chosen))
    return path


def lists_of_splits(root: Path) -> Path:
    flat(root)
    for split in SPLITS:
        lines(root / f"{split}.txt", (one for one in PICTURES if one.split == split), "pictures/")
    return root


def json_lines(root: Path) -> Path:
    flat(root, "")
    documents = [dict(zip(HEADER, row, strict=True)) for row in rows()]
    for document in documents:
        document["label"] = int(document["label"])  # type: ignore[assignment]
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in documents))
    return root


def metadata_in_splits(root: Path) -> Path:
    write_pictures(root, lambda one: f"{one.split}/{one.number}.png")
    for split in SPLITS:
        own = [row for row in rows() if row[2] == split]
        table(root / split / "metadata.csv", own)
    return root


def hub_features(label: str = "label") -> dict[bytes, bytes]:
    features = {
        "image": {"_type": "Image"},
        label: {"names": [str(number) for number in range(10)], "_type": "ClassLabel"},
    }
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def parquet_table(chosen: list[Picture], *, paths: bool = True) -> pa.Table:
    cells = [{"bytes": one.png, "path": f"{one.number}.png" if paths else None} for one in chosen]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table(
        {
            "image": pa.array(cells, kind),
            "label": pa.array([one.label for one in chosen], pa.int64()),
            "group": [one.group for one in chosen],
            "split": [one.split for one in chosen],
        }
    )


def parquet_of_the_hub(root: Path) -> Path:
    """As `datasets` pushes it: a folder with parts, whose names tell the split."""
    (root / "data").mkdir()
    (root / "README.md").write_text("# Digits")
    for split in SPLITS:
        chosen = [one for one in PICTURES if one.split == split]
        parts = [chosen[::2], chosen[1::2]] if split == "train" else [chosen]
        for number, part in enumerate(parts):
            written = parquet_table(part, paths=False).drop_columns(["split"])
            path = root / "data" / f"{split}-{number:05}-of-{len(parts):05}.parquet"
            pq.write_table(written.replace_schema_metadata(hub_features()), path, row_group_size=7)
    return root


def parquet_in_one_file(root: Path) -> Path:
    pq.write_table(parquet_table(PICTURES), root / "digits.parquet", row_group_size=11)
    return root / "digits.parquet"


def parquet_with_paths(root: Path) -> Path:
    flat(root)
    columns = dict(zip(HEADER, zip(*rows("pictures/"), strict=True), strict=True))
    pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), root / "p")
    return root / "p"


def arrays(chosen: Iterable[Picture]) -> tuple[Any, Any]:
    kept = list(chosen)
    return np.stack([one.pixels for one in kept]), np.array([one.label for one in kept])


def in_split(split: str) -> Iterable[Picture]:
    return (one for one in PICTURES if one.split == split)


def npz_of_medmnist(root: Path) -> Path:
    parts: dict[str, Any] = {}
    for split in SPLITS:
        images, labels = arrays(in_split(split))
        parts[f"{split}_images"] = images
        parts[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(root / "digitmnist.npz", **parts)
    return root / "digitmnist.npz"


def npz_of_keras(root: Path) -> Path:
    (x_train, y_train), (x_test, y_test) = arrays(in_split("train")), arrays(in_split("test"))
    x_val, y_val = arrays(in_split("val"))
    parts = {"x_train": x_train, "y_train": y_train, "x_val": x_val, "y_val": y_val}
    np.savez_compressed(root / "k.npz", x_test=x_test, y_test=y_test, **parts)
    return root / "k.npz"


def npz_of_floats(root: Path) -> Path:
    images, labels = arrays(PICTURES)
    np.savez(root / "f.npz", X=(images / 255).astype(np.float32), y=np.eye(10)[labels])
    return root / "f.npz"


def npz_with_groups(root: Path) -> Path:
    images, labels = arrays(PICTURES)
    groups = np.array([one.group for one in PICTURES])
    words = np.array([str(label) for label in labels])
    np.savez(root / "g.npz", pixels=images.astype(np.int64), what=words, who=groups)
    return root / "g.npz"


def to_idx(array: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def idx_files(root: Path, *, suffix: str = "") -> Path:
    for split, word in (("train", "train"), ("val", "val"), ("test", "t10k")):
        images, labels = arrays(in_split(split))
        for array, kind in ((images, "images-idx3-ubyte"), (labels, "labels-idx1-ubyte")):
            content = to_idx(array)
            path = root / f"{word}-{kind}{suffix}"
            path.write_bytes(gzip.compress(content) if suffix else content)
    return root


def one_idx_pair(root: Path) -> Path:
    images, labels = arrays(PICTURES)
    (root / "digits-images.idx3-ubyte").write_bytes(to_idx(images))
    (root / "digits-labels.idx1-ubyte").write_bytes(to_idx(labels))
    return root / "digits-images.idx3-ubyte"


def zipped(write: Callable[[Path], Path], *, top: str = "") -> Callable[[Path], Path]:
    """The same, in a zip file beside."""

    def pack(root: Path) -> Path:
        inner = root / "inner"
        inner.mkdir()
        named = write(inner)
        with zipfile.ZipFile(root / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(inner.rglob("*")):
                archive.write(path, top + str(path.relative_to(inner)))
        shutil.rmtree(inner)
        assert not named.exists()
        return root / "packed.zip"

    return pack


def tarred(write: Callable[[Path], Path], mode: str = "w") -> Callable[[Path], Path]:
    """The same, in a tar file beside."""

    def pack(root: Path) -> Path:
        inner = root / "inner"
        inner.mkdir()
        write(inner)
        path = root / f"packed.tar{mode[1:].replace(':', '.')}"
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            archive.add(inner, ".")
        shutil.rmtree(inner)
        return path

    return pack


SHAPES: dict[str, Shape] = {
    "folder": Shape(class_folders),
    "nested folders": Shape(nested_class_folders),
    "folder, forced": Shape(class_folders, settings={"format": "folder"}),
    "split folders": Shape(split_folders, splits=True),
    "split folders, forced": Shape(
        split_folders, splits=True, settings={"format": "split-folders"}
    ),
    "split folders by other words": Shape(
        lambda root: split_folders(root, ("Training", "valid", "Testing")), splits=True
    ),
    "folder in a folder": Shape(lambda root: split_folders(root).parent, splits=True),
    "csv": Shape(
        lambda root: table(flat(root) / "list.csv", rows("pictures/")), splits=True, groups=True
    ),
    "csv, forced": Shape(
        lambda root: table(flat(root) / "list.csv", rows("pictures/")),
        splits=True,
        groups=True,
        settings={"format": "manifest"},
    ),
    "csv of Windows": Shape(
        lambda root: table(
            flat(root) / "list.csv", rows("pictures\\"), delimiter=";", lineterminator="\r\n"
        ),
        splits=True,
        groups=True,
    ),
    "tsv in quotes": Shape(
        lambda root: table(
            flat(root) / "list", rows("pictures/"), delimiter="\t", quoting=csv.QUOTE_ALL
        ),
        splits=True,
        groups=True,
    ),
    "csv with names of columns": Shape(
        lambda root: table(
            flat(root) / "list.csv", rows("./pictures/"), ("where", "what", "part", "patient")
        ),
        splits=True,
        groups=True,
        settings={
            "image_column": "where",
            "label_column": "what",
            "split_column": "part",
            "group_column": "patient",
        },
    ),
    "csv without header": Shape(
        lambda root: table(flat(root) / "list.csv", rows("pictures/"), ()),
        splits=True,
        groups=True,
        settings={"label_column": "2", "split_column": "3", "group_column": "4"},
    ),
    "csv with absolute paths": Shape(
        lambda root: table(flat(root) / "list.csv", rows(f"{root}/pictures/")),
        splits=True,
        groups=True,
    ),
    "lines of path and label": Shape(
        lambda root: lines(flat(root, "my pictures") / "list.txt", PICTURES, "my pictures/")
    ),
    "lists of splits": Shape(lists_of_splits, splits=True),
    "metadata.jsonl": Shape(json_lines, splits=True, groups=True),
    "metadata.csv in split folders": Shape(metadata_in_splits, splits=True, groups=True),
    "parquet of the hub": Shape(parquet_of_the_hub, splits=True, groups=True),
    "parquet in one file": Shape(parquet_in_one_file, splits=True, groups=True),
    "parquet with paths": Shape(parquet_with_paths, splits=True, groups=True),
    "npz of MedMNIST": Shape(npz_of_medmnist, splits=True),
    "npz of Keras": Shape(npz_of_keras, splits=True),
    "npz of floats and one-hot labels": Shape(npz_of_floats),
    "npz with groups": Shape(
        npz_with_groups,
        groups=True,
        settings={"image_column": "pixels", "label_column": "what", "group_column": "who"},
    ),
    "idx": Shape(idx_files, splits=True),
    "idx in gzip": Shape(lambda root: idx_files(root, suffix=".gz"), splits=True),
    "idx pair": Shape(one_idx_pair),
    "zip of folders": Shape(zipped(class_folders)),
    "zip of split folders in a folder": Shape(zipped(split_folders, top="a/b/"), splits=True),
    "zip of a list": Shape(
        zipped(lambda root: table(flat(root) / "list.csv", rows("pictures/"))),
        splits=True,
        groups=True,
    ),
    "zip of metadata": Shape(zipped(json_lines, top="top/"), splits=True, groups=True),
    "zip of parquet": Shape(zipped(parquet_of_the_hub), splits=True, groups=True),
    "zip of npz": Shape(zipped(npz_of_medmnist), splits=True),
    "zip of idx": Shape(zipped(idx_files), splits=True),
    "tar of folders": Shape(tarred(class_folders)),
    "tar of split folders": Shape(tarred(split_folders), splits=True),
    "tar of lists": Shape(tarred(lists_of_splits), splits=True),
    "tar of parquet with paths": Shape(tarred(parquet_of_the_hub), splits=True, groups=True),
    "tar.gz of folders": Shape(tarred(class_folders, "w:gz")),
    "tar.bz2 of idx": Shape(tarred(idx_files, "w:bz2"), splits=True),
    "tar.xz of metadata": Shape(tarred(metadata_in_splits, "w:xz"), splits=True, groups=True),
}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the tests' own, into which compressed archives are unpacked."""
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SARTOR_HOME", str(place))
    return place


def content(data: Dataset, *, splits: bool, groups: bool) -> Counter[tuple[Any, ...]]:
    """Every image with its class, split and group."""
    assert (data.test is not None) == (data.val is not None) == splits
    assert (data.groups is not None) == groups
    parts = np.full(len(data), "train")
    for part in ("val", "test"):
        indices = getattr(data, part)
        if indices is not None:
            parts[indices] = part
    return Counter(
        (
            data.classes[data.labels[index]],
            parts[index] if splits else "",
            data.groups[index] if data.groups else "",
            data.images[index].tobytes(),
        )
        for index in range(len(data))
    )


def expected(*, splits: bool, groups: bool) -> Counter[tuple[Any, ...]]:
    return Counter(
        (
            str(one.label),
            one.split if splits else "",
            one.group if groups else "",
            one.pixels.tobytes(),
        )
        for one in PICTURES
    )


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_set_comes_of_every_shape(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    named = shape.write(tmp_path)
    said: list[str] = []
    data = open_source(DataSettings(source=str(named), **shape.settings), note=said.append)
    assert data.classes == tuple(str(number) for number in range(10))
    assert data.shape == (1, 8, 8)
    wanted = {"splits": shape.splits, "groups": shape.groups}
    assert content(data, **wanted) == expected(**wanted)
    assert any("60 " in line and "10 class" in line for line in said), said
    again = sartor.load(named, **shape.settings)
    assert again.fingerprint == data.fingerprint


DAMAGED = (
    *("zip of split folders in a folder", "tar of split folders", "tar.gz of folders"),
    *("csv", "metadata.jsonl", "lines of path and label"),
    *("parquet in one file", "npz of MedMNIST", "npz with groups", "idx in gzip"),
)
TRIALS = 40


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A flipped bit or a few, an end that is missing, or a run of equal bytes."""
    damaged = bytearray(content)
    way = rng.random()
    if way < 0.7:
        for place in rng.integers(0, len(content), rng.integers(1, 4)).tolist():
            damaged[place] ^= 1 << int(rng.integers(8))
    elif way < 0.85:
        del damaged[int(rng.integers(len(content))) :]
    else:
        place = int(rng.integers(len(content)))
        damaged[place : place + 8] = bytes([int(rng.choice([0, 127, 128, 255]))]) * 8
    return bytes(damaged)


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named_or_changes_nothing_that_was_promised(name: str, tmp_path: Path) -> None:
    """Whatever bytes a file has: a sentence, or a dataset whose parts fit together."""
    shape = SHAPES[name]
    named = shape.write(tmp_path)
    if named.is_dir():
        files = [path for path in sorted(named.rglob("*")) if path.suffix not in (".png", "")]
    else:
        files = [named]
    rng = np.random.default_rng(sum(map(ord, name)))
    refused: list[SartorError] = []
    for _ in range(TRIALS):
        path = files[int(rng.integers(len(files)))]
        content = path.read_bytes()
        path.write_bytes(damage(content, rng))
        try:
            found = find_source(DataSettings(source=str(named), **shape.settings))
            if isinstance(found, Listing):
                for index in range(len(found)):
                    found.pictures.read(index)
                    found.pictures.stamp(index)
        except SartorError as error:
            refused.append(error)
        else:
            assert len(found.labels) <= len(PICTURES)
            assert found.labels.max() < len(found.classes)
            assert len(set(found.classes)) == len(found.classes)
        path.write_bytes(content)
    assert len(refused) > TRIALS / 4
    assert all(error.hint and len(error.message) < 2_000 for error in refused)
