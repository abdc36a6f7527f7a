"""Lists of pictures: how they are written, which column is which, and what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sartor.data.listing import Listing
from sartor.data.readers.manifest import find_lists, read_table
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import DataError, SartorError, UsageError

Write = Callable[..., Path]
FILES = ("p/1.png", "p/2.png", "p/3.png", "p/with space.png", "p/#4.png", "1.png")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a list beside a few pictures."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(path, "PNG")

    def write(text: str | bytes, name: str = "list.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def read(path: Path, **given: Any) -> Listing:
    found = find_source(DataSettings(source=str(path), **given))
    assert isinstance(found, Listing)
    return found


def labels(listing: Listing) -> dict[str, str]:
    """The class of each file."""
    numbers = listing.labels.tolist()
    names = listing.pictures.names
    return {name: listing.classes[n] for name, n in zip(names, numbers, strict=True)}


PLAIN = {"p/1.png": "cat", "p/2.png": "dog"}


@pytest.mark.parametrize(
    "text",
    [
        "p/1.png,cat\np/2.png,dog\n",
        "cat,p/1.png\ndog,p/2.png\n",
        "file_name,label\np/1.png,cat\np/2.png,dog",
        "Image Path,Class\np/1.png,cat\np/2.png,dog\n",
        "what,where\ncat,p/1.png\ndog,p/2.png\n",
        '"path","label"\r\n"p/1.png","cat"\r\n"p/2.png","dog"\r\n',
        "path\tlabel\np/1.png\tcat\np/2.png\tdog\n",
        "path;label\np/1.png;cat\np/2.png;dog\n",
        "p/1.png|cat\np/2.png|dog\n",
        "p/1.png cat\np/2.png dog\n",
        "p/1.png \t cat  \n\n p/2.png   dog",
        "\ufeffpath,label\np/1.png,cat\np/2.png,dog\n",
        "\ufeffp/1.png cat\np/2.png dog\n",
        "# from the field\n# in spring\np/1.png,cat\np/2.png,dog\n",
        "p/1.png cat\n# the other\np/2.png dog\n",
        "path,label\rp/1.png,cat\rp/2.png,dog\r",
        " path , label \n p/1.png , cat \n p/2.png , dog \n",
        "path,label\n./p/1.png,cat\np//2.png,dog\n,\n",
        "p\\1.png,cat\np\\2.png,dog\n",
        "path,label\np/1.png,cat\np/2.png,dog\np/1.png,cat\n",
        '{"file_name": "p/1.png", "label": "cat"}\n\n{"label": "dog", "file_name": "p/2.png"}\n',
    ],
)
@pytest.mark.parametrize("name", ["list.csv", "list.txt", "list"])
def test_the_usual_ways_to_write_a_list(write: Write, text: str, name: str) -> None:
    assert labels(read(write(text, name))) == PLAIN


def test_a_list_may_be_in_utf_16(write: Write) -> None:
    assert (
        labels(read(write("path\tlabel\np/1.png\tcat\np/2.png\tdog\n".encode("utf-16")))) == PLAIN
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p/with space.png cat\np/1.png dog\n", {"p/with space.png": "cat", "p/1.png": "dog"}),
        ("'p/with space.png' cat\np/1.png dog\n", {"p/with space.png": "cat", "p/1.png": "dog"}),
        ("p/#4.png cat\np/1.png dog\n", {"p/#4.png": "cat", "p/1.png": "dog"}),
        ('p/1.png,"a, b"\np/2.png,"c\nd"\n', {"p/1.png": "a, b", "p/2.png": "c\nd"}),
        ('p/1.png,"say ""x"""\np/2.png,y\n', {"p/1.png": 'say "x"', "p/2.png": "y"}),
        # Every line has one comma as well as one tab: the files decide.
        ("p/1.png\ta, b\np/2.png\tc, d\n", {"p/1.png": "a, b", "p/2.png": "c, d"}),
        # A label that could be the name of a column.
        ("p/1.png,y\np/2.png,n\n", {"p/1.png": "y", "p/2.png": "n"}),
        # Labels that differ in case alone stay apart.
        ("p/1.png,Cat\np/2.png,cat\n", {"p/1.png": "Cat", "p/2.png": "cat"}),
    ],
)
def test_paths_and_labels_that_are_hard_to_tell(
    write: Write, text: str, expected: Mapping[str, str]
) -> None:
    assert labels(read(write(text))) == expected


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (("10", "9", "2"), ("2", "9", "10")),
        (("1.0", "0.0", "10.0"), ("0", "1", "10")),
        (("-1", "1", "0"), ("-1", "0", "1")),
        (("007", "7", "10"), ("007", "7", "10")),
        (("b10", "b9", "a"), ("a", "b9", "b10")),
        (("1.5", "0.5", "2"), ("0.5", "1.5", "2")),
        (("x", "7", "10"), ("7", "10", "x")),
    ],
)
def test_the_order_of_classes(
    write: Write, written: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    text = "".join(f"p/{k}.png,{label}\n" for k, label in enumerate(written, 1))
    listing = read(write(text))
    assert listing.classes == classes
    if "1.0" not in written:
        assert tuple(labels(listing).values()) == written


class TestColumns:
    TABLE = (
        "file_name,kind,patient,part,note\n"
        "p/1.png,cat,7,train,x\n"
        "p/2.png,dog,7,Training,y\n"
        "p/3.png,cat,8,valid,z\n"
        "1.png,dog,9,test,z\n"
    )

    def test_by_name(self, write: Write) -> None:
        listing = read(
            write(self.TABLE), label_column="kind", group_column="patient", split_column="part"
        )
        assert listing.classes == ("cat", "dog")
        assert listing.groups == ("7", "7", "8", "9")
        assert listing.val is not None
        assert listing.test is not None
        assert (listing.val.tolist(), listing.test.tolist()) == ([2], [3])

    def test_what_is_not_said_is_advised(self, write: Write) -> None:
        listing = read(write(self.TABLE), label_column="kind")
        assert listing.groups is None
        assert any("--group-column patient" in remark for remark in listing.remarks)

    def test_group_and_split_are_known_by_name(self, write: Write) -> None:
        rows = "p/1.png,a,x,train\np/2.png,,y,test\np/3.png,b,y,train\n"
        listing = read(write(f"path,group,label,split\n{rows}"))
        assert listing.groups == ("a", "p/2.png", "b")
        assert any("1 row without a group" in remark for remark in listing.remarks)
        assert listing.val is None
        assert listing.test is not None
        assert listing.test.tolist() == [1]

    def test_a_split_by_other_words_is_not_used_in_silence(self, write: Write) -> None:
        path = write("path,label,split\np/1.png,x,fold1\np/2.png,y,fold2\n")
        listing = read(path)
        assert listing.test is None
        assert any("split says other words" in remark for remark in listing.remarks)
        with pytest.raises(DataError, match="says fold1, fold2, which is not a split"):
            read(path, split_column="split")

    def test_by_number_without_header(self, write: Write) -> None:
        path = write("x,p/1.png,1,red\ny,p/2.png,1,blue\n")
        assert read(path, label_column="4").classes == ("blue", "red")
        with pytest.raises(UsageError, match=r"label: column 1, column 3, column 4"):
            read(path)

    def test_two_columns_of_one_name(self, write: Write) -> None:
        path = write("path,label,label\np/1.png,a,a\np/2.png,b,b\n")
        for chosen in (None, "label"):
            with pytest.raises(UsageError, match=r"label, label|several columns called label"):
                read(path, label_column=chosen)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"label_column": "knd"}, 'unknown column "knd"; did you mean "kind"'),
            (
                {"image_column": "kind", "label_column": "kind"},
                "cannot be image_column and",
            ),
            ({}, "unclear which column .* label: kind, patient, note"),
            (
                {"label_column": "kind", "split_column": "note"},
                "x, y, z, which is not a split",
            ),
        ],
    )
    def test_faults(self, write: Write, given: dict[str, str], message: str) -> None:
        with pytest.raises(SartorError, match=message):
            read(write(self.TABLE), **given)

    def test_a_number_for_a_list_with_header_is_a_name(self, write: Write) -> None:
        with pytest.raises(UsageError, match='unknown column "2"'):
            read(write(self.TABLE), label_column="2")

    def test_a_number_beyond_the_columns(self, write: Write) -> None:
        with pytest.raises(UsageError, match='no header, so it has no column "9"'):
            read(write("p/1.png,x\np/2.png,y\n"), label_column="9")


