"""The record of engines that a run had, written and read."""

from __future__ import annotations

import pytest

from sartor.errors import RecipeError
from sartor.recipe import Recipe
from sartor.training.engine_changes import (
    next_change,
    parsed_engine_changes,
    plan_at,
    with_engine_change,
)
from sartor.training.settings import ResolvedTraining, TrainingSettings

PLAN = {"memory_format": "contiguous", "amp_dtype": "float32", "threads": 2, "engine": "direct"}


def settings(**more: object) -> ResolvedTraining:
    return ResolvedTraining(**{**vars(TrainingSettings()), **PLAN, "device": "cpu", **more})


def test_written_and_read() -> None:
    texts = with_engine_change(settings(), 90)
    assert texts == ("direct, float32, contiguous, 2 threads until step 90",)
    changed = settings(engine_changes=texts, threads=1)
    assert [plan_at(changed, step)["threads"] for step in (0, 89, 90, 500)] == [2, 2, 1, 1]
    assert plan_at(changed, 0) == PLAN
    assert [next_change(changed, step) for step in (0, 89, 90)] == [90, 90, None]
    twice = with_engine_change(changed, 180)
    assert twice[1] == "direct, float32, contiguous, 1 thread until step 180"
    assert [one.step for one in parsed_engine_changes(twice)] == [90, 180]


def test_a_step_that_is_recorded_stays() -> None:
    texts = with_engine_change(settings(), 90)
    assert with_engine_change(settings(engine_changes=texts, threads=1), 90) == texts
    assert with_engine_change(settings(), 0) == ()


@pytest.mark.parametrize(
    "texts",
    [
        ("fast, float32, contiguous, 2 threads until step 90",),
        ("direct, float32, contiguous, 0 threads until step 90",),
        ("direct, float32, contiguous, 2 threads",),
        ("auto, float32, contiguous, 2 threads until step 90",),
        ("direct, float32, contiguous, 2 threads until step 90",) * 2,
    ],
)
def test_what_cannot_be_read_is_a_sentence(texts: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError, match="engine_changes must be"):
        Recipe().with_settings({"engine_changes": texts})
