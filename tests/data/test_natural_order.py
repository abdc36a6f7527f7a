"""Names with numbers in the order of people, the same with little memory."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.natural_order import natural_key, sort_naturally


@settings(max_examples=40)
@given(st.lists(st.from_regex(r"[ab]?0{0,2}[0-9]{0,3}b?", fullmatch=True), max_size=8))
def test_natural_order_depends_on_the_names_alone(names: list[str]) -> None:
    ordered = sorted(map(Path, names), key=natural_key)
    backwards = ordered[::-1]
    assert sorted(backwards, key=natural_key) == ordered
    numbers = [int(str(path)) for path in ordered if str(path).isdecimal()]
    assert numbers == sorted(numbers)


@settings(max_examples=150)
@given(
    st.lists(
        st.from_regex(r"([ab.\x01é]{0,2}[0-9٣]{0,12}){0,3}", fullmatch=True)
        | st.text(st.characters(exclude_characters="\0"), max_size=4),
        max_size=8,
    )
)
def test_sorting_in_place_gives_the_same_order(names: list[str]) -> None:
    found = list(names)
    sort_naturally(found)
    assert found == sorted(names, key=natural_key)
