"""The split of a run: its hash, what it is checked against, and what is doubted of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor.api.splitting import split_of, split_warnings
from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.errors import DataError, RunError, SartorWarning
from sartor.recipe import Recipe


def dataset_of(sizes: list[int], **fields: Any) -> Dataset:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 4, 4)).astype(np.uint8)
    return Dataset(images, labels, tuple("abcdefghij"[: len(sizes)]), **fields)


def doubted(dataset: Dataset, **settings: Any) -> list[str]:
    recipe = Recipe().with_settings(settings)
    return list(split_warnings(recipe, dataset, split_of(recipe, dataset)))


class TestDoubts:
    def test_classes_with_few_test_images_are_named(self) -> None:
        (text,) = doubted(dataset_of([100, 20, 50, 3]), split_method="drawn")
        assert text.startswith("Too few test images to trust the figures of: d 1, b 4. With 4 of 4")
        assert "51% to 100%" in text

    def test_many_are_counted(self) -> None:
        (text,) = doubted(dataset_of([5] * 10))
        assert "a 1, b 1, c 1, d 1, e 1 and 5 more classes" in text

    def test_enough_are_enough(self) -> None:
        assert doubted(dataset_of([50, 50]), split_method="drawn") == []
        assert len(doubted(dataset_of([50, 45]), split_method="drawn")) == 1

    def test_no_test_part_asks_for_no_trust(self) -> None:
        assert doubted(dataset_of([5, 5]), test_fraction=0) == []

    def test_shares_that_groups_make_impossible(self) -> None:
        dataset = dataset_of([60, 60], groups=tuple("xyz" * 40), test=np.arange(20, 90))
        (text,) = doubted(dataset)
        assert text.startswith("The val split has 32% of the images instead of 10%")

    def test_are_said_once_as_a_warning(self, tmp_path: Path) -> None:
        with pytest.warns(SartorWarning, match="Too few test images") as caught:
            run = sartor.fit(dataset_of([40, 20]), model="linear", epochs=1, out=tmp_path / "run")
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run.resume(epochs=2)


class TestHash:
    def test_of_a_run(self, trained: Path, digits: Dataset) -> None:
        run = sartor.Run.open(trained)
        assert run.split_sha256 == run.recipe.data.split_hash
        assert run.split_sha256 == run.split().sha256(digits.fingerprint)
        assert run.recipe.data.duplicates == "ignored"

    def test_another_split_is_refused(self, run_copy: Path, command: Callable[..., Any]) -> None:
        split = Split.from_bytes((run_copy / "split.npz").read_bytes())
        edited = Split(split.train, split.test, split.val)
        (run_copy / "split.npz").write_bytes(edited.to_bytes())
        for act in (sartor.evaluate, lambda run: sartor.resume(run, epochs=4)):
            with pytest.raises(RunError, match="is not the one that it was trained with") as caught:
                act(run_copy)
            assert caught.value.hint
        answer = command("show", run_copy, "--json")
        assert answer.document["split_sha256"] is None
        assert "is not the one that it was trained with" in answer.err

    def test_a_run_from_before_there_was_one_goes_on(self, run_copy: Path) -> None:
        path = run_copy / "recipe.toml"
        lines = path.read_text().splitlines(keepends=True)
        new = ("split_hash", "duplicates")
        path.write_text("".join(line for line in lines if not line.startswith(new)))
        run = sartor.Run.open(run_copy, trust=True)
        assert run.recipe.data.split_hash == ""
        with pytest.warns(SartorWarning):
            run.resume(epochs=4)
        assert run.weights_sha256
        assert run.evaluate().count == 359

    def test_a_recipe_that_would_be_divided_otherwise_now_is_refused(self, trained: Path) -> None:
        recipe = sartor.Run.open(trained).recipe.with_settings({"split_hash": "0" * 64})
        with pytest.raises(DataError, match="split is not the one that this recipe") as caught:
            sartor.fit(recipe=recipe)
        assert "split_hash" in caught.value.hint

    @pytest.mark.parametrize("change", [{"seed": 8}, {"val_fraction": 0.3}, {"limit_per_class": 9}])
    def test_a_recipe_of_a_run_may_be_divided_otherwise_on_purpose(
        self, trained: Path, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        recipe = sartor.Run.open(trained).recipe
        again = sartor.fit(recipe=recipe, out=tmp_path / "run", epochs=1, **change)
        assert again.recipe.data.split_hash not in ("", recipe.data.split_hash)

    def test_or_be_used_for_other_data(self, trained: Path, tmp_path: Path) -> None:
        recipe = sartor.Run.open(trained).recipe
        other = replace(dataset_of([50] * 10), name="other")
        run = sartor.fit(other, recipe=recipe, image_size=8, epochs=1, out=tmp_path / "run")
        assert run.split_sha256 != recipe.data.split_hash


def test_a_limit_is_a_flag(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--limit-per-class", 5, "--epochs", 1, "--model", "linear", "--out", tmp_path / "run"]
    answer = command("fit", "digits", *words)
    assert answer.exit_code == 0
    assert "50 images to train on, 144 to validate, 359 to test" in answer.err
    assert sartor.Run.open(tmp_path / "run").recipe.data.limit_per_class == 5
