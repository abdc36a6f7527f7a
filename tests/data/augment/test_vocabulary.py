"""The words of a recipe: read, written out, and refused with a sentence."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from sartor.data.augment import pipeline
from sartor.data.augment.vocabulary import (
    ELSEWHERE,
    MIXING,
    STEPS,
    Crop,
    Erase,
    Flip,
    canonical,
    parse,
    steps_of,
)
from sartor.errors import RecipeError
from sartor.recipe import Recipe


def test_names_and_values_in_order() -> None:
    steps = steps_of(["erase=0.5,0.1", "flip", "crop=2,reflect"])
    assert list(steps.items()) == [
        ("erase", Erase(chance=0.5, smallest=0.1)),
        ("flip", Flip()),
        ("crop", Crop(pixels=2, padding="reflect")),
    ]


def test_one_string_is_several_words() -> None:
    assert steps_of(["flip", "crop=2"]) == steps_of(["flip crop=2"])


def test_none_undoes_what_a_recipe_says() -> None:
    assert steps_of(["none"]) == {} == steps_of([])
    assert canonical(["none"]) == ()
    assert parse(["none", "flip"])[1] == [
        'augment "none" stands beside other words; it means none of them'
    ]


@pytest.mark.parametrize("name", STEPS)
def test_written_out_it_means_the_same(name: str) -> None:
    (word,) = canonical([name])
    assert steps_of([word]) == steps_of([name]) == {name: STEPS[name]()}
    assert canonical([word]) == (word,)
    assert word.count(",") + ("=" in word) == len(fields(STEPS[name]))


def test_numbers_are_written_exactly() -> None:
    words = ["erase=0.1234567890123,0.02,0.33", "flip=alternating", "crop=3,edge"]
    assert canonical(words) == tuple(words)
    assert canonical(["flip=1", "rotate=7.50"]) == ("flip=1", "rotate=7.5")


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("hflip", 'unknown augmentation "hflip"; did you mean "flip"?'),
        ("--reprob", 'did you mean "erase"?'),
        ("Color_Jitter", 'did you mean "color-jitter"?'),
        ("rotat=5", 'unknown augmentation "rotat"; did you mean "rotate"?'),
        ("xyz", "known: affine, blur, color-jitter"),
        ("flip=2", 'augment "flip=2": chance must be at least 0 and at most 1, not 2'),
        ("flip=nan", "chance must be at least 0"),
        ("flip=often", "chance must be a number or \"alternating\", not 'often'"),
        ("crop=1.5", "pixels must be a whole number, not 1.5"),
        ("crop=2,mirror", 'unknown padding "mirror"'),
        ("crop=2,zero,3", "it has 3 values and takes 2 at most (pixels, padding)"),
        ("trivialaugment=3", "and takes none"),
        ("crop=", 'augment "crop=" has no value'),
        ("erase=0.5,0.4,0.3", "smallest (0.4) must not exceed largest (0.3)"),
        ("flip flip", 'augment names "flip" twice'),
    ],
)
def test_what_is_wrong_is_said(word: str, problem: str) -> None:
    _, found = parse([word])
    assert len(found) == 1
    assert problem in found[0]
    with pytest.raises(RecipeError):
        steps_of([word])


def test_every_problem_at_once_and_with_those_of_the_recipe() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().with_settings({"augment": ["hflip", "crop=0"], "momentum": 0.5})
    assert len(caught.value.problems) == 3
    assert caught.value.exit_code == 2


def test_toml_keeps_the_words() -> None:
    recipe = Recipe().with_settings({"augment": ("flip", "crop=2")})
    assert 'augment = ["flip", "crop=2"]' in recipe.to_toml()
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe().with_settings({"augment": "flip crop=2"}).training.augment == ("flip crop=2",)


def test_every_word_does_something() -> None:
    kinds: set[Any] = set(STEPS.values())
    assert set(pipeline._CHANGES) == kinds - set(MIXING)
    assert set(ELSEWHERE.values()) <= set(STEPS)
    assert not set(ELSEWHERE) & set(STEPS)
