"""What a source is recognised as, what decides in doubt, and what a run keeps of it."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import sartor
from sartor.data.dataset import Dataset
from sartor.data.listing import Listing
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import DataError, RecipeError, UsageError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write files: pictures, or what is given as their content."""

    def make(*pictures: str, **others: str | bytes) -> Path:
        for name in pictures:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2)).save(path, "PNG")
        for name, content in others.items():
            path = tmp_path / name.replace("__", "/").replace("_csv", ".csv")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return make


def find(path: Path, **given: Any) -> Dataset | Listing:
    return find_source(DataSettings(source=str(path), **given))


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


IMAGES = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2)
LABELS = np.array([0, 1, 0, 1], np.uint8)


class TestDoubt:
    def test_class_folders_beside_idx_files(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png")
        (root / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
        (root / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
        with pytest.raises(UsageError, match="as IDX files and as class folders") as caught:
            find(root)
        assert caught.value.hint == "Say --format idx or --format folder."
        assert isinstance(find(root, format="idx"), Dataset)
        assert isinstance(find(root, format="folder"), Listing)

    def test_class_folders_beside_lists_of_splits(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png", train_csv="a/1.png,x\nb/1.png,y\n")
        with pytest.raises(UsageError, match="as a list and as class folders"):
            find(root)
        for kind, classes in (("folder", ("a", "b")), ("manifest", ("x", "y"))):
            found = find(root, format=kind)
            assert found.classes == classes

    def test_metadata_goes_before_class_folders(self, make: Make) -> None:
        rows = "file_name,label\na/1.png,x\nb/1.png,y\n"
        root = make("a/1.png", "b/1.png", metadata_csv=rows)
        assert find(root).classes == ("x", "y")
        assert find(root, format="folder").classes == ("a", "b")

    def test_a_text_beside_class_folders_is_no_list(self, make: Make) -> None:
        assert find(make("a/1.png", "b/1.png", notes_csv="a,b\n")).classes == ("a", "b")

    def test_two_arrays(self, make: Make) -> None:
        root = make()
        for name in ("one", "two"):
            np.savez(root / name, x=IMAGES, y=LABELS)
        with pytest.raises(DataError, match=r"several \.npz files: one\.npz, two\.npz"):
            find(root)


class TestForced:
    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("npz", "cannot be read as npz: it is a list by its content"),
            ("parquet", "cannot be read as parquet"),
            ("folder", "cannot be read as folder"),
        ],
    )
    def test_a_file_of_another_kind(self, make: Make, kind: str, message: str) -> None:
        root = make("1.png", list_csv="1.png,a\n")
        with pytest.raises(UsageError, match=message):
            find(root / "list.csv", format=kind)

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("npz", "no .npz file"),
            ("parquet", "no parquet file"),
            ("manifest", "no list of pictures"),
            ("idx", "no train-images-idx3-ubyte"),
        ],
    )
    def test_a_folder_without_it(self, make: Make, kind: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            find(make("a/1.png", "b/1.png"), format=kind)

    def test_what_means_nothing_is_refused(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png")
        with pytest.raises(UsageError, match=r"label_column means nothing for .* class folders"):
            find(root, label_column="kind")
        with pytest.raises(UsageError, match="image_root means nothing for the named set digits"):
            find_source(DataSettings(source="digits", image_root="."))
        with pytest.raises(UsageError, match="format means nothing for the named set digits"):
            find_source(DataSettings(source="digits", format="idx"))

    def test_a_recipe_tells_without_looking(self) -> None:
        with pytest.raises(RecipeError, match="split_column means nothing for the format npz"):
            sartor.load("nowhere", format="npz", split_column="x")
        with pytest.raises(RecipeError, match='unknown format "parket"; did you mean "parquet"'):
            sartor.load("nowhere", format="parket")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n", "is one picture"),
        (b"\xff\xd8\xff\xe0", "is one picture"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive"),
        (b"Rar!\x1a\x07", "is a rar archive"),
        (b"\x93NUMPY\1\0", "is a single array"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"\x80\x04\x95", "is a pickle, which could run programs"),
        (gzip.compress(b"a,b\n", mtime=0), "is compressed, and holds neither"),
        (gzip.compress(b"a,b\n", mtime=0)[:-12], "is damaged|is compressed"),
        (b"\x1f\x8b\x08", "is damaged"),
        (bytes(600), "holds zero bytes"),
        (bytes((0, 0, 8, 3)) + bytes(20), "does not say which labels go with it"),
        (b"\xd0\xcf\x11\xe0", "not text in UTF-8"),
    ],
)
def test_other_files_are_named_for_what_they_are(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        find(tmp_path / "file")
    assert caught.value.hint


def test_a_folder_that_holds_an_archive(make: Make) -> None:
    root = make()
    with zipfile.ZipFile(root / "flowers.zip", "w") as archive:
        archive.writestr("a/1.png", b"x")
    with pytest.raises(DataError, match=r"no picture in .*, but flowers\.zip") as caught:
        find(root)
    assert caught.value.hint.endswith("flowers.zip")


def test_a_folder_of_something_else(make: Make) -> None:
    root = make(notes_csv="", more_csv="")
    (root / "film.mp4").touch()
    with pytest.raises(DataError, match=r"no picture in .*; it holds 2 \.csv, 1 \.mp4"):
        find(root)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9"
    path.mkdir()
    with pytest.raises(DataError, match="is not text in UTF-8"):
        find(path)


class TestIdx:
    def test_gaps_between_labels_are_no_classes(self, tmp_path: Path) -> None:
        (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS * 5 + 1))
        data = find(tmp_path)
        assert data.classes == ("1", "6")
        assert data.labels.tolist() == [0, 1, 0, 1]

    def test_one_of_several_sets_by_its_file(self, tmp_path: Path) -> None:
        for number, name in enumerate(("emnist-letters", "emnist-digits")):
            for part in ("train", "test"):
                images = idx(IMAGES + number)
                (tmp_path / f"{name}-{part}-images-idx3-ubyte.gz").write_bytes(
                    gzip.compress(images)
                )
                labels = gzip.compress(idx(LABELS))
                (tmp_path / f"{name}-{part}-labels-idx1-ubyte.gz").write_bytes(labels)
        with pytest.raises(DataError, match="2 sets: emnist-digits, emnist-letters"):
            find(tmp_path)
        data = find(tmp_path / "emnist-digits-train-images-idx3-ubyte.gz")
        assert isinstance(data, Dataset)
        assert data.name == "emnist-digits"
        assert data.images[0, 0, 0, 0] == 1
        assert data.test is not None
        assert data.test.tolist() == [4, 5, 6, 7]

    def test_they_are_found_in_folders_below(self, tmp_path: Path) -> None:
        folder = tmp_path / "MNIST/raw"
        folder.mkdir(parents=True)
        (folder / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
        (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
        (tmp_path / "README.md").touch()
        assert len(find(tmp_path).labels) == 4


@pytest.fixture(scope="module")
def digits_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 digits with a list, whose columns only flags can tell, beside another folder."""
    root = tmp_path_factory.mktemp("digits")
    (root / "pictures").mkdir()
    digits = load_digits()
    rows = ["where,digit,shape,who\n"]
    for number in range(120):
        pixels = (digits.images[number] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(root / f"pictures/{number}.png")
        label = digits.target[number]
        rows.append(
            f"{number}.png,{label},{'round' if label in (0, 6, 8, 9) else 'open'},w{number % 9}\n"
        )
    (root / "list.csv").write_text("".join(rows))
    return root


FLAGS = ("--label-column", "shape", "--group-column", "who", "--image-root", "pictures")


class TestCommand:
    def test_data_takes_the_flags(
        self, digits_list: Path, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(digits_list)
        answer = command("data", "list.csv", *FLAGS, "--json")
        assert answer.exit_code == 0
        assert answer.document["parts"] == {"all": 120}
        assert [row["class"] for row in answer.document["classes"]] == ["open", "round"]
        assert "list.csv: 120 pictures of 2 classes (comma-separated list" in answer.err

    @pytest.mark.parametrize(
        ("words", "exit_code", "message"),
        [
            ((), 2, "unclear which column of list.csv holds the label: digit, shape, who"),
            (("--label-column", "shap"), 2, 'unknown column "shap"; did you mean "shape"'),
            (
                ("--label-column", "shape", "--image-root", "nowhere"),
                1,
                "Missing are all 120 files that list.csv names",
            ),
            (("--format", "folder", "--label-column", "shape"), 2, "means nothing for the format"),
            (("--format", "csv"), 2, 'unknown format "csv"'),
        ],
    )
    def test_faults(
        self,
        digits_list: Path,
        command: Any,
        monkeypatch: pytest.MonkeyPatch,
        words: tuple[str, ...],
        exit_code: int,
        message: str,
    ) -> None:
        monkeypatch.chdir(digits_list)
        answer = command("data", "list.csv", *words)
        assert (answer.exit_code, answer.out) == (exit_code, "")
        assert message in answer.err

    def test_a_run_finds_its_data_from_anywhere(
        self, digits_list: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Train, go elsewhere, judge, train on, and train anew from the recipe."""
        monkeypatch.chdir(digits_list)
        small = ("--model", "linear", "--epochs", "1", "--threads", "1")
        out = tmp_path / "run"
        answer = command("fit", "list.csv", *FLAGS, *small, "--out", out, "--json")
        assert answer.exit_code == 0, answer.err
        assert "120 pictures of 2 classes" in answer.err
        monkeypatch.chdir(tmp_path)
        judged = command("evaluate", out, "--json")
        assert judged.exit_code == 0, judged.err
        assert [row["class"] for row in judged.document["per_class"]] == ["open", "round"]
        assert command("resume", out, "--epochs", "2").exit_code == 0
        again = command("fit", "--recipe", out / "recipe.toml", "--out", tmp_path / "again")
        assert again.exit_code == 0, again.err


def test_data_whose_classes_changed_is_refused_with_their_names(
    digits_list: Path, tmp_path: Path
) -> None:
    """A class more would move the numbers of all after it: nothing is matched by number."""
    root = tmp_path / "classes"
    for number in range(40):
        folder = root / ("b" if number % 2 else "c")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(digits_list / f"pictures/{number}.png", folder)
    run = sartor.fit(root, model="linear", epochs=1, threads=1, out=tmp_path / "run")
    assert run.classes == ("b", "c")
    (root / "a").mkdir()
    shutil.copy(digits_list / "pictures/50.png", root / "a")
    with pytest.raises(DataError, match=r"is not what .* trained on \(new classes: a\)"):
        sartor.evaluate(tmp_path / "run")


def test_how_to_read_means_nothing_for_arrays() -> None:
    data = Dataset(IMAGES, LABELS)
    with pytest.raises(UsageError, match="label_column says how to read a source"):
        sartor.fit(data, model="linear", label_column="x")


def test_what_is_said_stands_on_one_line(make: Make) -> None:
    root = make("a/1.png", "b/1.png", "b/bad\nname.txt")
    said: list[str] = []
    find_source(DataSettings(source=str(root)), note=said.append)
    assert len(said) == 2
    assert json.dumps(said).count("\\n") == 0


def test_lines_of_path_and_label_with_photographs_of_any_size(tmp_path: Path) -> None:
    """Two real photographs, cut into pieces of many sizes: colours, resized to one size."""
    folder = files("sklearn.datasets.images")
    rows = []
    for name in ("china", "flower"):
        with folder.joinpath(f"{name}.jpg").open("rb") as stream, Image.open(stream) as photograph:
            for number in range(8):
                left, size = 60 * number, (40 + 9 * number, 90 - 7 * number)
                piece = photograph.crop((left, 50, left + size[0], 50 + size[1]))
                piece.save(tmp_path / f"{name} {number}.jpg")
                rows.append(f"{name} {number}.jpg {name}\n")
    (tmp_path / "all.txt").write_text("".join(rows))
    data = sartor.load(tmp_path / "all.txt", image_size=(20, 24), resize="crop")
    assert data.shape == (3, 20, 24)
    assert data.classes == ("china", "flower")
    assert np.bincount(data.labels).tolist() == [8, 8]
    run = sartor.fit(data, model="mlp", epochs=2, threads=1, out=tmp_path / "run")
    assert run.status["state"] == "finished"
