"""Folders of pictures, from listing to training."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import sartor
from sartor.data.listing import Listing
from sartor.data.prepare import prepared
from sartor.data.settings import DataSettings, PreprocessSettings
from sartor.data.sources import find_source
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


def list_folder(root: Path) -> Listing:
    found = find_source(DataSettings(source=str(root)))
    assert isinstance(found, Listing)
    return found


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
