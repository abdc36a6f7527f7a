"""`--augment` as it is typed: a grid of one picture, other libraries' flags, training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sartor

FIT = ("fit", "digits", "--model", "linear", "--epochs", 1, "--threads", 1, "--batch-size", 500)


def test_a_grid_of_one_pictures_variants(command: Any, tmp_path: Path) -> None:
    out, other = tmp_path / "grid.png", tmp_path / "other.png"
    words = ("data", "digits", "--image", 5, "--samples", 10, "--json")
    for path, seed in ((out, 0), (other, 1)):
        augment = ("--augment", "flip", "crop=2", "mixup")
        answer = command(*words, *augment, "--seed", seed, "--out", path)
        assert answer.exit_code == 0
        assert answer.err == f"Wrote {path}\n"
        assert answer.document["set"] == "digits"
    assert out.read_bytes() != other.read_bytes()
    with Image.open(out) as grid:
        # Two rows of eight columns.
        assert 2.5 < grid.width / grid.height < 4


def test_the_grid_has_a_name_of_its_own(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command("data", "digits", "--augment", "rotate", "--samples", 2)
    assert answer.err == "Wrote digits-0-augmented.png\n"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--mixup", "0.2"], "--augment mixup=0.2"),
        (["--hflip=0.5"], "--augment flip=0.5"),
        (["--aa", "rand-m9-n2"], "--augment randaugment"),
        (["--reprob", ".25", "--epochs", "1"], "--augment erase=.25"),
        (["--color-jitter"], "--augment color-jitter"),
    ],
)
def test_flags_of_timm_are_explained(words: list[str], advice: str, command: Any) -> None:
    answer = command("fit", "digits", *words)
    assert (answer.exit_code, answer.out) == (2, "")
    assert f"There is no flag {words[0].partition('=')[0]}" in answer.err
    assert answer.err.endswith(f"Write: {advice}\n")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["data", "digits", "--augment", "hflip"], 2, 'did you mean "flip"?'),
        (["data", "digits", "--augment", "flip", "--image", "9999"], 1, "no image 9999"),
        (["data", "digits", "--augment", "flip", "--pixels"], 2, "--pixels shows one image"),
        ([*FIT, "--augment", "crop=0"], 2, 'augment "crop=0": pixels must be at least 1'),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], code: int, says: str, command: Any, tmp_path: Path
) -> None:
    answer = command(*words, *(["--out", tmp_path / "out"] if words[0] == "fit" else []))
    assert (answer.exit_code, answer.out) == (code, "")
    assert says in answer.err
    assert list(tmp_path.iterdir()) == []


def test_fit_with_and_without(command: Any, tmp_path: Path) -> None:
    """A flag without words takes the recipe's augmentation back."""
    words = [*FIT, "--quiet", "--json"]
    augment = ["--augment", "shift", "cutmix", "rotate=15"]
    augmented = command(*words, *augment, "--out", tmp_path / "a").document
    recipe = tmp_path / "a" / "recipe.toml"
    assert 'augment = ["shift=0.1", "cutmix=1", "rotate=15"]' in recipe.read_text()
    again = command("fit", "--recipe", recipe, "--quiet", "--json", "--out", tmp_path / "b")
    assert again.document["weights_sha256"] == augmented["weights_sha256"]
    plain = command(*words, "--out", tmp_path / "c").document
    back = command(
        "fit", "--recipe", recipe, "--augment", "--quiet", "--json", "--out", tmp_path / "d"
    )
    assert back.document["weights_sha256"] == plain["weights_sha256"]
    assert plain["weights_sha256"] != augmented["weights_sha256"]


def test_learning_by_heart_is_done_without() -> None:
    settings: dict[str, Any] = {"model": "linear", "threads": 1, "batch_size": 16, "lr": 0.05}
    plain = sartor.overfit_batch("digits", **settings)
    assert plain.learnt
    assert sartor.overfit_batch("digits", augment=["flip=1", "mixup"], **settings) == plain