class TestPaths:
    def test_another_root(self, write: Write, tmp_path: Path) -> None:
        path = write("1.png,cat\n2.png,dog\n")
        with pytest.raises(DataError, match=r"Missing are 1 of the 2 files .*: 2\.png") as caught:
            read(path)
        assert "--image-root" in caught.value.hint
        listing = read(path, image_root=str(tmp_path / "p"))
        assert labels(listing) == {"1.png": "cat", "2.png": "dog"}
        assert listing.pictures.read(0) == (tmp_path / "p/1.png").read_bytes()

    def test_up_and_absolute_paths_lead_out_of_the_folder(
        self, write: Write, tmp_path: Path
    ) -> None:
        (tmp_path / "lists").mkdir()
        path = write(f"../p/1.png,cat\n{tmp_path}/p/2.png,dog\n", "lists/all.csv")
        listing = read(path)
        assert labels(listing) == {"../p/1.png": "cat", f"{tmp_path}/p/2.png": "dog"}
        assert all(listing.pictures.read(index) for index in range(2))

    def test_all_missing_files_are_named_at_once(self, write: Write) -> None:
        text = "p/1.png,x\n" + "".join(f"p/gone{k}.png,y\n" for k in range(12))
        with pytest.raises(DataError, match="12 of the 13 files") as caught:
            read(write(text))
        assert "p/gone9.png and 2 more" in caught.value.message

    def test_a_first_picture_that_is_missing_is_no_header(self, write: Write) -> None:
        with pytest.raises(DataError, match=r"p/gone\.png"):
            read(write("p/gone.png,label\np/1.png,x\np/2.png,y\n"))

    def test_splits_of_the_folders_that_paths_name(self, write: Write, tmp_path: Path) -> None:
        for name in ("all/train/1.png", "all/train/2.png", "all/val/1.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        listing = read(write("all/train/1.png a\nall/train/2.png b\nall/val/1.png a\n"))
        assert listing.val is not None
        assert listing.val.tolist() == [2]
        assert listing.test is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("path,label\n", "has a header and no rows"),
        ("# nothing\n", "Line 1 .* has no path and label"),
        ("p/1.png\np/2.png\n", r"has no column for the label"),
        ("p/1.png cat\np/2.png\n", r"Line 2 .* has no path and label: p/2\.png"),
        ("p/1.png,cat\np/2.png,dog,x\np/3.png,cat\n", "Line 2 .* has 3 columns where .* have 2"),
        ("path,label\np/1.png,cat\np/2.png,\n", "1 row .* without a label: line 3"),
        ("path,label\np/1.png,cat\n,dog\n", "1 row .* without a path: line 3"),
        ('p/1.png,"cat\np/2.png,dog\n', "cannot be read beyond line 1"),
        ("p/1.png,cat\np/2.png,dog\np/1.png,dog\n", r"p/1\.png twice, with the label cat and dog"),
        ("p/1.png,cat\np/2.png,cat\n", "Every picture of .* has the same label: cat"),
        (b"path,label\np/1.png,caf\x81\n", "not text in UTF-8: byte 23"),
        (b"p/1.png,a\0b\n", "holds zero bytes"),
        ('{"file_name": "p/1.png", "label": ["a", "b"]}\n', "labels .* are lists"),
        ('{"file_name": "p/1.png", "label": "a"\n', "Not JSON: line 1"),
        ('{"file_name": "p/1.png", "label": "a"}\n[1]\n', "No JSON object: line 2"),
        ('{"label": "a", "label": "b"}\n', "a key occurs twice"),
        ('{"label": NaN}\n', "NaN is not a value"),
        ('{"file_name": "p/1.png"}\n', "no column for the label"),
        ('{"file_name": "p/1.png", "label": "a"}\n{"file_name": "p/2.png"}\n', "without a label"),
        ('{"a":' * 5_000, "Not JSON"),
        ("{" * 5_000, "Line 1 .* has no path and label"),
        ("path,label,split\np/1.png,a,test\np/2.png,b,val\n", "no pictures for training"),
        ("p/1.png," + "x" * 2_000 + "\np/2.png,b\n", "label .* has 2,000 characters"),
        ("p/1.png,a\np/2.png," + "x" * 200_000 + "\n", "field larger than"),
    ],
)
def test_faults_of_a_list_are_named(write: Write, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write(text))
    assert caught.value.hint
    assert len(caught.value.message) < 1_000


