"""Data of other libraries become the dataset that they hold, or are refused with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

import sartor
from sartor.data.objects import dataset_of
from sartor.errors import DataError, UsageError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 6, 6), dtype=np.uint8)
NAMES = ["cat", "dog"] * 6
NUMBERS = [0, 1] * 6
PICTURES = [
    Image.fromarray(RNG.integers(0, 256, (8 + n % 3, 9, 3), dtype=np.uint8)) for n in range(12)
]


class Pairs(TorchDataset[Any]):
    """A torch dataset of pairs."""

    def __init__(self, pictures: Any, labels: Any, classes: Any = None) -> None:
        self.pictures, self.labels = pictures, labels
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.pictures[index], self.labels[index]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Pictures of several sizes on the disk."""
    paths = []
    for number, picture in enumerate(PICTURES):
        paths.append(str(tmp_path / f"{number}.png"))
        picture.save(paths[-1])
    return paths


class TestArrays:
    @pytest.mark.parametrize(
        "images",
        [
            BYTES,
            BYTES / 255,
            (BYTES / 255).astype(np.float16),
            BYTES.astype(np.int64),
            BYTES.astype(np.float32),
            torch.from_numpy(BYTES).float() / 255,
            list(BYTES),
        ],
        ids=["uint8", "float64", "float16", "int64", "0..255", "tensor", "list"],
    )
    @pytest.mark.parametrize("labels", [NAMES, np.array(NAMES), pd.Series(NAMES)], ids=type)
    def test_of_any_type_and_labels_by_name(self, images: Any, labels: Any) -> None:
        dataset = dataset_of((images, labels))
        np.testing.assert_array_equal(dataset.images[:, 0], BYTES)
        assert dataset.classes == ("cat", "dog")
        assert dataset.labels.tolist() == NUMBERS

    @pytest.mark.parametrize(
        "labels",
        [
            NUMBERS,
            np.array(NUMBERS, np.float32),
            torch.tensor(NUMBERS),
            np.eye(2)[NUMBERS],
            np.array(NUMBERS)[:, None],
            pd.Series(NUMBERS),
        ],
        ids=["list", "floats", "tensor", "one-hot", "column", "series"],
    )
    def test_labels_by_number(self, labels: Any) -> None:
        assert dataset_of((BYTES, labels)).labels.tolist() == NUMBERS

    def test_channels_anywhere(self) -> None:
        for shape in ((4, 3, 6, 7), (4, 6, 7, 3)):
            images = RNG.random(shape)
            assert dataset_of((images, [0, 1, 0, 1])).shape == (3, 6, 7)

    @pytest.mark.parametrize(
        ("images", "sentence"),
        [
            ((BYTES - 128.0) / 64, "from -2 to 1.98"),
            (BYTES / 16.0, "neither bytes nor floats"),
            (BYTES * 257.0, "from 0 to 65535"),
            (np.where(BYTES.max() == BYTES, np.nan, BYTES / 255), "Not finite"),
            (np.full((12, 6, 6), "a"), "no pixels"),
            (BYTES.reshape(12, 36), r"rows of 36 numbers"),
        ],
        ids=["normalized", "0..16", "16-bit", "NaN", "text", "flat"],
    )
    def test_other_numbers_are_refused(self, images: Any, sentence: str) -> None:
        with pytest.raises(DataError, match=sentence) as caught:
            dataset_of((images, NUMBERS))
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("labels", "sentence"),
        [
            ([0.5] * 12, "no whole number"),
            (np.ones((12, 2)), "not one per image"),
            ([0, 1, None] * 4, "no whole number"),
        ],
    )
    def test_other_labels_are_refused(self, labels: Any, sentence: str) -> None:
        with pytest.raises(DataError, match=sentence):
            dataset_of((BYTES, labels))


class TestTorch:
    @pytest.mark.parametrize("scale", [1.0, 255.0])
    def test_tensors(self, scale: float) -> None:
        tensors = torch.from_numpy(BYTES[:, None]).float() / (255 if scale == 1 else 1)
        dataset = dataset_of(TensorDataset(tensors, torch.tensor(NUMBERS)))
        np.testing.assert_array_equal(dataset.images[:, 0], BYTES)

    def test_pictures_of_several_sizes_are_prepared_as_those_of_a_folder(self) -> None:
        dataset = dataset_of(
            Pairs(PICTURES, NUMBERS, ["cat", "dog"]),
            preprocess=sartor.Recipe().with_settings({"image_size": 8}).preprocess,
        )
        assert dataset.shape == (3, 8, 8)
        assert dataset.classes == ("cat", "dog")
        assert dataset.labels.tolist() == NUMBERS

    def test_a_mapping_of_parts_keeps_them_apart(self) -> None:
        parts = {
            "train": Pairs(PICTURES[:8], NUMBERS[:8]),
            "test": Pairs(PICTURES[8:], NUMBERS[8:]),
        }
        dataset = dataset_of(parts)
        assert dataset.test is not None
        assert dataset.test.tolist() == [8, 9, 10, 11]

    def test_what_cannot_be_divided_is_refused(self) -> None:
        class Stream(IterableDataset[Any]):
            def __iter__(self) -> Any:
                return iter(())

        with pytest.raises((UsageError, DataError)):
            dataset_of(Stream())

    def test_items_that_are_no_pairs(self) -> None:
        with pytest.raises(DataError, match="Item 0 of TensorDataset is no pair"):
            dataset_of(TensorDataset(torch.zeros(3, 1, 4, 4)))

    def test_an_item_that_is_no_picture_is_named(self) -> None:
        with pytest.raises(DataError, match="picture 1"):
            dataset_of(Pairs([PICTURES[0], object(), *PICTURES[2:]], NUMBERS))


