"""Images of a mapped file: found in it, asked for in few readings, and given out bit for bit."""

from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.augment.pipeline import augmentation_of
from sartor.data.dataset import Dataset
from sartor.data.feed import mapped
from sartor.data.feed.ahead import chosen_workers
from sartor.data.feed.batches import Batches, Feed
from sartor.data.feed.mapped import ReadAhead, mapping_of, read_ahead

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 1, 9, 7), np.uint8)


class Listening:
    """Stands for a mapping and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def madvise(self, *what: int) -> None:
        self.told.append(what)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, IMAGES[:, 0])
    return path


def images_of(file: Path) -> np.ndarray:
    return Dataset(np.load(file, mmap_mode="r"), np.arange(300) % 3).images


def listening(start: int = 128, image_bytes: int = 63) -> tuple[Listening, ReadAhead]:
    heard = Listening()
    return heard, ReadAhead(mapping=heard, start=start, image_bytes=image_bytes)  # type: ignore


def test_a_mapped_file_stays_one_in_a_dataset(file: Path) -> None:
    found = mapping_of(images_of(file))
    assert found is not None
    assert found.image_bytes == 63
    for index in (0, 123, 299):
        start = found.start + index * 63
        assert found.mapping[start : start + 63] == IMAGES[index].tobytes()


def test_arrays_in_memory_need_no_reading() -> None:
    assert mapping_of(IMAGES) is None
    assert read_ahead(IMAGES) is None


def test_a_part_of_a_mapped_file_is_found_where_it_lies(file: Path) -> None:
    found = mapping_of(images_of(file)[40:])
    assert found is not None
    assert found.mapping[found.start : found.start + 63] == IMAGES[40].tobytes()


def test_the_size_decides(file: Path) -> None:
    images = images_of(file)
    assert read_ahead(images, free=2 * images.nbytes) is None
    assert isinstance(read_ahead(images, free=2 * images.nbytes - 1), ReadAhead)
    assert read_ahead(images, free=0) is None


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=60))
def test_every_image_is_asked_for_and_little_else(rows: list[int]) -> None:
    heard, ahead = listening(image_bytes=3_000)
    ahead.of_rows(np.array(rows))
    asked = []
    for advice, start, length in heard.told:
        assert advice == mmap.MADV_WILLNEED
        assert start % mmap.PAGESIZE == 0
        asked.append((start, start + length))
    for row in rows:
        first = 128 + row * 3_000
        assert any(start <= first and first + 3_000 <= stop for start, stop in asked)
    wanted = len(set(rows)) * (3_000 + mapped._NEAR + 3_000) + len(asked) * mmap.PAGESIZE
    assert sum(stop - start for start, stop in asked) <= wanted


def test_neighbours_are_one_reading() -> None:
    heard, ahead = listening(image_bytes=3_000)
    ahead.of_rows(np.array([7, 5, 6, 9, 900]))
    assert len(heard.told) == 2
    ahead.of_rows(slice(3, 50))
    assert heard.told[2] == (mmap.MADV_WILLNEED, 8_192, 128 + 50 * 3_000 - 8_192)
    ahead.of_rows(np.array([], np.int64))
    assert len(heard.told) == 3


def batches_of(images: np.ndarray, ahead: ReadAhead | None) -> Batches:
    return Batches(
        feed=Feed(
            images=torch.from_numpy(np.array(images)),
            labels=torch.arange(300) % 3,
            indices=np.arange(20, 300),
            normalize=lambda images: images.to(torch.float32),
            read_ahead=ahead,
        ),
        batch_size=32,
        shuffle=True,
        drop_last=False,
        seed=3,
        augmentation=augmentation_of(["crop=2", "mixup"], seed=3, num_classes=3, mean=(0.5,)),
    )


def test_asking_changes_no_bit(file: Path) -> None:
    plain, asking = (batches_of(IMAGES, a) for a in (None, mapping_of(images_of(file))))
    for position in range(len(plain)):
        one, other = plain.batch(1, position), asking.batch(1, position)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_what_is_gathered_was_asked_for() -> None:
    heard, ahead = listening()
    batches = replace(batches_of(IMAGES, ahead), augmentation=None)
    batches.batch(0, 0)
    assert heard.told
    told = len(heard.told)
    batches.feed.take(slice(0, 5))
    assert len(heard.told) == told + 1


class TestWorkers:
    """Where "auto" puts a thread beside the step."""

    @pytest.fixture(autouse=True)
    def two_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sartor.data.feed.ahead.available_cores", lambda: 2)

    def test_one_where_a_core_is_idle_and_there_is_work(self) -> None:
        augmented = batches_of(IMAGES, None)
        assert chosen_workers("auto", augmented, threads=1) == 1
        assert chosen_workers("auto", augmented, threads=2) == 0
        assert chosen_workers("auto", augmented, threads=2, yielding=True) == 1
        assert chosen_workers("auto", augmented.plain(), threads=2, yielding=True) == 0
        assert chosen_workers("auto", augmented.plain(), threads=1) == 0

    def test_one_where_a_disk_is_waited_for(self) -> None:
        _, ahead = listening()
        assert chosen_workers("auto", batches_of(IMAGES, ahead).plain(), threads=2) == 1

    def test_a_number_is_taken_as_it_is(self) -> None:
        assert chosen_workers(3, batches_of(IMAGES, None), threads=2) == 3
        assert chosen_workers(0, batches_of(IMAGES, None), threads=1) == 0
