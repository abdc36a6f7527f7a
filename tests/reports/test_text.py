import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import DataError
from sartor.reports.text import text_histogram

EIGHTHS = " ▏▎▍▌▋▊▉█"

classes_with_counts = st.lists(
    st.tuples(st.text(max_size=60), st.integers(0, 10**7)), min_size=1, max_size=12
)


def columns(line):
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
    return len(line) + wide - sum(unicodedata.combining(letter) > 0 for letter in line)


@given(rows=classes_with_counts, width=st.integers(20, 200), ascii_only=st.booleans())
def test_every_class_has_one_line_that_fits(rows, width, ascii_only):
    names, counts = zip(*rows, strict=True)
    drawn = text_histogram(counts, names, width, ascii_only=ascii_only)
    lines = drawn.split("\n")
    assert len(lines) == len(rows)
    assert max(map(columns, lines)) <= width
    assert drawn.replace("\n", "").isprintable()
    assert drawn.isascii() or not ascii_only
    for line, count in zip(lines, counts, strict=True):
        bar = line.rpartition(f"{count:,}")[2]
        assert bool(bar.strip()) == (count > 0)


@given(counts=st.lists(st.integers(0, 5_000), min_size=2, max_size=9))
def test_bars_are_as_long_as_the_counts_to_an_eighth(counts):
    classes = [f"c{number}" for number in range(len(counts))]
    lines = text_histogram(counts, classes, 60).split("\n")
    eighths = [sum(EIGHTHS.index(mark) for mark in line if mark in EIGHTHS) for line in lines]
    # Spaces have no length; a class with one image has at least one eighth.
    longest, highest = max(eighths), max(*counts, 1)
    for length, count in zip(eighths, counts, strict=True):
        assert length == pytest.approx(longest * count / highest, abs=1)


def test_an_example():
    assert text_histogram([1000, 500, 0], ["boot", "bag", "coat"], 21).split("\n") == [
        "boot  1,000 █████████",
        "bag     500 ████▌",
        "coat      0",
    ]
    assert text_histogram([1000, 500, 0], ["boot", "bag", "Größe"], 22, ascii_only=True) == (
        "boot   1,000 #########\nbag      500 ####\nGr??e      0"
    )


def test_a_long_name_is_shortened():
    line = text_histogram([3], ["n01440764_tench_Tinca_tinca"], 30)
    assert line.startswith("n01440764…  3 █")


def test_one_count_a_class_is_needed():
    for counts, classes in (([1, 2], ["a"]), ([], [])):
        with pytest.raises(DataError):
            text_histogram(counts, classes)
