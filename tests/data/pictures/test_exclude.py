"""The list of what is left out: read, written, matched."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.exclude import exclusion_list, match, read_exclusions, without
from sartor.errors import SartorWarning, UsageError

NAMES = ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg")


def numbered() -> Dataset:
    return Dataset(
        np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2),
        np.arange(10) % 2,
        test=np.array([9, 3]),
        val=np.array([1]),
        groups=tuple("aabbccddee"),
    )


class TestList:
    def test_names_reasons_and_remarks(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_bytes(b"\xef\xbb\xbf# mine\r\n\r\na/1.jpg\tblurred\r\n b/2.jpg \n17\n")
        assert read_exclusions(path) == {"a/1.jpg": "blurred", "b/2.jpg": "", "17": ""}

    @given(
        st.dictionaries(
            st.text(st.characters(exclude_characters="\0"), min_size=1).filter(str.strip),
            st.text().map(lambda text: " ".join(text.encode("utf-8", "replace").decode().split())),
        )
    )
    def test_is_read_back_as_written(self, entries: dict[str, str]) -> None:
        with tempfile.NamedTemporaryFile("wb") as file:
            file.write(exclusion_list(entries).encode())
            file.flush()
            assert read_exclusions(Path(file.name)) == entries

    def test_a_name_of_strange_bytes(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9.jpg")
        path = tmp_path / "list.txt"
        path.write_text(exclusion_list({name: "is empty."}))
        assert read_exclusions(path) == {name: "is empty."}

    @pytest.mark.parametrize("line", ['"unclosed\n', '"a" b\n'])
    def test_a_damaged_line_is_named(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "list.txt"
        path.write_text("fine.jpg\n" + line)
        with pytest.raises(UsageError, match=r"list\.txt, line 2: .* is damaged"):
            read_exclusions(path)

    def test_a_list_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"Cannot read the list .*nothing\.txt: no such file"):
            read_exclusions(tmp_path / "nothing.txt")


class TestMatch:
    @pytest.mark.parametrize("entry", ["cats/2.jpg", "./cats//2.jpg", "{}/cats/2.jpg"])
    def test_by_name_or_path(self, tmp_path: Path, entry: str) -> None:
        entries = {entry.format(tmp_path): "why"}
        assert match(entries, NAMES, root=str(tmp_path), known={}) == {1: "why"}

    def test_by_path_from_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        entries = {"pets/dogs/1.jpg": ""}
        assert match(entries, NAMES, root="pets", known={}) == {2: ""}
        assert match(entries, NAMES, root=str(tmp_path / "pets"), known={}) == {2: ""}

    def test_what_matches_nothing_is_warned_of_with_the_nearest(self) -> None:
        entries = {"cats/1.jpg": "", "cat/2.jpg": "", "fish/7.jpg": ""}
        with pytest.warns(
            SartorWarning, match=r'\(did you mean "cats/2\.jpg"\?\), "fish/7\.jpg"\.'
        ):
            assert match(entries, NAMES, known={}) == {0: ""}

    def test_a_list_of_another_dataset_is_an_error(self) -> None:
        with pytest.raises(UsageError, match="Nothing to exclude was found"):
            match({"fish/7.jpg": "", "fish/8.jpg": ""}, NAMES, known={})

    def test_what_was_left_out_before_needs_no_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert match({"gone.jpg": ""}, NAMES, known={"gone.jpg": ""}) == {}


class TestNumbers:
    """Where there are no files an image goes by its number."""

    def test_images_go_with_all_that_belongs_to_them(self) -> None:
        whole = numbered()
        some = without(whole, {"0": "wrong label", "3": ""})
        kept = [1, 2, 4, 5, 6, 7, 8, 9]
        assert np.array_equal(some.images, whole.images[kept])
        assert some.labels.tolist() == whole.labels[kept].tolist()
        assert some.groups is not None
        assert "".join(some.groups) == "abccddee"
        assert some.test is not None
        assert some.val is not None
        assert [kept[index] for index in some.test] == [9]
        assert [kept[index] for index in some.val] == [1]
        assert some.excluded == {"0": "wrong label", "3": ""}
        assert some.fingerprint != whole.fingerprint

    def test_numbers_stay_those_of_the_source(self) -> None:
        """What is left keeps its name, so that a second list is of the same numbers."""
        once = without(numbered(), {"0": ""})
        twice = without(once, {"0": "", "5": ""})
        both = without(numbered(), {"0": "", "5": ""})
        assert np.array_equal(twice.images, both.images)
        assert twice.fingerprint == both.fingerprint

    def test_of_a_named_set(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text("17\tlooks like a 3\n1796\n")
        whole, some = sartor.load("digits"), sartor.load("digits", exclude=str(path))
        assert len(some) == len(whole) - 2
        assert np.array_equal(some.images, np.delete(whole.images, [17, 1796], axis=0))
