"""Folders of pictures, from listing to training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import sartor
from sartor.data.folder import list_folder
from sartor.errors import DataError


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


def test_classes_stand_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10", "b9", "a", ".hidden"):
        (tmp_path / name).mkdir()
        Image.new("L", (3, 3)).save(tmp_path / name / "x.png")
    assert list_folder(tmp_path).classes == ("a", "b9", "b10")


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture"):
        list_folder(tmp_path)
