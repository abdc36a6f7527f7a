"""Folders of pictures, from listing to training."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import sartor
from sartor.data.listing import Listing
from sartor.data.pictures.prepare import prepared
from sartor.data.settings import DataSettings, PreprocessSettings
from sartor.data.sources import find_source
from sartor.errors import DataError, PictureError, SartorError


@pytest.fixture(scope="module")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures") / "digits"
    digits = load_digits()
    for index in range(200):
        folder = root / f"digit {digits.target[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[index] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def test_every_picture_becomes_an_image_with_its_label_and_file(digit_folder: Path) -> None:
    data = sartor.load(digit_folder)
    digits = load_digits()
    assert data.files is not None
    numbers = [int(Path(file).stem) for file in data.files]
    assert sorted(numbers) == list(range(200))
    assert np.array_equal(data.labels, digits.target[numbers])
    expected = (digits.images[numbers] * 255 / 16).round().astype(np.uint8)
    assert np.array_equal(data.images[:, 0], expected)


def list_folder(root: Path) -> Listing:
    """The pictures of a folder in class folders, as `sartor.load` finds them."""
    listing = find_source(DataSettings(source=str(root)))
    assert isinstance(listing, Listing)
    return listing


def test_classes_stand_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10", "b9", "a", ".hidden"):
        (tmp_path / name).mkdir()
        Image.new("L", (3, 3)).save(tmp_path / name / "x.png")
    assert list_folder(tmp_path).classes == ("a", "b9", "b10")


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture"):
        list_folder(tmp_path)


def test_what_was_seen_of_each_picture_is_kept(digit_folder: Path) -> None:
    listing = list_folder(digit_folder)
    facts = prepared(listing, PreprocessSettings()).facts
    assert set(facts.formats) == {"PNG"}
    assert set(facts.modes) == {"L"}
    assert (facts.widths == 8).all()
    assert (facts.orientations == 1).all()
    assert facts.grays.all()
    first = listing.pictures.read(0)
    assert facts.file_sha256[0].tobytes() == hashlib.sha256(first).digest()
    assert facts.file_bytes[0] == len(first)
    assert facts.readable.all()


def test_an_unreadable_picture_has_a_reason_and_keeps_its_row(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 3), 9).save(tmp_path / name)
    (tmp_path / "a/2.png").write_bytes(b"")
    found = prepared(list_folder(tmp_path), PreprocessSettings())
    assert list(found.facts.faults) == [1]
    assert "a/2.png is empty" in found.facts.faults[1]
    assert found.facts.readable.tolist() == [True, False, True]
    assert len(found.images) == 3
    with pytest.raises(DataError, match=r"a/2\.png"):
        found.dataset()


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write pictures, and with "/" at the end folders, below a folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (2, 2)).save(path, "PNG")
        return tmp_path

    return make


def read(root: Path, **settings: Any) -> Listing:
    found = find_source(DataSettings(source=str(root), **settings))
    assert isinstance(found, Listing)
    return found


def parts(listing: Listing) -> dict[str, set[str]]:
    """The files of each split."""
    given = {"val": listing.val, "test": listing.test}
    names = np.array(listing.pictures.names)
    found = {part: set(names[at].tolist()) for part, at in given.items() if at is not None}
    aside = set().union(*found.values())
    return {"train": set(names.tolist()) - aside, **found}


class TestLayout:
    """What a folder means depends on what it is called and on what lies in it."""

    def test_a_class_may_be_called_train(self, make: Make) -> None:
        listing = read(make("train/1.png", "car/1.png", "plane/1.png"))
        assert listing.classes == ("car", "plane", "train")
        assert listing.test is None

    @pytest.mark.parametrize("word", ["val", "valid", "validation", "VAL"])
    def test_what_a_split_may_be_called(self, make: Make, word: str) -> None:
        listing = read(make("train/a/1.png", "train/b/1.png", f"{word}/a/2.png"))
        assert parts(listing) == {
            "train": {"train/a/1.png", "train/b/1.png"},
            "val": {f"{word}/a/2.png"},
        }

    def test_train_alone_is_no_split(self, make: Make) -> None:
        listing = read(make("train/a/1.png", "train/b/1.png", "val/"))
        assert (listing.val, listing.test) == (None, None)
        assert "Left out val/ without class folders." in listing.remarks

    def test_folders_in_folders_are_looked_through(self, make: Make) -> None:
        listing = read(make("flowers/v2/rose/1.png", "flowers/v2/lily/sub/1.png"))
        assert listing.classes == ("lily", "rose")
        assert "flowers/v2/" in listing.shape

    def test_but_not_beside_an_empty_class(self, make: Make) -> None:
        with pytest.raises(DataError, match="only one class: rose"):
            read(make("rose/first/1.png", "rose/second/1.png", "lily/"))

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["train/a/1.png", "dev/a/1.png"], "train/ beside dev/, which is not a known name"),
            (["train/a/1.png", "car/1.png"], "train/ beside car/: splits or classes"),
            (["train/a/1.png", "test/1.png"], "class folders in train/, but none in test/"),
            (["train/1.png", "test/1.png"], "pictures in test/, train/, but no class folders"),
            (["val/a/1.png", "test/a/1.png"], "no pictures for training"),
            (["train/a/1.png", "val/a/1.png", "valid/b/1.png"], "val/, valid/, which mean the"),
            (["1.png", "2.png"], r"pictures without class folders: 1.png, 2.png"),
            (["cat/1.png"], "only one class: cat"),
        ],
    )
    def test_doubt_is_an_error_that_says_what_decides(
        self, make: Make, names: list[str], message: str
    ) -> None:
        with pytest.raises(SartorError, match=message) as caught:
            read(make(*names))
        assert caught.value.hint

    def test_a_flag_decides(self, make: Make) -> None:
        root = make("train/a/1.png", "train/b/1.png", "car/1.png")
        assert read(root, format="folder").classes == ("car", "train")
        forced = read(root, format="split-folders")
        assert forced.classes == ("a", "b")
        assert any("no class folder: car/1.png" in remark for remark in forced.remarks)

    def test_a_flag_cannot_make_splits(self, make: Make) -> None:
        with pytest.raises(DataError, match="no train/, val/ or test/"):
            read(make("a/1.png", "b/1.png"), format="split-folders")

    def test_classes_are_those_of_all_splits(self, make: Make) -> None:
        listing = read(make("train/b/1.png", "train/c/1.png", "test/a/1.png", "test/b/1.png"))
        assert listing.classes == ("a", "b", "c")
        assert "1 class has no picture in train: a." in listing.remarks
        assert "1 class has no picture in test: c." in listing.remarks


class TestLeftOut:
    """What does not become an image is named."""

    def test_empty_classes_are_named(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png", "c/", "d10/", "d9/deep/")
        listing = read(root)
        assert listing.classes == ("a", "b")
        assert "Left out 3 class folders without pictures: c, d9, d10." in listing.remarks

    def test_a_class_that_is_empty_in_one_split_is_none(self, make: Make) -> None:
        listing = read(make("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/", "val/c/"))
        assert listing.classes == ("a", "b")
        assert "Left out 1 class folder without a picture: c." in listing.remarks

    def test_what_belongs_to_the_system_is_passed_over(self, make: Make) -> None:
        root = make(
            *(
                "a/1.png",
                "b/1.png",
                ".ipynb_checkpoints/1.png",
                "__MACOSX/a/1.png",
                "a/.hidden.png",
            ),
            *("a/.hidden.png", "a/._1.png", "b/@eaDir/1.png", ".git/"),
        )
        (root / "Thumbs.db").touch()
        listing = read(root)
        assert listing.pictures.names == ("a/1.png", "b/1.png")
        assert listing.remarks == ()

    def test_other_files_are_counted(self, make: Make) -> None:
        root = make("a/1.png", "b/1.JPG")
        for name in ("README", "a/1.xyz", "a/2.xyz", "b/notes.txt"):
            (root / name).touch()
        assert read(root).remarks == (
            "Left out 4 files that are not pictures: 2 .xyz, 1 without a suffix, 1 .txt.",
        )

    def test_pictures_beside_class_folders_are_named(self, make: Make) -> None:
        listing = read(make("a/1.png", "b/1.png", "cover.png"))
        assert len(listing) == 2
        assert "Left out 1 picture that lies in no class folder: cover.png." in listing.remarks


class TestDisk:
    def test_links_are_followed_once(self, make: Make) -> None:
        root = make("far/x/1.png", "data/a/1.png", "data/b/1.png")
        (root / "data/c").symlink_to(root / "far")
        (root / "data/a/up").symlink_to(root / "data")
        (root / "data/b/self").symlink_to(root / "data/b/self")
        (root / "data/b/linked.png").symlink_to(root / "far/x/1.png")
        listing = read(root / "data")
        assert listing.pictures.names == ("a/1.png", "b/1.png", "b/linked.png", "c/x/1.png")
        assert "Left out 1 link to a folder that is read already: a/up." in listing.remarks
        assert any("such as a broken link: b/self" in remark for remark in listing.remarks)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: others refuse such names")
    def test_names_that_are_no_text_are_read_all_the_same(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png")
        content = (root / "a/1.png").read_bytes()
        for name in (b"b/caf\xe9.png", b"b/new\nline.png"):
            with open(os.fsencode(root) + b"/" + name, "wb") as stream:  # noqa: PTH123
                stream.write(content)
        listing = read(root)
        assert "b/caf\\xe9.png" in listing.pictures.names
        for index in range(len(listing)):
            assert listing.pictures.read(index) == content
            assert listing.pictures.stamp(index)
        assert sartor.load(root).files == listing.pictures.names

    def test_a_picture_that_has_gone_is_named(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png")
        listing = read(root)
        (root / "b/1.png").unlink()
        for ask in (listing.pictures.read, listing.pictures.stamp):
            with pytest.raises(PictureError, match=r"b/1\.png: no such file"):
                ask(1)

    def test_a_stamp_tells_of_a_change(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png")
        listing = read(root)
        before = [listing.pictures.stamp(index) for index in range(2)]
        (root / "b/1.png").write_bytes(b"other")
        after = [listing.pictures.stamp(index) for index in range(2)]
        assert after[0] == before[0]
        assert after[1] != before[1]

    @pytest.mark.skipif(os.geteuid() == 0, reason="needs another user: root may read every folder")
    def test_a_folder_that_may_not_be_read_is_named(self, make: Make) -> None:
        root = make("a/1.png", "b/1.png", "c/1.png")
        (root / "c").chmod(0)
        with pytest.raises(DataError, match=r"Cannot read the folder .*/c: permission denied"):
            read(root)
