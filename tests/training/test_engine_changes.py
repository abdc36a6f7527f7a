"""The record of engines that a run had, written and read."""

from __future__ import annotations

import pytest

from sartor.errors import RecipeError
from sartor.recipe import Recipe
from sartor.training.engine_changes import (
    cut_at,
    next_change,
    parsed_engine_changes,
    plan_at,
    plans_from,
    with_engine_change,
)
from sartor.training.settings import RETIRED_ENGINES, ResolvedTraining, TrainingSettings

PLAN = {"memory_format": "contiguous", "amp_dtype": "float32", "threads": 2, "engine": "native"}


def settings(**more: object) -> ResolvedTraining:
    return ResolvedTraining(**{**vars(TrainingSettings()), **PLAN, "device": "cpu", **more})


def test_written_and_read() -> None:
    texts = with_engine_change(settings(), 90)
    assert texts == ("native, float32, contiguous, 2 threads until step 90",)
    changed = settings(engine_changes=texts, threads=1)
    assert [plan_at(changed, step)["threads"] for step in (0, 89, 90, 500)] == [2, 2, 1, 1]
    assert plan_at(changed, 0) == PLAN
    assert [next_change(changed, step) for step in (0, 89, 90)] == [90, 90, None]
    twice = with_engine_change(changed, 180)
    assert twice[1] == "native, float32, contiguous, 1 thread until step 180"
    assert [one.step for one in parsed_engine_changes(twice)] == [90, 180]


def test_instructions_are_written_where_they_decide_the_rounding() -> None:
    rounding = settings(amp_dtype="bfloat16", instructions="amx-bf16")
    texts = with_engine_change(rounding, 90)
    assert texts == ("native, bfloat16, contiguous, 2 threads, amx-bf16 until step 90",)
    changed = settings(engine_changes=texts, amp_dtype="bfloat16", instructions="avx512-bf16")
    assert [plan["instructions"] for plan in plans_from(changed, 0)] == ["amx-bf16", "avx512-bf16"]
    assert plan_at(changed, 89) == PLAN | {"amp_dtype": "bfloat16", "instructions": "amx-bf16"}
    assert cut_at(changed, 50)["instructions"] == "amx-bf16"
    with pytest.raises(ValueError, match="engine_changes must be"):
        parsed_engine_changes((texts[0].replace("amx-bf16", "abacus"),))


def test_a_step_that_is_recorded_stays() -> None:
    texts = with_engine_change(settings(), 90)
    assert with_engine_change(settings(engine_changes=texts, threads=1), 90) == texts
    assert with_engine_change(settings(), 0) == ()


@pytest.mark.parametrize(
    "texts",
    [
        ("fast, float32, contiguous, 2 threads until step 90",),
        ("native, float32, contiguous, 0 threads until step 90",),
        ("native, float32, contiguous, 2 threads",),
        ("auto, float32, contiguous, 2 threads until step 90",),
        ("native, float32, contiguous, 2 threads until step 90",) * 2,
    ],
)
def test_what_cannot_be_read_is_a_sentence(texts: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError, match="engine_changes must be"):
        Recipe().with_settings({"engine_changes": texts})


@pytest.mark.parametrize("engine", RETIRED_ENGINES)
def test_engines_of_earlier_versions_are_still_read(engine: str) -> None:
    (found,) = parsed_engine_changes((f"{engine}, float32, contiguous, 2 threads until step 90",))
    assert found.plan == PLAN | {"engine": engine}


def test_cut_where_the_rest_cannot_be_trained() -> None:
    texts = with_engine_change(settings(), 90)
    changed = settings(engine_changes=texts, engine="plain", threads=1)
    assert [plan["engine"] for plan in plans_from(changed, 50)] == ["native", "plain"]
    assert [plan["engine"] for plan in plans_from(changed, 90)] == ["plain"]
    assert cut_at(changed, 50) == {"engine_changes": (), **PLAN}
    assert cut_at(changed, 90)["engine_changes"] == texts
    assert cut_at(changed, 90)["engine"] == "plain"
