"""Golden examples: chosen by rules that know no answer, kept as they lie, read back whole."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.bundle import golden
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import Preprocess
from sartor.errors import BundleError


def of(dataset: Dataset) -> Preprocess:
    """What prepares pictures as the dataset's were."""
    if dataset.origin:
        return Preprocess.from_settings(dataset.origin.settings)
    channels, height, width = dataset.shape
    return Preprocess(
        channels=channels,
        height=height,
        width=width,
        resize="letterbox",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


@pytest.fixture(scope="module")
def wild(wild_pictures: Path) -> Dataset:
    data = sartor.load(wild_pictures, image_size=20, channels=3)
    assert isinstance(data, Dataset)
    return data


def test_files_are_kept_as_they_lie_and_become_the_pixels_of_the_dataset(
    wild: Dataset, wild_pictures: Path
) -> None:
    chosen = golden.choose(wild, np.arange(len(wild)), of(wild))
    assert chosen.as_they_lie
    on_disk = {path.read_bytes() for path in wild_pictures.glob("*/*.*")}
    assert set(chosen.contents.values()) <= on_disk
    rows = {wild.images[row].tobytes() for row in range(len(wild))}
    assert all(image.transpose(2, 0, 1).tobytes() in rows for image in chosen.images)
    np.testing.assert_array_equal(wild.images[chosen.rows].transpose(0, 2, 3, 1), chosen.images)
    np.testing.assert_array_equal(wild.labels[chosen.rows], chosen.labels)
    again = golden.choose(wild, np.arange(len(wild)), of(wild))
    assert again.contents == chosen.contents


def test_there_are_64_at_most_of_all_classes_alike_and_of_every_kind(wild: Dataset) -> None:
    chosen = golden.choose(wild, np.arange(len(wild)), of(wild))
    assert len(chosen) == golden.MOST
    assert sorted(Counter(chosen.labels.tolist()).values()) == [21, 21, 22]
    kinds = {kind.rsplit(" ", 1)[0] for kind in chosen.kinds}
    every = {"PNG RGBA", "JPEG RGB", "PNG L", "GIF P", "PNG P", "PNG LA", "TIFF I;16"}
    assert kinds == every
    sizes = [kind.rsplit(" ", 1)[1].split("x") for kind in chosen.kinds]
    assert any(int(side) % 2 for size in sizes for side in size)


def test_few_pictures_give_two_of_each_class(wild: Dataset) -> None:
    some = np.concatenate([np.flatnonzero(wild.labels == label)[:2] for label in range(3)])
    chosen = golden.choose(wild, some, of(wild))
    assert Counter(chosen.labels.tolist()) == {0: 2, 1: 2, 2: 2}


def test_a_reserve_fills_up_what_is_too_few(wild: Dataset) -> None:
    few = np.flatnonzero(wild.labels == 1)[:3]
    every = np.arange(len(wild))
    chosen = golden.choose(wild, few, of(wild), reserve=every)
    assert len(chosen) == golden.MOST
    assert sorted(Counter(chosen.labels.tolist()).values()) == [21, 21, 22]
    assert set(few) <= set(chosen.rows)
    enough = golden.choose(wild, every, of(wild), reserve=every)
    assert enough.contents == golden.choose(wild, every, of(wild)).contents


def test_large_files_only_where_there_are_too_few_small_ones(
    wild: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "MOST_BYTES", 1)
    chosen = golden.choose(wild, np.arange(len(wild)), of(wild))
    assert Counter(chosen.labels.tolist()) == {0: 2, 1: 2, 2: 2}


def test_a_file_that_is_not_the_one_of_the_dataset_any_more_is_not_taken(
    wild_pictures: Path, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number, path in enumerate(sorted(next(wild_pictures.iterdir()).glob("*.png"))[:6]):
            (tmp_path / folder / f"{number}.png").write_bytes(path.read_bytes())
    data = sartor.load(tmp_path, image_size=20, channels=3)
    (tmp_path / "a" / "0.png").unlink()
    Image.new("L", (9, 9), 7).save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").write_bytes(b"")
    chosen = golden.choose(data, np.arange(len(data)), of(data))
    assert Counter(chosen.labels.tolist()) == {0: 3, 1: 6}


def test_arrays_become_pngs(digits: Dataset) -> None:
    chosen = golden.choose(digits, digits.not_for_testing()[::7], of(digits))
    assert not chosen.as_they_lie
    assert len(chosen) == golden.MOST
    for content, image in zip(chosen.contents.values(), chosen.images, strict=True):
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            np.testing.assert_array_equal(np.asarray(picture), image[..., 0])


def test_more_than_64_classes_are_taken_evenly() -> None:
    images = np.zeros((200, 4, 4), np.uint8)
    data = Dataset(images, np.arange(200) % 100, tuple(f"c{n:03d}" for n in range(100)))
    chosen = golden.choose(data, np.arange(200), of(data))
    assert len(set(chosen.labels.tolist())) == golden.MOST
    assert chosen.labels.min() == 0
    assert chosen.labels.max() == 99


def test_what_is_written_is_read_back(digits: Dataset) -> None:
    chosen = golden.choose(digits, np.arange(40), of(digits))
    rows = np.random.default_rng(0).dirichlet(np.ones(10), len(chosen)).astype(np.float32)
    answers = [
        {"file": name, "probabilities": dict(zip(digits.classes, row.tolist(), strict=True))}
        for name, row in zip(golden.names_of(chosen), rows, strict=True)
    ]
    novelty = np.arange(len(chosen), dtype=np.float32)
    parts = golden.parts(chosen, digits.classes, answers, rows, novelty)
    document, pixels = parts[golden.DOCUMENT], parts[golden.PIXELS]
    found = golden.read(document, pixels, classes=digits.classes, shape=(8, 8, 1))
    assert set(found.names) == set(chosen.contents)
    assert found.labels == tuple(digits.classes[label] for label in chosen.labels)
    np.testing.assert_array_equal(found.images, chosen.images)
    np.testing.assert_array_equal(found.probabilities, rows)
    np.testing.assert_array_equal(found.novelty, novelty)
    other = digits.classes[:-1]
    lacking = json.dumps([{"file": "x"}]).encode()
    for bad in (
        (document, b"short", digits.classes),
        (b"[", pixels, digits.classes),
        (b"[1]", pixels, digits.classes),
        (b"null", pixels, digits.classes),
        (lacking, pixels, digits.classes),
        (document, pixels, other),
    ):
        with pytest.raises(BundleError, match="golden examples"):
            golden.read(bad[0], bad[1], classes=bad[2], shape=(8, 8, 1))