class TestDataFrame:
    def test_of_paths(self, files: list[str]) -> None:
        table = pd.DataFrame({"path": files, "label": NAMES, "taken": range(12)})
        dataset = dataset_of(table)
        assert dataset.classes == ("cat", "dog")
        assert dataset.labels.tolist() == NUMBERS
        assert dataset.files is not None

    def test_of_pictures_with_groups_and_parts(self) -> None:
        table = pd.DataFrame(
            {
                "image": PICTURES,
                "kind": NAMES,
                "split": ["train"] * 8 + ["test"] * 4,
                "group": [f"g{n // 2}" for n in range(12)],
            }
        )
        settings = sartor.Recipe().with_settings({"label_column": "kind"}).data
        dataset = dataset_of(table, settings)
        assert dataset.test is not None
        assert dataset.test.tolist() == [8, 9, 10, 11]
        assert dataset.groups == tuple(f"g{n // 2}" for n in range(12))

    def test_of_arrays(self) -> None:
        table = pd.DataFrame({"pixels": list(BYTES), "label": NUMBERS})
        dataset = dataset_of(table)
        np.testing.assert_array_equal(dataset.images[:, 0], BYTES)

    def test_a_missing_file_is_named(self, files: list[str]) -> None:
        table = pd.DataFrame({"path": [*files[:-1], "gone.png"], "label": NAMES})
        with pytest.raises(DataError, match=r"gone\.png"):
            dataset_of(table)

    def test_a_missing_label_is_named(self, files: list[str]) -> None:
        table = pd.DataFrame({"path": files, "label": [*NAMES[:-1], None]})
        with pytest.raises(DataError, match="without a label"):
            dataset_of(table)

    def test_an_empty_table(self) -> None:
        with pytest.raises(DataError, match="no image"):
            dataset_of(pd.DataFrame({"image": [], "label": []}))


@pytest.mark.parametrize("data", [3, 2.5, object(), b"bytes", {"a": 1}])
def test_anything_else_is_refused_with_what_is_taken(data: Any) -> None:
    with pytest.raises(UsageError, match="No dataset can be made of") as caught:
        sartor.load(data)
    assert "DataFrame" in str(caught.value.hint)


@pytest.mark.filterwarnings("ignore:The loss before training")
def test_training_on_them_and_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": "linear", "check": False, "report": False}
    data = (BYTES / 255, NAMES)
    run = sartor.fit(data, epochs=1, out=tmp_path / "run", **settings)
    assert sartor.resume(run.path, epochs=2, data=data).history[-1]["epoch"] == 2
    with pytest.raises(DataError, match=r"in Python data=\.\.\."):
        sartor.resume(run.path, epochs=3)


class TestOfOtherShapes:
    def test_training_and_testing_as_keras_gives_them(self) -> None:
        dark = BYTES.copy()
        dark[0] = 1
        for images in (dark, dark.astype(np.float32)):
            dataset = dataset_of(((images, np.array(NUMBERS)), (images[::-1], NUMBERS[::-1])))
            assert dataset.test is not None
            assert dataset.test.tolist() == list(range(12, 24))
            assert dataset.images[0].max() == 1

    @pytest.mark.parametrize("shape", [(12, 6, 6, 4), (12, 4, 6, 6)])
    def test_the_number_of_channels_is_theirs(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(DataError, match="1 or 3 channels, not 4") as error:
            dataset_of((np.zeros(shape, np.uint8), NUMBERS))
        assert "leave it out: images[" in error.value.hint

    def test_masked_values(self) -> None:
        with pytest.raises(DataError, match="masked"):
            dataset_of((np.ma.masked_array(BYTES, BYTES > 250), NUMBERS))

    def test_a_table_with_a_column_for_each_class(self, files: list[str]) -> None:
        flags = {name: [int(one == name) for one in NAMES] for name in ("cat", "dog")}
        dataset = dataset_of(pd.DataFrame({"path": files, **flags}))
        assert [dataset.classes[label] for label in dataset.labels] == NAMES

    def test_a_table_with_a_column_for_each_pixel(self) -> None:
        columns = {f"pixel{at}": BYTES.reshape(12, 36)[:, at] for at in range(36)}
        with pytest.raises(DataError, match="a column for each of 36 pixels") as error:
            dataset_of(pd.DataFrame({**columns, "label": NUMBERS}))
        assert "df.filter(like='pixel')" in error.value.hint
