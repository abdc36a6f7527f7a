"""The benchmark of sizes measures each in a process of its own and writes its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scale

from sartor.data.dataset import Dataset


def test_images_are_the_originals_moved(fashion_mnist: Dataset, tmp_path: Path) -> None:
    originals, path = fashion_mnist.images[:50], tmp_path / "images.npy"
    scale.write_images(originals, 120, path)
    images = np.load(path)
    assert images.shape == (120, 1, 28, 28)
    np.testing.assert_array_equal(images[7, 0, :26, :26], originals[7, 0, 2:, 2:])
    np.testing.assert_array_equal(images[60, 0, :27, :26], originals[10, 0, 1:, 2:])


def test_a_page_gets_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fashion_mnist: Dataset
) -> None:
    assert len(fashion_mnist)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{scale.BEGIN}\nold\n{scale.END}\nafter\n")
    words = ["--counts", "120", "300", "--rounds", "1", "--seconds", "0.01"]
    assert scale.main([*words, "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 300 |")]
    assert len(row.split("|")) == len(scale.COLUMNS) + 3
    assert "| 300 |" in capsys.readouterr().out


def test_flatness_is_judged_by_both_ends() -> None:
    def figures(cost: float) -> dict[str, float]:
        return {"feed": cost, "augmented": 1.0, "training": 1.0}

    flat = {10: [figures(1.0)], 100: [figures(1.2)]}
    steep = {10: [figures(1.0)], 100: [figures(1.3)]}
    assert scale.verdicts(flat)[0] == "- feed: within 9.1% of 1.1 us, flat."
    assert scale.verdicts(steep)[0] == "- feed: within 13.0% of 1.15 us, not flat."
