"""Sets of IDX files: which belong together, and what is missing."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sartor.data.dataset import Dataset
from sartor.data.readers.idx_files import find_idx, load_idx, only_set
from sartor.data.readers.tree import FolderTree
from sartor.errors import DataError

IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)

Write = Callable[[str, npt.NDArray[np.uint8]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, array: npt.NDArray[np.uint8]) -> Path:
        sizes = struct.pack(f">{array.ndim}I", *array.shape)
        content = bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def load(folder: Path) -> Dataset:
    tree = FolderTree(folder)
    return load_idx(tree, only_set(find_idx(tree.files), tree.name), name=folder.name).dataset


class TestFolder:
    @pytest.mark.parametrize("dot", ["-", "."])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_appends_the_test_part(
        self, write: Write, tmp_path: Path, dot: str, suffix: str
    ) -> None:
        write(f"train-images{dot}idx3-ubyte{suffix}", IMAGES)
        write(f"train-labels{dot}idx1-ubyte{suffix}", LABELS)
        write(f"t10k-images{dot}idx3-ubyte{suffix}", IMAGES[:2] + 100)
        write(f"t10k-labels{dot}idx1-ubyte{suffix}", LABELS[1:3])
        dataset = load(tmp_path)
        assert dataset.name == tmp_path.name
        assert dataset.shape == (1, 4, 5)
        assert dataset.classes == ("0", "1", "2")
        assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2, 1, 2]
        assert dataset.test is not None
        assert dataset.test.tolist() == [6, 7]
        np.testing.assert_array_equal(dataset.images[6:, 0], IMAGES[:2] + 100)

    def test_goes_without_a_test_part(self, write: Write, tmp_path: Path) -> None:
        write("train-images-idx3-ubyte", IMAGES)
        write("train-labels-idx1-ubyte", LABELS)
        dataset = load(tmp_path)
        assert len(dataset) == 6
        assert dataset.test is None

    def test_passes_over_a_folder_of_the_same_name(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "train-images-idx3-ubyte").mkdir()
        write("train-images.idx3-ubyte", IMAGES)
        write("train-labels.idx1-ubyte", LABELS)
        assert len(load(tmp_path)) == 6

    def test_a_folder_without_the_files(self, tmp_path: Path) -> None:
        (tmp_path / "boot.png").touch()
        with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("present", "missing"),
        [
            ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            ("train-labels.idx1-ubyte", "train-images-idx3-ubyte"),
            ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        ],
    )
    def test_names_the_missing_half(
        self, write: Write, tmp_path: Path, present: str, missing: str
    ) -> None:
        write(present, IMAGES)
        with pytest.raises(DataError, match=f"holds {present}, but no {missing}"):
            load(tmp_path)

    def test_a_test_part_alone_is_no_set(self, write: Write, tmp_path: Path) -> None:
        write("t10k-images-idx3-ubyte", IMAGES)
        write("t10k-labels-idx1-ubyte", LABELS)
        with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
            load(tmp_path)

    def test_parts_of_different_sizes(self, write: Write, tmp_path: Path) -> None:
        write("train-images-idx3-ubyte", IMAGES)
        write("train-labels-idx1-ubyte", LABELS)
        write("t10k-images-idx3-ubyte", IMAGES[:, :3])
        write("t10k-labels-idx1-ubyte", LABELS)
        with pytest.raises(DataError, match="are 1x4x5, its test images 1x3x5"):
            load(tmp_path)
