"""Explaining the answers of a run, in Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import PictureError, UsageError


def test_an_image_of_the_set_and_its_file_get_the_same_map(
    trained: Path, digits: Dataset, tmp_path: Path
) -> None:
    as_picture(digits.images[7]).save(tmp_path / "seven.png")
    by_number, by_file = sartor.explain(trained, [7, tmp_path / "seven.png"], method="occlusion")
    assert by_number.file == "image 7"
    assert np.array_equal(by_number.image, digits.images[7])
    assert by_number.map == pytest.approx(by_file.map)
    prediction = sartor.predict(trained, tmp_path / "seven.png")[0]
    assert (by_file.label, by_file.target) == (prediction.label, prediction.label)
    assert by_file.probability == pytest.approx(prediction.probability)


def test_another_class_can_be_asked_for(trained: Path) -> None:
    four, nine = (sartor.explain(trained, 0, target=name)[0] for name in ("4", "9"))
    assert (four.target, nine.target) == ("4", "9")
    assert four.label == nine.label
    assert not np.allclose(four.map, nine.map)


def test_a_notebook_is_shown_a_picture(trained: Path) -> None:
    figure = sartor.explain(trained, 0, method="grad-cam")[0].plot()
    assert len(figure.axes) == 2


def test_what_cannot_be_explained(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image 1797"):
        sartor.explain(trained, 1797)
    with pytest.raises(UsageError, match='Unknown class "ten"'):
        sartor.explain(trained, 0, target="ten")
    with pytest.raises(PictureError, match="nowhere"):
        sartor.explain(trained, tmp_path / "nowhere.png")


def test_predict_draws_what_it_could_read(
    trained: Path, digits: Dataset, tmp_path: Path, command: Callable[..., object]
) -> None:
    as_picture(digits.images[7]).save(tmp_path / "seven.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "why.png"
    answer = command("predict", trained, tmp_path, "--explain", out, "--method", "occlusion")
    assert answer.exit_code == 1
    assert "bad.png is not a picture" in answer.err
    assert f"Wrote {out}" in answer.err
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"
