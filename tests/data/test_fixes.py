from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.fixes import Fix, changes, fixes_table, parse_fixes, read_fixes
from sartor.data.pictures.exclude import read_exclusions
from sartor.errors import UsageError

NAMES = ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg")
LABELS = np.array([0, 0, 1])
CLASSES = ("cats", "dogs")
TEXTS = st.text(st.characters(exclude_characters="\0"), min_size=1).filter(str.strip)


def fix(file: str, given: str = "cats", suggested: str = "dogs", **more: object) -> Fix:
    return Fix(file=file, given=given, suggested=suggested, **more)  # type: ignore[arg-type]


class TestTable:
    def test_a_row_per_fix(self) -> None:
        text = fixes_table([fix("cats/1.jpg", reason="looks like dogs, not cats", confidence=0.97)])
        assert text == (
            "file,given,suggested,reason,confidence\n"
            'cats/1.jpg,cats,dogs,"looks like dogs, not cats",0.97\n'
        )

    @given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.text())))
    def test_is_read_back_as_written(self, rows: list[tuple[str, str, str, str]]) -> None:
        fixes = tuple(
            Fix(file=file, given=label, suggested=other, reason=" ".join(reason.split()))
            for file, label, other, reason in rows
        )
        text = fixes_table(fixes).encode()
        assert parse_fixes(text.decode(), "fixes.csv") == fixes

    def test_a_name_of_strange_bytes(self, tmp_path: Path) -> None:
        fixes = (fix("caf\udce9.jpg"),)
        path = tmp_path / "fixes.csv"
        path.write_text(fixes_table(fixes))
        assert read_fixes(path) == fixes

    def test_no_cell_starts_like_a_formula(self) -> None:
        cells = fixes_table([fix("=cmd|x", "+1", "@y", reason="-2")]).splitlines()[1].split(",")
        assert all(cell.startswith('"') for cell in cells[:4])

    @pytest.mark.parametrize(
        "content",
        [
            b"\xef\xbb\xbfSuggested;File;Given\r\ndogs;cats/\xc3\xa9.jpg;cats\r\n\r\n",
            b"file;given;suggested\ncats/\xe9.jpg;cats;dogs\n",
            "file\tgiven\tsuggested\r\ncats/é.jpg\tcats\tdogs\r\n".encode("utf-16"),
        ],
        ids=["semicolons", "cp1252", "utf-16"],
    )
    def test_as_spreadsheets_save_it(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "fixes.csv"
        path.write_bytes(content)
        assert read_fixes(path) == (fix("cats/é.jpg"),)

    def test_a_comma_in_a_confidence(self) -> None:
        (found,) = parse_fixes("file;given;suggested;confidence\na;b;c;0,5\n", "fixes.csv")
        assert found.confidence == 0.5

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("file,given\na,b\n", "no column suggested"),
            ("", "no column file, given, suggested"),
            ("file,given,suggested\na,cats,\n", "line 2: suggested is empty"),
            ("file,given,suggested\na,b.jpg,cats,dogs\n", "line 2: 4 cells for 3 columns"),
            ("file,given,suggested,confidence\na,b,c,sure\n", '"sure" is not a number from 0 to 1'),
            ("file,given,suggested,confidence\na,b,c,nan\n", "not a number from 0 to 1"),
        ],
    )
    def test_damaged_rows_are_named(self, text: str, told: str) -> None:
        with pytest.raises(UsageError, match=told):
            parse_fixes(text, "fixes.csv")

    def test_every_problem_at_once(self) -> None:
        with pytest.raises(UsageError, match=r"line 2(?s:.)*line 4"):
            parse_fixes("file,given,suggested\na,,c\na,b,c\na,b,\n", "fixes.csv")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Cannot read the fixes"):
            read_fixes(tmp_path / "nowhere.csv")


class TestChanges:
    def test_another_label_and_an_exclusion(self) -> None:
        found = changes(
            [fix("cats/1.jpg", reason="a dog"), fix("dogs/1.jpg", "dogs", "exclude")],
            NAMES,
            LABELS,
            CLASSES,
        )
        assert found.labels == {0: (1, "a dog")}
        assert list(found.excluded) == [2]

    def test_a_label_found_right_changes_nothing(self) -> None:
        found = changes([fix("cats/1.jpg", suggested="cats")], NAMES, LABELS, CLASSES)
        assert not found.labels
        assert not found.excluded

    def test_a_path_into_the_root(self) -> None:
        found = changes([fix("some/where/cats/2.jpg")], NAMES, LABELS, CLASSES, root="some/where")
        assert found.labels == {1: (1, "")}

    def test_the_same_row_twice(self) -> None:
        rows = [fix("cats/1.jpg"), fix("cats/1.jpg", reason="again")]
        assert changes(rows, NAMES, LABELS, CLASSES).labels == {0: (1, "")}

    @pytest.mark.parametrize(
        ("rows", "told"),
        [
            ([fix("cats/11.jpg")], r"no picture .*did you mean \"cats/1.jpg\""),
            ([fix("dogs/1.jpg")], 'given is "cats", but the data says "dogs"'),
            ([fix("cats/1.jpg", suggested="dgos")], 'unknown class "dgos"; did you mean "dogs"'),
            (
                [fix("cats/1.jpg"), fix("cats/1.jpg", suggested="exclude")],
                'one row suggests "dogs", another "exclude"',
            ),
        ],
    )
    def test_rows_that_do_not_fit(self, rows: list[Fix], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            changes(rows, NAMES, LABELS, CLASSES)

    def test_every_row_that_does_not_fit_is_counted(self) -> None:
        rows = [fix(f"nowhere/{number}.jpg") for number in range(9)]
        with pytest.raises(UsageError, match="9 rows do not fit") as raised:
            changes(rows, NAMES, LABELS, CLASSES)
        assert "and 4 more" in raised.value.message

    def test_a_class_that_is_called_exclude(self) -> None:
        with pytest.raises(UsageError, match="also a class"):
            changes([fix("cats/1.jpg", suggested="exclude")], NAMES, LABELS, ("cats", "exclude"))


@pytest.mark.parametrize("read", [read_fixes, read_exclusions])
def test_a_list_that_never_ends_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        read(tmp_path / "pipe")
