"""Data as people really have it: what lies there in three lines, what must come of it in one.

Each case was met in a bug report, a competition or a download. Pictures are tiny; `here` makes
them.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sartor.data.dataset import Dataset
from sartor.data.listing import Listing
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import SartorError


class Found(NamedTuple):
    """What came of a source."""

    data: Dataset | Listing
    said: str

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @property
    def labels(self) -> list[str]:
        """The class of each picture, in order."""
        return [self.classes[number] for number in self.data.labels.tolist()]

    @property
    def by_name(self) -> dict[str, str]:
        """The class of each picture."""
        assert isinstance(self.data, Listing)
        return dict(zip(self.data.pictures.names, self.labels, strict=True))

    @property
    def parts(self) -> str:
        """Which split each picture is in: t, v, or e for testing."""
        letters = ["t"] * len(self.data.labels)
        for part, letter in ((self.data.val, "v"), (self.data.test, "e")):
            for index in [] if part is None else part.tolist():
                letters[index] = letter
        return "".join(letters)


class Here:
    """A folder to put data into, and to read it from."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pictures(self, *names: str) -> None:
        """Pictures of these names, all different; "cat/1" is cat/1.png."""
        for number, name in enumerate(names):
            path = self.root / (name if "." in name.rpartition("/")[2][1:] else f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), 10 * number).save(path, "PNG")

    def text(self, name: str, text: str) -> None:
        """A file of text; a bar begins a new line."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("|", "\n"), encoding="utf-8")

    def json(self, name: str, document: Any) -> None:
        self.text(name, json.dumps(document))

    def arrays(self, **arrays: Any) -> None:
        """A .npy file for each."""
        for name, array in arrays.items():
            np.save(self.root / f"{name}.npy", array)

    def tar(self, name: str, members: Mapping[str, bytes]) -> None:
        with tarfile.open(self.root / name, "w") as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, BytesIO(content))

    def read(self, name: str = "", **settings: Any) -> Found:
        """What is found, and what is said of it."""
        said: list[str] = []
        data = find_source(DataSettings(source=str(self.root / name), **settings), note=said.append)
        return Found(data, "\n".join(said))

    def refused(self, name: str = "", **settings: Any) -> str:
        """The sentences with which it is refused."""
        with pytest.raises(SartorError) as caught:
            self.read(name, **settings)
        assert caught.value.hint
        return str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    return Here(tmp_path / "data")


PNG = BytesIO()
Image.new("L", (4, 4), 99).save(PNG, "PNG")
A_PICTURE = PNG.getvalue()
BYTES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([0, 1, 0, 1, 0, 1])


class TestFolders:
    def test_a_class_whose_name_begins_with_a_dot(self, here: Here) -> None:
        here.pictures(".NET/1", "Java/1", "Python/1")
        assert "begins with a dot: .NET" in here.read().said

    def test_hidden_folders_without_pictures_are_not_worth_a_word(self, here: Here) -> None:
        here.pictures("cat/1", "dog/1")
        here.text(".git/config", "x")
        assert "dot" not in here.read().said

    def test_a_class_that_is_two_classes(self, here: Here) -> None:
        here.pictures("cat/1", "dog/1", "cat,dog/1")
        assert "cat,dog" in here.read().said
        assert "cat and dog" in here.read().said

    def test_a_class_that_is_a_list_of_classes(self, here: Here) -> None:
        here.pictures("cat/1", "dog/1", "['cat', 'dog']/1")
        assert "cat and dog at once" in here.read().said

    def test_val_that_shares_no_class_with_train(self, here: Here) -> None:
        here.pictures("train/cat/1", "train/dog/1", "val/Cat/2", "val/Dog/2")
        assert "validation images share no class with the training images" in here.refused()

    def test_folders_that_are_parts_beside_a_table(self, here: Here) -> None:
        here.pictures("HAM_images_part_1/ISIC_1", "HAM_images_part_1/ISIC_2")
        here.pictures("HAM_images_part_2/ISIC_3", "HAM_images_part_2/ISIC_4")
        here.text(
            "HAM_metadata.csv",
            "lesion_id,image_id,dx,age|L1,ISIC_1,nv,5|L1,ISIC_2,nv,5|L2,ISIC_3,mel,6|L2,ISIC_4,bkl,7",
        )
        found = here.read()
        assert found.labels == ["nv", "nv", "mel", "bkl"]
        assert "--group-column lesion_id" in found.said

    def test_folders_that_contradict_a_table(self, here: Here) -> None:
        here.pictures("left/1", "left/2", "right/3", "right/4")
        here.text("kinds.csv", "file,label|1.png,cat|2.png,dog|3.png,cat|4.png,dog")
        assert "--format manifest or --format folder" in here.refused()
        assert here.read(format="manifest").classes == ("cat", "dog")

    def test_folders_that_agree_with_a_table(self, here: Here) -> None:
        here.pictures("cat/1", "cat/2", "dog/3", "dog/4")
        here.text("kinds.csv", "file,label|1.png,C|2.png,C|3.png,D|4.png,D")
        assert here.read().classes == ("cat", "dog")

    def test_captions_inside_class_folders(self, here: Here) -> None:
        here.pictures("train/cat/1", "train/cat/2", "train/dog/1", "train/dog/2")
        rows = [("cat/1", "a cat sits"), ("cat/2", "a cat"), ("dog/1", "a dog"), ("dog/2", "dogs")]
        lines = (json.dumps({"file_name": f"{n}.png", "text": text}) for n, text in rows)
        here.text("train/metadata.jsonl", "|".join(lines))
        found = here.read()
        assert found.classes == ("cat", "dog")
        assert "folder is its class" in found.said

    def test_folders_that_are_splits_beside_a_list(self, here: Here) -> None:
        here.pictures("train_images/1.jpg", "train_images/2.jpg", "test_images/3.jpg")
        here.text("train.csv", "image_id,label|1.jpg,0|2.jpg,1")
        here.text("sample_submission.csv", "image_id,label|3.jpg,4")
        here.json("label_num_to_disease_map.json", {"0": "healthy", "1": "rust"})
        found = here.read()
        assert found.by_name == {"train_images/1.jpg": "healthy", "train_images/2.jpg": "rust"}

    def test_folders_that_are_splits_and_nothing_else(self, here: Here) -> None:
        here.pictures("train_images/1", "test_images/2")
        assert "but no class folders in there" in here.refused()

    def test_a_list_for_testing_without_labels(self, here: Here) -> None:
        here.pictures("1.jpg", "2.jpg", "3.jpg")
        here.text("train.csv", "file,label|1.jpg,a|2.jpg,b")
        here.text("test.csv", "file|3.jpg")
        found = here.read()
        assert found.labels == ["a", "b"]
        assert "Left out test.csv: no column for the label" in found.said

    def test_lists_of_splits_without_labels_as_food_101_has_them(self, here: Here) -> None:
        here.pictures(
            "images/pie/1.jpg", "images/pie/2.jpg", "images/cake/3.jpg", "images/cake/4.jpg"
        )
        here.text("train.txt", "pie/1|cake/3")
        here.text("test.txt", "pie/2|cake/4")
        found = here.read(format="manifest")
        assert sorted(zip(found.labels, found.parts, strict=True)) == [
            *(("cake", "e"), ("cake", "t"), ("pie", "e"), ("pie", "t")),
        ]

    def test_numbered_folders_with_names_beside(self, here: Here) -> None:
        here.pictures("1/a", "2/a", "10/a")
        here.json("cat_to_name.json", {"1": "rose", "2": "tulip", "10": "aster", "11": "iris"})
        assert here.read().classes == ("rose", "tulip", "aster")

    def test_a_folder_called_as_a_named_set(
        self, here: Here, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.pictures("digits/cat/1", "digits/dog/1")
        monkeypatch.chdir(here.root)
        said: list[str] = []
        assert len(find_source(DataSettings(source="digits"), note=said.append).classes) == 10
        assert "digits is the named set; what lies here is ./digits" in said
        assert find_source(DataSettings(source="./digits")).classes == ("cat", "dog")


class TestSplitColumns:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("Usage", ("Training", "Training", "PublicTest", "PrivateTest")),
            ("Train_Val_Test", ("Train", "Train", "Val", "Test")),
            ("data set", ("train", "train", "val", "test")),
            ("group", ("train", "train", "val", "test")),
            ("my own word for it", ("train", "train", "valid", "test")),
        ],
    )
    def test_by_other_names(self, here: Here, name: str, words: tuple[str, ...]) -> None:
        here.pictures("1", "2", "3", "4")
        here.text(
            "list.csv",
            f"path,label,{name}|"
            + "|".join(f"{k}.png,{'ab'[k % 2]},{word}" for k, word in enumerate(words, 1)),
        )
        found = here.read("list.csv")
        assert found.parts == "ttve"
        assert name in found.said

    def test_first_column_without_a_header(self, here: Here) -> None:
        here.pictures("1", "2", "3", "4", "5")
        here.text(
            "list.csv",
            "TRAIN,1.png,a|TRAIN,2.png,b|VALIDATION,3.png,a|TEST,4.png,b|UNASSIGNED,5.png,b",
        )
        found = here.read("list.csv")
        assert found.parts == "ttvet"
        assert "1 row of column 1 says UNASSIGNED: for training" in found.said

    def test_words_of_ones_own(self, here: Here) -> None:
        here.pictures("1", "2", "3", "4")
        here.text("list.csv", "path,label,is_train|1.png,a,1|2.png,b,1|3.png,a,0|4.png,b,0")
        found = here.read("list.csv", label_column="label")
        assert found.parts == "tttt"
        assert "--split-column is_train --split-words" in found.said
        mapped = {"split_column": "is_train", "split_words": ("1=train", "0=test")}
        assert here.read("list.csv", **mapped).parts == "ttee"
        assert "WORD=PART" in here.refused("list.csv", split_words=("0:test",))

    def test_trains_and_buses_are_no_splits(self, here: Here) -> None:
        here.pictures("1", "2", "3", "4")
        here.text("list.csv", "path,vehicle|1.png,train|2.png,test|3.png,train|4.png,test")
        assert here.read("list.csv").classes == ("test", "train")


class TestGroups:
    def test_a_column_with_repeats_is_advised(self, here: Here) -> None:
        here.pictures("1", "2", "3", "4")
        here.text("list.csv", "path,label,lesion_id|1.png,a,L1|2.png,a,L1|3.png,b,L2|4.png,b,L3")
        assert "--group-column lesion_id" in here.read("list.csv").said

    @pytest.mark.parametrize("cells", ["1234", "1122"])
    def test_not_one_without_nor_another_name_of_the_class(self, here: Here, cells: str) -> None:
        here.pictures("1", "2", "3", "4")
        rows = "|".join(f"{k}.png,{'aabb'[k - 1]},{cell}" for k, cell in enumerate(cells, 1))
        here.text("list.csv", f"path,label,some_id|{rows}")
        assert "--group-column" not in here.read("list.csv").said


class TestPathsInLists:
    def test_without_suffix(self, here: Here) -> None:
        here.pictures("train/0000.jpg", "train/0001.jpg", "test/0002.jpg")
        here.text("labels.csv", "id,breed|0000,pug|0001,boxer")
        found = here.read()
        assert found.by_name == {"train/0000.jpg": "pug", "train/0001.jpg": "boxer"}
        assert "2 paths are spelled otherwise on the disk" in found.said

    def test_without_suffix_and_without_header(self, here: Here) -> None:
        here.pictures("0000.jpg", "0001.jpg")
        here.text("list.csv", "0000,pug|0001,boxer")
        assert here.read("list.csv").labels == ["pug", "boxer"]

    def test_a_first_picture_that_is_missing_is_no_header(self, here: Here) -> None:
        here.pictures("0000.jpg", "0001.jpg")
        here.text("list.csv", "9999,pug|0000,pug|0001,boxer")
        assert "Missing are 1 of the 3 files" in here.refused("list.csv")

    def test_a_header_that_looks_like_the_rows(self, here: Here) -> None:
        here.pictures("0000.jpg", "0001.jpg")
        here.text("list.csv", "name,kind|0000,pug|0001,boxer")
        assert here.read("list.csv").classes == ("boxer", "pug")

    @pytest.mark.parametrize(
        "prefix",
        [
            r"C:\Users\me\data\cats\\"[:-1],
            "/home/me/data/cats/",
            r"..\cats\\"[:-1],
            "https://example.org/cats/",
        ],
    )
    def test_of_another_machine(self, here: Here, prefix: str) -> None:
        here.pictures("cats/1.jpg", "cats/2.jpg")
        here.text("list.csv", f"path,label|{prefix}1.jpg,a|{prefix}2.jpg,b")
        assert here.read("list.csv").by_name == {"cats/1.jpg": "a", "cats/2.jpg": "b"}

    def test_in_another_case(self, here: Here) -> None:
        here.pictures("Cats/IMG_1.JPG", "Cats/IMG_2.JPG")
        here.text("list.csv", "path,label|cats/img_1.jpg,a|cats/img_2.jpg,b")
        assert here.read("list.csv").by_name == {"Cats/IMG_1.JPG": "a", "Cats/IMG_2.JPG": "b"}

    def test_which_may_be_two_pictures(self, here: Here) -> None:
        here.pictures("a/1.jpg", "b/1.jpg", "a/2.jpg")
        here.text("list.csv", "path,label|1.jpg,x|2.jpg,y")
        assert "1.jpg, which may be a/1.jpg, b/1.jpg" in here.refused("list.csv")

    def test_of_which_one_has_vanished(self, here: Here) -> None:
        """The picture of that name in another folder is not it."""
        here.pictures("a/1.jpg", "b/2.jpg")
        here.text("list.csv", "path,label|a/1.jpg,x|a/2.jpg,y")
        assert "Missing are 1 of the 2 files" in here.refused("list.csv")

    def test_addresses_of_what_is_not_here(self, here: Here) -> None:
        here.pictures("a/1.jpg")
        here.text("list.csv", "url,label|https://x.org/7.jpg,x|https://x.org/8.jpg,y")
        assert "download the pictures into a folder" in here.refused("list.csv")


class TestLabelsInLists:
    @pytest.mark.parametrize("name", ["classes.txt", "labels.txt", "class_names.txt"])
    def test_numbers_with_names_beside(self, here: Here, name: str) -> None:
        here.pictures("1", "2", "3")
        here.text("list.csv", "path,label|1.png,0|2.png,2|3.png,1")
        here.text(name, "cat|dog|cow|")
        for source in ("", "list.csv"):
            found = here.read(source)
            assert found.labels == ["cat", "cow", "dog"]
            assert f"{name} says, counted from 0: 0 is cat" in found.said

    @pytest.mark.parametrize(
        "names", ["1 cat|2 dog", "cat 1|dog 2", "id,name|1,cat|2,dog", "cat|dog"]
    )
    def test_numbers_that_count_from_1(self, here: Here, names: str) -> None:
        here.pictures("1", "2")
        here.text("list.csv", "path,label|1.png,1|2.png,2")
        here.text("classes.txt", names)
        assert here.read("list.csv").labels == ["cat", "dog"]

    def test_numbers_without_a_name(self, here: Here) -> None:
        here.pictures("1", "2")
        here.text("list.csv", "path,label|1.png,0|2.png,7")
        here.text("classes.txt", "cat|dog")
        found = here.read("list.csv")
        assert found.classes == ("0", "7")
        assert "but not 7: not used" in found.said

    def test_one_hot_as_isic_has_it(self, here: Here) -> None:
        here.pictures("ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg")
        here.text(
            "truth.csv", "image,MEL,NV,UNK|ISIC_1,1.0,0.0,0.0|ISIC_2,0.0,1.0,0.0|ISIC_3,1.0,0.0,0.0"
        )
        assert here.read().labels == ["MEL", "NV", "MEL"]

    @pytest.mark.parametrize(
        ("more", "left_out"),
        [(("male,0",), "male"), (("male,0", "biopsy,1"), "male, biopsy"), ((), "")],
    )
    def test_one_hot_beside_other_zeros_and_ones(
        self, here: Here, more: tuple[str, ...], left_out: str
    ) -> None:
        """Without the further columns, and only so, each row has one class."""
        here.pictures(*"123456")
        names = [word.split(",")[0] for word in more]
        marked = {"male": "234", "biopsy": "134"}
        rows = [
            ",".join(
                [
                    f"{n}.png",
                    *("01"[c == k] for c in range(3)),
                    *("01"[n in marked[x]] for x in names),
                ]
            )
            for n, k in zip("123456", (0, 1, 2, 0, 1, 2), strict=True)
        ]
        here.text("list.csv", "|".join([",".join(["image", "MEL", "NV", "BCC", *names]), *rows]))
        found = here.read("list.csv")
        assert found.labels == ["MEL", "NV", "BCC"] * 2
        assert (f"but not {left_out}: a row may have both" in found.said) == bool(left_out)

    def test_one_hot_where_two_columns_could_be_left_out(self, here: Here) -> None:
        here.pictures(*"1234")
        here.text(
            "list.csv", "image,a,b,c,d|1.png,1,0,0,1|2.png,0,1,0,0|3.png,1,0,0,1|4.png,0,0,1,0"
        )
        assert "several classes: a, d" in here.refused("list.csv")

    def test_several_classes_in_a_row(self, here: Here) -> None:
        here.pictures("1", "2")
        here.text("list.csv", "image,cat,dog|1.png,1,1|2.png,0,1")
        assert "Line 2 of" in here.refused("list.csv")
        assert "several classes: cat, dog" in here.refused("list.csv")

    def test_a_label_that_is_two_labels(self, here: Here) -> None:
        here.pictures("1", "2", "3")
        here.text("list.csv", 'path,label|1.png,cat|2.png,dog|3.png,"cat,dog"')
        assert "cat,dog" in here.read("list.csv").said.replace("list.csv", "")


class TestTablesOfPixels:
    PACKED = " ".join(map(str, range(16)))

    def test_fer_2013(self, here: Here) -> None:
        rows = zip((0, 1, 0, 1), ("Training", "Training", "PublicTest", "PrivateTest"), strict=True)
        lines = "|".join(f"{label},{self.PACKED},{usage}" for label, usage in rows)
        here.text("fer2013.csv", f"emotion,pixels,Usage|{lines}")
        for source in ("", "fer2013.csv"):
            found = here.read(source)
            assert isinstance(found.data, Dataset)
            assert found.data.images[1].ravel().tolist() == list(range(16))
            assert (found.parts, found.classes) == ("ttve", ("0", "1"))

    @pytest.mark.parametrize("pixel", ["pixel{}", "1x{}", ""])
    def test_mnist_in_a_table(self, here: Here, pixel: str) -> None:
        header = [",".join(["label", *(pixel.format(number) for number in range(16))])]
        rows = [",".join(map(str, [7 + k % 2, *BYTES[k].ravel()])) for k in range(4)]
        here.text("mnist_train.csv", "|".join(header + rows if pixel else rows))
        found = here.read("mnist_train.csv")
        assert isinstance(found.data, Dataset)
        assert found.labels == ["7", "8", "7", "8"]
        assert (found.data.images[:, 0] == BYTES[:4]).all()

    def test_words_as_labels_without_a_header(self, here: Here) -> None:
        """The first row is a picture too."""
        rows = [",".join(map(str, [["cat", "dog"][k % 2], *BYTES[k].ravel()])) for k in range(1, 5)]
        here.text("t.csv", "|".join(rows))
        assert here.read("t.csv").labels == ["dog", "cat", "dog", "cat"]
        for start in (0, 1):
            numbers = ",".join(str(start + number) for number in range(16))
            here.text("t.csv", "|".join([f"animal,{numbers}", *rows]))
            assert here.read("t.csv").labels == ["dog", "cat", "dog", "cat"]

    def test_a_cell_that_is_empty(self, here: Here) -> None:
        pixels = ",".join(f"pixel{number}" for number in range(16))
        row = ",".join(["7"] * 15)
        here.text("t.csv", f"label,{pixels}|0,7,{row}|1,,{row}|1,7,{row}")
        assert "'' in line 3, column 2, is not a number" in here.refused("t.csv")

    def test_columns_that_make_no_square(self, here: Here) -> None:
        pixels = ",".join(f"pixel{number}" for number in range(20))
        row = ",".join(["7"] * 20)
        here.text("t.csv", f"label,{pixels}|0,{row}|1,{row}")
        assert "20 pixels, which make no square" in here.refused("t.csv")

    def test_the_label_in_the_last_column(self, here: Here) -> None:
        border = ",".join(["0", *["9"] * 15])
        here.text("t.csv", f"{border},1|{border},2|{border},1")
        assert here.read("t.csv").labels == ["1", "2", "1"]

    def test_a_table_for_testing_without_labels(self, here: Here) -> None:
        pixels = ",".join(f"pixel{number}" for number in range(16))
        row = ",".join(["7"] * 16)
        here.text("train.csv", f"label,{pixels}|0,{row}|1,{row}")
        here.text("test.csv", f"{pixels}|{row}")
        found = here.read()
        assert len(found.labels) == 2
        assert "Left out test.csv" in found.said

    def test_colour_in_either_order(self, here: Here) -> None:
        ramp = np.linspace(0, 200, 64).astype(np.uint8).reshape(8, 8)
        colour = np.stack([ramp, ramp // 2, 255 - ramp], axis=2)
        for order in (colour, colour.transpose(2, 0, 1)):
            cells = ",".join(map(str, order.ravel()))
            names = ",".join(f"pixel{number:04}" for number in range(192))
            here.text("rgb.csv", f"{names},label|{cells},0|{cells},1")
            found = here.read("rgb.csv")
            assert isinstance(found.data, Dataset)
            assert (found.data.images[0] == colour.transpose(2, 0, 1)).all()

    def test_a_pixel_too_bright(self, here: Here) -> None:
        here.text("t.csv", f"label,pixels|0,{self.PACKED}|1,{self.PACKED[:-2]}900")
        assert "hold values from 0 to 900" in here.refused("t.csv")

    def test_what_makes_no_square(self, here: Here) -> None:
        here.text("t.csv", f"label,pixels|0,{self.PACKED} 1|1,{self.PACKED} 1")
        assert "17 pixels, which make no square" in here.refused("t.csv")


FLAT = BYTES.reshape(6, 16)


class TestParquet:
    @pytest.mark.parametrize(
        "columns",
        [
            {"image": FLAT.tolist()},
            {"image": BYTES.tolist()},
            {"image": pa.FixedSizeListArray.from_arrays(pa.array(FLAT.ravel()), 16)},
            {"image": pa.array(FLAT.tolist(), pa.large_list(pa.float32()))},
            {"image": (FLAT / 255).tolist()},
            {"pixels": [" ".join(map(str, row)) for row in FLAT]},
            {f"pixel{k}": FLAT[:, k] for k in range(16)},
        ],
        ids=["flat", "nested", "fixed", "large", "0..1", "text", "spread"],
    )
    def test_pixels_as_numbers(self, here: Here, columns: dict[str, Any]) -> None:
        table = pa.table(columns | {"label": LABELS})
        pq.write_table(table, here.root / "a.parquet", row_group_size=4)
        found = here.read("a.parquet")
        assert isinstance(found.data, Dataset)
        assert (found.data.images[:, 0] == BYTES).all()
        assert found.data.labels.tolist() == LABELS.tolist()
        assert "6 images of 2 classes (pixels in parquet)" in found.data.__repr__() + found.said

    def test_pixels_with_groups_parts_and_named_columns(self, here: Here) -> None:
        columns = {
            "x": FLAT.tolist(),
            "z": FLAT.tolist(),
            "kind": ["cat", "dog"] * 3,
            "patient_id": ["p", "p", "q", "q", "r", "r"],
            "split": ["train"] * 4 + ["test"] * 2,
        }
        pq.write_table(pa.table(columns), here.root / "a.parquet")
        assert "unclear which column of" in here.refused("a.parquet")
        names = {"label_column": "kind", "group_column": "patient_id"}
        found = here.read("a.parquet", image_column="z", **names)
        assert isinstance(found.data, Dataset)
        assert (found.parts, found.classes) == ("ttttee", ("cat", "dog"))
        assert found.data.groups == ("p", "p", "q", "q", "r", "r")
        assert "wrong" in here.refused("a.parquet", image_column="x", label_column="wrong")

    def test_pixels_in_shards_with_the_hubs_names_of_classes(self, here: Here) -> None:
        features = {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}
        hub = {"huggingface": json.dumps({"info": {"features": features}})}
        for stem, rows in (
            ("train-00000-of-00002", slice(0, 2)),
            ("train-00001-of-00002", slice(2, 4)),
            ("test-00000-of-00001", slice(4, 6)),
        ):
            table = pa.table({"image": BYTES[rows].tolist(), "label": LABELS[rows]})
            path = here.root / f"{stem}.parquet"
            pq.write_table(table.replace_schema_metadata(hub), path)
        found = here.read()
        assert isinstance(found.data, Dataset)
        assert sorted(found.parts) == list("eetttt")
        assert found.classes == ("no", "yes")

    @pytest.mark.parametrize(
        ("images", "said"),
        [
            ([[1] * 16] * 5 + [[1] * 9], "several shapes: a list of 9 numbers, one of 16"),
            ([[1] * 16] * 5 + [None], "1 of the cells with pixels in"),
            ([[1] * 15 + [None]] * 6, "6 of the cells with pixels in"),
            ([[]] * 6, "have no pixels"),
            ([[1] * 15] * 6, "15 pixels, which make no square"),
            ([[300] * 16] * 6, "values from 300 to 300"),
        ],
    )
    def test_pixels_that_are_none(self, here: Here, images: list[Any], said: str) -> None:
        images = pa.array(images, pa.list_(pa.int32()))
        pq.write_table(pa.table({"image": images, "label": LABELS}), here.root / "a.parquet")
        assert said in here.refused("a.parquet")

    def test_pixels_without_labels(self, here: Here) -> None:
        pq.write_table(pa.table({"image": FLAT.tolist()}), here.root / "a.parquet")
        assert "label" in here.refused("a.parquet")


class TestArrays:
    @pytest.mark.parametrize(
        "names",
        [
            ("X_train", "y_train", "X_test", "y_test"),
            ("xtrain", "ytrain", "xtest", "ytest"),
            ("train_images", "train_labels", "test_images", "test_labels"),
        ],
    )
    def test_pairs_of_npy(self, here: Here, names: tuple[str, str, str, str]) -> None:
        parts = (BYTES[:4], LABELS[:4], BYTES[4:], LABELS[4:])
        here.arrays(**dict(zip(names, parts, strict=True)))
        for source in ("", f"{names[0]}.npy"):
            assert here.read(source).parts == "ttttee"

    def test_one_npy_by_itself(self, here: Here) -> None:
        here.arrays(X=BYTES)
        assert "no other beside it is called as its labels are" in here.refused("X.npy")

    def test_npy_with_objects(self, here: Here) -> None:
        here.arrays(X=BYTES)
        np.save(here.root / "y.npy", np.array(["a", "b"] * 3, dtype=object), allow_pickle=True)
        assert "could run programs" in here.refused()

    def test_four_channels_that_are_opaque(self, here: Here) -> None:
        rgba = np.concatenate([np.stack([BYTES] * 3, 3), np.full((6, 4, 4, 1), 255, np.uint8)], 3)
        np.savez(here.root / "a.npz", x=rgba, y=LABELS)
        found = here.read("a.npz")
        assert isinstance(found.data, Dataset)
        assert found.data.shape == (3, 4, 4)
        assert "fourth channel is 255 everywhere" in found.said

    def test_four_channels_that_are_not(self, here: Here) -> None:
        np.savez(here.root / "a.npz", x=np.stack([BYTES] * 4, 3), y=LABELS)
        assert "transparency" in here.refused("a.npz")

    def test_labels_with_nan(self, here: Here) -> None:
        np.savez(here.root / "a.npz", x=BYTES, y=np.where(LABELS == 1, np.nan, 0.0))
        assert "says nothing (nan) for 3 of 6 images" in here.refused("a.npz")

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_floats_that_were_bytes(self, here: Here, kind: Any) -> None:
        images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
        np.savez(here.root / "a.npz", x=(images / 255).astype(kind), y=LABELS[:4])
        found = here.read("a.npz")
        assert isinstance(found.data, Dataset)
        assert (found.data.images[:, 0] == images).all()

    def test_labels_with_gaps(self) -> None:
        data = Dataset(BYTES, [10, 20, 30, 10, 20, 30])  # type: ignore[arg-type]
        assert data.classes == ("10", "20", "30")
        assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]


class TestWebDataset:
    def test_one_tar(self, here: Here) -> None:
        here.tar("a.tar", {"0.jpg": A_PICTURE, "0.cls": b"3", "1.jpg": A_PICTURE, "1.cls": b"7\n"})
        assert here.read("a.tar").by_name == {"0.jpg": "3", "1.jpg": "7"}

    def test_shards_with_names_of_classes(self, here: Here) -> None:
        for shard, part in enumerate(("train", "train", "val")):
            members = {f"{k}.jpg": A_PICTURE for k in range(2)} | {"0.cls": b"0", "1.cls": b"1"}
            here.tar(f"{part}-{shard:06}.tar", members)
        here.text("classes.txt", "cat|dog")
        found = here.read()
        assert (found.parts, found.classes) == ("ttttvv", ("cat", "dog"))
        assert isinstance(found.data, Listing)
        assert found.data.pictures.read(5) == A_PICTURE

    def test_the_split_within_the_name_of_a_shard(self, here: Here) -> None:
        for part in ("train", "val"):
            members = {f"{k}.jpg": A_PICTURE for k in range(2)} | {"0.cls": b"0", "1.cls": b"1"}
            here.tar(f"birds-{part}-000000.tar", members)
        assert here.read().parts == "ttvv"

    def test_a_picture_without_a_class(self, here: Here) -> None:
        here.tar(
            "a.tar",
            {
                "0.jpg": A_PICTURE,
                "0.cls": b"a",
                "1.jpg": A_PICTURE,
                "1.cls": b"b",
                "2.jpg": A_PICTURE,
                "0.mask.png": A_PICTURE,
            },
        )
        assert "Left out 1 picture without a .cls file: 2.jpg" in here.read("a.tar").said

    @pytest.mark.parametrize("key", ["label", "class_name", "target"])
    def test_classes_in_json(self, here: Here, key: str) -> None:
        classes = ("cat", "dog", "cat")
        members = {f"{k}.jpg": A_PICTURE for k in range(4)}
        members |= {
            f"{k}.json": json.dumps({"width": 9, key: one}).encode()
            for k, one in enumerate(classes)
        }
        here.tar("a.tar", members)
        found = here.read("a.tar")
        assert found.by_name == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat"}
        assert "Left out 1 picture without a .json file: 3.jpg" in found.said

    def test_shards_with_classes_in_json(self, here: Here) -> None:
        for part in ("train", "val"):
            members = {f"{k}.jpg": A_PICTURE for k in range(2)}
            members |= {f"{k}.json": json.dumps({"label": k}).encode() for k in range(2)}
            here.tar(f"birds-{part}-000000.tar", members)
        found = here.read()
        assert (found.parts, found.classes) == ("ttvv", ("0", "1"))

    def test_a_json_without_a_class(self, here: Here) -> None:
        members = {f"{k:02}.jpg": A_PICTURE for k in range(12)}
        members |= {f"{k:02}.json": b'{"label": "cat"}' for k in range(11)}
        here.tar("a.tar", {**members, "11.json": b'{"caption": "a cat"}'})
        with pytest.raises(SartorError, match=r"11\.json of .*a\.tar gives no class"):
            here.read("a.tar")


class TestJson:
    @pytest.mark.parametrize("classes", [None, ["cat", "dog"]])
    def test_fiftyone(self, here: Here, classes: list[str] | None) -> None:
        here.pictures("data/a1.jpg", "data/a2.jpg", "data/a3.jpg")
        targets = {"a1": 0, "a2": 1, "a3": None} if classes else {"a1": "cat", "a2": "dog"}
        here.json("labels.json", {"classes": classes, "labels": targets})
        for source in ("", "labels.json"):
            found = here.read(source)
            assert found.by_name == {"data/a1.jpg": "cat", "data/a2.jpg": "dog"}

    def test_a_list_of_records(self, here: Here) -> None:
        here.pictures("1.jpg", "2.jpg")
        records = [{"image": f"{k}.jpg", "label": name} for k, name in ((1, "cat"), (2, "dog"))]
        here.json("annotations.json", records)
        for source in ("", "annotations.json"):
            assert here.read(source).by_name == {"1.jpg": "cat", "2.jpg": "dog"}
        here.json("annotations.json", [*records, {"image": "1.jpg", "label": "dog"}])
        assert "1.jpg twice, with different labels" in here.refused()

    @staticmethod
    def coco(*pairs: tuple[str, str]) -> dict[str, Any]:
        """Pictures with the category of each of their objects."""
        files = list(dict.fromkeys(file for file, _ in pairs))
        names = sorted({name for _, name in pairs})
        return {
            "images": [{"id": 5 + k, "file_name": file} for k, file in enumerate(files)],
            "categories": [{"id": 1 + k, "name": name} for k, name in enumerate(names)],
            "annotations": [
                {"image_id": 5 + files.index(file), "category_id": 1 + names.index(name)}
                for file, name in pairs
            ],
        }

    def test_coco_with_one_class_per_picture(self, here: Here) -> None:
        here.pictures("data/1.jpg", "data/2.jpg")
        here.json("labels.json", self.coco(("1.jpg", "cat"), ("1.jpg", "cat"), ("2.jpg", "dog")))
        assert here.read().by_name == {"data/1.jpg": "cat", "data/2.jpg": "dog"}

    def test_coco_with_several(self, here: Here) -> None:
        here.pictures("data/1.jpg", "data/2.jpg", "data/3.jpg")
        objects = (("1.jpg", "cat"), ("1.jpg", "dog"), ("2.jpg", "dog"), ("3.jpg", "cat"))
        here.json("labels.json", self.coco(*objects))
        refused = here.refused()
        assert "1 of 3 pictures" in refused
        assert "such as 1.jpg" in refused
        assert "detecting objects" in refused
        assert "without these pictures: --max-unreadable 0.334" in refused
        found = here.read("", max_unreadable=0.334)
        assert found.by_name == {"data/2.jpg": "dog", "data/3.jpg": "cat"}
        assert "Left out 1 of 3 pictures with objects of several classes: 1.jpg" in found.said

    def test_roboflow(self, here: Here) -> None:
        for part in ("train", "valid", "test"):
            here.pictures(f"{part}/{part}1.jpg", f"{part}/{part}2.jpg")
            listed = self.coco((f"{part}1.jpg", "cat"), (f"{part}2.jpg", "dog"))
            here.json(f"{part}/_annotations.coco.json", listed)
        found = here.read()
        assert sorted(found.parts) == list("eettvv")
        assert found.by_name["valid/valid2.jpg"] == "dog"

    def test_path_and_label(self, here: Here) -> None:
        here.pictures("1.jpg", "2.jpg")
        here.json("labels.json", {"1.jpg": "cat", "2.jpg": "dog"})
        assert here.read().labels == ["cat", "dog"]

    def test_something_else(self, here: Here) -> None:
        here.pictures("1.jpg")
        here.json("a.json", {"version": 3})
        assert "not a list of pictures that is known here" in here.refused("a.json")
