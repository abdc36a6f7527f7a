"""Views of a picture: which they are, and that judging and predicting take the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sartor
from sartor.inference.views import mean_logits, views_of
from sartor.training.settings import VIEWS


def pictures(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 2, 5, 6, generator=torch.Generator().manual_seed(0))


def test_flip_sees_the_picture_and_its_mirror_image() -> None:
    images = pictures()
    plain, mirrored = views_of(images, "flip")
    assert torch.equal(plain, images)
    assert np.array_equal(mirrored.numpy(), images.numpy()[..., ::-1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shift_moves_by_a_pixel_along_each_diagonal(layout: torch.memory_format) -> None:
    images = pictures().contiguous(memory_format=layout)
    plain, *moved = views_of(images, "shift")
    assert torch.equal(plain, images)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    expected = [padded[:, :, y : y + 5, x : x + 6] for y in (0, 2) for x in (0, 2)]
    assert all(
        np.array_equal(one.numpy(), other) for one, other in zip(moved, expected, strict=True)
    )
    assert all(one.is_contiguous(memory_format=layout) for one in moved)


def test_flip_and_shift_move_the_mirror_image_the_other_way() -> None:
    images = pictures()
    plain, mirrored, moved, both = (view.numpy() for view in views_of(images, "flip-shift"))
    assert np.array_equal(plain, images.numpy())
    assert np.array_equal(mirrored, plain[..., ::-1])
    assert np.array_equal(moved[..., :-1, :-1], plain[..., 1:, 1:])
    assert np.array_equal(moved[..., -1, :-1], plain[..., -1, 1:]), "the edge again"
    assert np.array_equal(both[..., 1:, 1:], mirrored[..., :-1, :-1])
    assert np.array_equal(both[..., 0, 0], mirrored[..., 0, 0])


@pytest.mark.parametrize(
    ("tta", "count"), [("none", 1), ("flip", 2), ("shift", 5), ("flip-shift", 4)]
)
def test_logits_are_the_mean_over_the_views(tta: str, count: int) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 3), torch.nn.Tanh())
    each = [model(view) for view in views_of(pictures(), tta)]
    assert len(each) == count
    torch.testing.assert_close(mean_logits(model, pictures(), tta), sum(each) / count)


@pytest.mark.parametrize("tta", VIEWS)
def test_a_prediction_is_what_evaluation_says(tta: str, tmp_path: Path) -> None:
    data = sartor.load("digits")
    run = sartor.fit(
        data, tta=tta, epochs=1, out=tmp_path / "run", check=False, report=False, threads=1
    )
    run.evaluate("test")
    saved = np.load(run.folder.predictions_path("test"))
    images = data.images[saved["indices"][:8]]
    pictures = [Image.fromarray(image[0]) for image in images]
    predicted = run.predict(pictures, calibrated=False)
    shares = torch.from_numpy(saved["logits"][:8]).softmax(1)
    given = torch.tensor([list(one.probabilities.values()) for one in predicted])
    torch.testing.assert_close(given, shares, rtol=1e-5, atol=1e-6, check_dtype=False)


def test_tta_changes_what_is_judged_and_not_what_is_trained(tmp_path: Path) -> None:
    runs = [
        sartor.fit(
            "digits", tta=tta, epochs=2, out=tmp_path / tta, check=False, report=False, threads=1
        )
        for tta in ("none", "flip")
    ]
    assert runs[0].weights_sha256 == runs[1].weights_sha256
    assert runs[0].history[-1]["train_loss"] == runs[1].history[-1]["train_loss"]
    assert runs[0].history[-1]["val_loss"] != runs[1].history[-1]["val_loss"]


@pytest.mark.parametrize(
    ("tta", "says"),
    [
        ("flip", "averaged over several views of the image: the original and its mirror image."),
        ("flip-shift", "the original, its mirror image, and both shifted by one pixel."),
        ("none", None),
    ],
)
def test_the_report_says_that_answers_are_means(tta: str, says: str | None, tmp_path: Path) -> None:
    run = sartor.fit("digits", tta=tta, epochs=1, out=tmp_path / "run", check=False, threads=1)
    page = " ".join((run.path / "report.html").read_text().split())
    assert says is None or says in page
    assert ("averaged over several views" in page) == (says is not None)