def test_labels_that_are_quantities_are_refused(write: Write, tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        (tmp_path / f"q{number}.png").touch()
        rows.append(f"q{number}.png,{number // 2 / 7}\n")
    with pytest.raises(DataError, match="quantities"):
        read(write("".join(rows)))


def test_a_label_for_each_picture_is_refused(write: Write, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"q{number}.png").touch()
    with pytest.raises(DataError, match="a label of its own: id0, id1, id2"):
        read(write("".join(f"q{number}.png,id{number}\n" for number in range(12))))


class TestWhichFiles:
    def test_metadata_comes_first(self) -> None:
        lists = find_lists(["1.png", "metadata.csv", "train.csv", "notes.txt"])
        assert lists.sure == {"metadata.csv": None}
        assert lists.of_hub

    def test_lists_of_splits(self) -> None:
        paths = ["set/a.png", "set/train.txt", "set/val_list.txt", "set/test-labels.csv"]
        assert find_lists(paths).sure == {
            "set/train.txt": "train",
            "set/val_list.txt": "val",
            "set/test-labels.csv": "test",
        }

    def test_what_is_no_list(self) -> None:
        paths = ["README.txt", "LICENSE.txt", "classes.txt", "requirements.txt", "a/b/metadata.csv"]
        assert find_lists(paths) == ({}, False, ())

    def test_a_folder_of_loose_pictures_with_one_list(self, write: Write) -> None:
        path = write("p/1.png,cat\np/2.png,dog\n", "animals.csv")
        assert labels(read(path.parent)) == PLAIN

    def test_several_lists_are_no_list(self, write: Write) -> None:
        write("p/1.png,cat\np/2.png,dog\n", "one.csv")
        folder = write("p/1.png,cat\np/2.png,dog\n", "two.csv").parent
        with pytest.raises(DataError, match=r"several lists: one\.csv, two\.csv"):
            read(folder)


# What a file may be called and a class may be named; "/" begins a folder, "." hides.
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters='/\\.#"'),
    min_size=1,
    max_size=8,
)
LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(
    str.strip
)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.dictionaries(NAMES, LABELS.filter(bool), min_size=2, max_size=9),
    delimiter=st.sampled_from(",\t;|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    header=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_what_a_csv_writer_writes_is_read_back(
    rows: dict[str, str], delimiter: str, quoting: Any, header: bool, end: str, bom: bool
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)
    expected = [(f"{name}.png", label) for name, label in rows.items()]
    writer.writerows([("path", "label"), *expected] if header else expected)
    content = stream.getvalue().encode("utf-8-sig" if bom else "utf-8")
    files = {path for path, _ in expected}
    table = read_table(content, source="list", holds=files.__contains__)
    assert table.header == (("path", "label") if header else None)
    assert list(table.rows) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["file_name", "label", "group", "extra"]),
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            min_size=1,
        ),
        min_size=1,
        max_size=9,
    )
)
def test_what_json_writes_is_read_back(documents: list[dict[str, Any]]) -> None:
    content = "".join(f"{json.dumps(one)}\n" for one in documents).encode()
    table = read_table(content, source="list", holds=lambda _: False)
    assert table.header is not None
    for document, row in zip(documents, table.rows, strict=True):
        cells = dict(zip(table.header, row, strict=True))
        for key, value in document.items():
            if isinstance(value, str):
                assert cells[key] == value
            elif value is None:
                assert cells[key] == ""
            else:
                assert json.loads(cells[key]) == value


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=200)
    | st.text(st.sampled_from('a.,;\t "\n\r{}[]:|\\#0'), max_size=60).map(str.encode)
)
def test_any_bytes_are_a_table_or_refused(content: bytes) -> None:
    try:
        table = read_table(content, source="list", holds=lambda path: path == "a.a")
    except DataError:
        return
    assert table.rows
    assert len({len(row) for row in table.rows}) == 1
    assert len(table.lines) == len(table.rows)
    assert table.width >= 1
