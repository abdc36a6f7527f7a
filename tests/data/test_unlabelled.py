"""Pictures without labels: what a name leads to, in which order, and what is said of the rest."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from sartor.data.unlabelled import NameList, Unlabelled
from sartor.errors import PictureError


def png(level: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), level).save(stream, "PNG")
    return stream.getvalue()


def names(*named: Any, **choices: Any) -> list[str]:
    return [one.name for one in Unlabelled([str(one) for one in named], **choices)]


def faults(*named: Any, **choices: Any) -> dict[str, str]:
    """Why what is named has no content, by its name."""
    found, hints = {}, []
    for name, content, _ in Unlabelled([str(one) for one in named], **choices):
        try:
            content()
        except PictureError as error:
            found[name] = error.message
            hints.append(error.hint)
    assert all(hints)
    return found


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("img10.png", "img2.PNG", "img1.jpg", ".hidden.png", "notes.txt", "paper.pdf"):
            (tmp_path / name).touch()
        (tmp_path / "more.png").mkdir()
        (tmp_path / "more.png" / "img3.png").touch()
        return tmp_path

    def tails(self, *named: object) -> list[str]:
        return [Path(name).name for name in names(*named)]

    def test_in_a_folder_in_natural_order(self, folder: Path) -> None:
        assert self.tails(folder) == ["img1.jpg", "img2.PNG", "img10.png", "img3.png"]

    def test_by_pattern_in_natural_order(self, folder: Path) -> None:
        assert self.tails(folder / "img*") == ["img1.jpg", "img2.PNG", "img10.png"]
        assert self.tails(folder / "**" / "*.png") == ["img10.png", "img3.png"]

    def test_names_are_as_short_as_they_were_given(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        assert names("img?.*") == ["img1.jpg", "img2.PNG"]
        assert names(".") == ["img1.jpg", "img2.PNG", "img10.png", "more.png/img3.png"]
        assert names("./more.png/") == ["more.png/img3.png"]

    def test_what_is_named_twice_comes_twice_and_in_the_order_of_naming(self, folder: Path) -> None:
        assert self.tails(folder / "img2.PNG", folder / "img1.jpg", folder / "img2.PNG") == [
            *("img2.PNG", "img1.jpg", "img2.PNG")
        ]

    def test_folders_in_folders_and_links(self, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        root = tmp_path / "root"
        for name in ("dog/10.png", "dog/2.png", "cat/a/1.png", ".hidden/3.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        elsewhere.mkdir()
        (elsewhere / "5.png").touch()
        (root / "cat" / "again").symlink_to(root)
        (root / "emu").symlink_to(elsewhere)
        assert self.tails(root) == ["1.png", "2.png", "10.png", "5.png"]

    def test_a_file_whose_name_looks_like_a_pattern(self, folder: Path) -> None:
        (folder / "odd[1]*.png").touch()
        assert self.tails(folder / "odd[1]*.png") == ["odd[1]*.png"]

    @pytest.mark.parametrize("argument", ["more.png/*.jpg", "empty", "nothing*"])
    def test_no_picture(self, folder: Path, argument: str) -> None:
        (folder / "empty").mkdir()
        (found,) = faults(folder / argument).items()
        assert found[0] == str(folder / argument)
        assert "No picture at" in found[1]

    @pytest.mark.parametrize(
        ("name", "reason"), [("x" * 300 + ".png", "too long"), ("a\0b.png", "NUL")]
    )
    def test_a_name_that_no_file_can_have(self, name: str, reason: str) -> None:
        assert reason in faults(name)[name]

    @pytest.mark.skipif(os.geteuid() == 0, reason="needs another user: root may read every folder")
    def test_a_folder_that_may_not_be_read_is_in_its_place(self, folder: Path) -> None:
        closed = folder / "closed"
        closed.mkdir()
        closed.chmod(0)
        try:
            assert "permission" in faults(folder)[str(closed)]
            assert self.tails(folder)[:2] == ["img1.jpg", "img2.PNG"]
        finally:
            closed.chmod(0o755)

    def test_a_folder_that_vanishes_or_cannot_be_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As above, also where root runs the tests."""
        scandir = os.scandir

        def refuse(path: Any) -> Any:
            if str(path).endswith("more.png"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        found = names(folder)
        assert found[-1] == str(folder / "more.png")
        assert Unlabelled([str(folder)]).count(lambda: False) == len(found) == 4

    @pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
    def test_names_that_are_not_text(self, tmp_path: Path) -> None:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff\n.png")).write_bytes(png())
        (one,) = Unlabelled([tmp_path])
        assert one.name == f"{tmp_path}/\\xff\n.png"
        assert one.content() == png()

    def test_a_pipe_does_not_keep_us_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "pipe" in faults(tmp_path / "pipe")[str(tmp_path / "pipe")]


class TestArchives:
    @pytest.fixture
    def content(self, tmp_path: Path) -> Path:
        root = tmp_path / "content"
        for number in (10, 2):
            (root / "in").mkdir(parents=True, exist_ok=True)
            (root / "in" / f"{number}.png").write_bytes(png(number))
        (root / "in" / "without").write_bytes(png(99))
        (root / "notes.txt").write_text("no picture")
        return root

    @pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
    def test_of_each_kind(self, kind: str, content: Path, tmp_path: Path) -> None:
        path = shutil.make_archive(str(tmp_path / "packed"), kind, content)
        found = Unlabelled([path])
        assert found.count(lambda: False) == 3
        assert {one.name: one.content() for one in found} == {
            f"{path}/in/2.png": png(2),
            f"{path}/in/10.png": png(10),
            f"{path}/in/without": png(99),
        }

    def test_whatever_it_is_called_and_by_pattern(self, content: Path, tmp_path: Path) -> None:
        path = shutil.make_archive(str(tmp_path / "packed"), "tar", content)
        Path(path).rename(tmp_path / "packed.data")
        assert len(names(tmp_path / "*.data")) == 3

    def test_a_folder_says_of_archives_that_they_must_be_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").touch()
        (found,) = Unlabelled([tmp_path])
        with pytest.raises(PictureError, match="No picture at") as caught:
            found.content()
        assert "archives" in caught.value.hint

    def test_a_damaged_member_is_in_its_place(self, tmp_path: Path) -> None:
        path = tmp_path / "packed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(3):
                archive.writestr(f"{number}.png", png(number))
        whole = bytearray(path.read_bytes())
        whole[whole.index(png(1)) + 20] ^= 255
        path.write_bytes(whole)
        assert list(faults(path)) == [f"{path}/1.png"]

    def test_a_damaged_or_empty_or_hostile_archive_is_one_fault(self, tmp_path: Path) -> None:
        cut, empty, outside = (tmp_path / name for name in ("cut.tar", "empty.zip", "out.tar"))
        with tarfile.open(outside, "w") as archive:
            archive.addfile(tarfile.TarInfo("../a.png"))
        cut.write_bytes(outside.read_bytes()[:600])
        with zipfile.ZipFile(empty, "w") as packed:
            packed.writestr("notes.txt", "no picture")
        found = faults(cut, empty, outside)
        assert list(found) == [str(cut), str(empty), str(outside)]
        assert "No picture in" in found[str(empty)]
        assert "points outside" in found[str(outside)]
        nested = tmp_path / "nested.zip"
        with zipfile.ZipFile(nested, "w") as packed:
            packed.write(empty, "empty.zip")
        (only,) = Unlabelled([str(nested)])
        with pytest.raises(PictureError) as refused:
            only[1]()
        assert "It holds archives" in refused.value.hint


class TestParquet:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        cells = [{"bytes": png(level), "path": f"{level}.png"} for level in range(5)]
        cells[3] = {"bytes": None, "path": "3.png"}
        table = pyarrow.table({"image": cells, "label": list(range(5))})
        parquet.write_table(table, tmp_path / "set.parquet", row_group_size=2)
        return tmp_path / "set.parquet"

    def test_a_row_is_called_by_its_number(self, path: Path) -> None:
        found = Unlabelled([path])
        assert found.count(lambda: False) == 5
        assert [one.name for one in found] == [f"{path}/{row}" for row in range(5)]
        contents = [one.content() for row, one in enumerate(found) if row != 3]
        assert contents == [png(level) for level in (0, 1, 2, 4)]
        assert faults(path) == {f"{path}/3": f"{path}/3 is empty."}

    def test_the_column_may_be_named(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        path = tmp_path / "two.parquet"
        columns = {"left": [png(1)], "right": [png(2)]}
        parquet.write_table(pyarrow.table(columns), path)
        (one,) = Unlabelled([path], image_column="right")
        assert one.content() == png(2)
        from sartor.errors import UsageError

        with pytest.raises(UsageError, match="unclear which column"):
            names(path)
        with pytest.raises(UsageError, match="middle"):
            names(path, image_column="middle")

    def test_paths_in_cells_begin_in_its_folder(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        (tmp_path / "a.png").write_bytes(png(7))
        path = tmp_path / "paths.parquet"
        parquet.write_table(pyarrow.table({"image": ["a.png", "", "b.png"]}), path)
        found = list(Unlabelled([path]))
        assert [one.name for one in found] == [
            str(tmp_path / "a.png"),
            f"{path}/1",
            str(tmp_path / "b.png"),
        ]
        assert found[0].content() == png(7)
        assert list(faults(path)) == [f"{path}/1", str(tmp_path / "b.png")]


class TestLists:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
            (b"a.png\r\n\r\nb.png\r\n", ["a.png", "b.png"]),
            (b"\xef\xbb\xbfa.png\nb.png", ["a.png", "b.png"]),
            (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
            (b"a.png", ["a.png"]),
            (b"\n\n", []),
            (b"", []),
        ],
    )
    def test_lines_and_nuls(self, content: bytes, expected: list[str]) -> None:
        assert list(NameList(io.BytesIO(content))) == expected

    def test_names_longer_than_a_block(self) -> None:
        many = [f"{number:07}/{'x' * 60}.png" for number in range(5_000)]
        for end in ("\n", "\0"):
            assert list(NameList(io.BytesIO(end.join(many).encode()))) == many

    def test_it_ends_where_nobody_waits_any_more(self) -> None:
        left = [True, False]
        stream = io.BytesIO(b"a.png\n" * 50_000)
        assert 0 < len(list(NameList(stream, ready=lambda: left.pop(0)))) < 50_000

    def test_it_knows_which_names_are_at_hand(self) -> None:
        blocks = [b"a\nb\n\nc", b"d\n", b""]
        read = lambda _most: blocks.pop(0)  # noqa: E731
        stream: Any = SimpleNamespace(read=read, read1=read)
        names = NameList(stream)
        assert [(name, names.at_hand) for name in names] == [("a", 1), ("b", 0), ("cd", 0)]

    def test_what_follows_is_known_only_after_a_single_file(self, tmp_path: Path) -> None:
        for name in ("a.png", "in/b.png", "in/c.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("L", (4, 4)).save(tmp_path / name)
        named = [tmp_path / "a.png", tmp_path / "in", f"{tmp_path}/a*.png", tmp_path / "none.png"]
        pictures = Unlabelled(iter(named), idle=lambda: True)
        asked = [(Path(one.name).name, pictures.idle()) for one in pictures]
        assert asked == [
            *[("a.png", True), ("b.png", False), ("c.png", False)],
            *[("a.png", False), ("none.png", True)],
        ]

    def test_an_iterator_cannot_be_counted(self) -> None:
        assert Unlabelled(iter(["a.png"])).count(lambda: False) is None
        assert Unlabelled(["a.png", "b.png"]).count(lambda: False) == 2
        assert Unlabelled(["a.png", "b.png"]).count(lambda: True) is None
