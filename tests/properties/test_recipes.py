"""A recipe written is the recipe read: every setting, with any value that it may have."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sartor.errors import RecipeError
from sartor.recipe import PARTS, Recipe
from sartor.settings import OneOf, Range, fields_of

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
KWARGS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    max_size=3,
)


def numbers(limits: Range | None, whole: bool) -> st.SearchStrategy[Any]:
    """Any number that a setting may have."""
    low = -1e9 if limits is None or limits.low is None else limits.low
    high = 1e9 if limits is None or limits.high is None else limits.high
    if whole:
        return st.integers(math.ceil(low), math.floor(min(high, 2**53)))
    return st.floats(max(low, -1e9), min(high, 1e9), allow_nan=False).filter(
        lambda value: limits is None or not limits.problem(value)
    )


def values(hint: Any, notes: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Any value of a setting."""
    from collections.abc import Mapping
    from types import NoneType, UnionType
    from typing import Literal, Union, get_args, get_origin

    words = next((note.words for note in notes if isinstance(note, OneOf)), None)
    limits = next((note for note in notes if isinstance(note, Range)), None)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return st.one_of(*(values(arm, notes) for arm in get_args(hint)))
    if origin is Literal:
        return st.sampled_from(get_args(hint))
    if origin is tuple:
        return st.lists(values(get_args(hint)[0], notes), max_size=3).map(tuple)
    if origin is Mapping:
        return KWARGS
    if hint is NoneType:
        return st.none()
    if hint is bool:
        return st.booleans()
    if hint in (int, float):
        return numbers(limits, hint is int)
    return st.sampled_from(sorted(words)) if words else TEXT


ANY: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    part: {name: values(hint, notes) for name, hint, notes in fields_of(kind)}
    for part, kind in PARTS.items()
}


@settings(max_examples=120)
@given(st.data())
def test_a_recipe_written_is_the_recipe_read(data: st.DataObject) -> None:
    tables: dict[str, dict[str, Any]] = {}
    for part, settings_of_part in ANY.items():
        chosen = data.draw(st.sets(st.sampled_from(sorted(settings_of_part)), max_size=3))
        drawn = {name: data.draw(settings_of_part[name], label=name) for name in sorted(chosen)}
        tables[part] = {name: value for name, value in drawn.items() if value is not None}
    try:
        recipe = Recipe.from_tables(tables)
    except RecipeError:
        # Settings that exclude each other, such as a momentum of adam.
        assume(False)
        raise
    text = recipe.to_toml()
    again = Recipe.from_toml(text)
    assert again == recipe
    assert again.to_toml() == text
    for part, table in tables.items():
        for name, value in table.items():
            assert getattr(getattr(again, part), name) == value


@given(st.sampled_from(sorted(ANY)), st.data())
def test_any_single_setting_is_kept_or_refused_by_name(part: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ANY[part])))
    value = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        )
    )
    try:
        recipe = Recipe.from_tables({part: {name: value}})
    except RecipeError as error:
        refused = error
    else:
        assert Recipe.from_toml(recipe.to_toml()) == recipe
        return
    assert refused.problems
    assert refused.hint
