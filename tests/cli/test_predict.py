"""`sartor predict` of many pictures: lists, files, interruptions, a full disk."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.cells import cell_len

import sartor
from sartor.console.progress import PlainProgress, predicting_figures, progress_for_stderr
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.events import Predicting

COUNT = 300


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        as_picture(digits.images[number]).save(folder / f"{number}.png")
    return folder


class Stdin:
    """What stdin gives, through a real pipe."""

    def __init__(self, content: bytes) -> None:
        read, write = os.pipe()
        self.buffer = os.fdopen(read, "rb")
        self.closed = False
        with os.fdopen(write, "wb") as stream:
            stream.write(content)

    def isatty(self) -> bool:
        return False


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a list on stdin."""
    opened: list[Stdin] = []

    def give(content: bytes) -> None:
        opened.append(Stdin(content))
        monkeypatch.setattr(sys, "stdin", opened[-1])

    yield give
    for one in opened:
        one.buffer.close()


class TestLists:
    def test_on_stdin_beside_others(
        self, pictures: Path, trained: Path, command: Any, given: Callable[[bytes], None]
    ) -> None:
        given(f"{pictures / '2.png'}\n\n{pictures / 'x.png'}\r\n{pictures / '1.png'}".encode())
        answer = command("predict", trained, pictures / "0.png", "-", "--json")
        assert answer.exit_code == 1
        names = [Path(one["file"]).name for one in answer.document]
        assert names == ["0.png", "2.png", "x.png", "1.png"]
        assert "error" in answer.document[2]

    def test_an_empty_list_is_an_empty_result(
        self, trained: Path, command: Any, given: Callable[[bytes], None]
    ) -> None:
        given(b"")
        answer = command("predict", trained, "-", "--json")
        assert (answer.exit_code, answer.document) == (0, [])
        assert "The list on stdin is empty" in answer.err

    def test_only_one_list(self, trained: Path, command: Any) -> None:
        answer = command("predict", trained, "-", "-")
        assert answer.exit_code == 2
        assert "only once" in answer.err


class TestFiles:
    def test_it_says_how_many_and_names_what_is_bad(
        self, pictures: Path, trained: Path, tmp_path: Path, command: Any
    ) -> None:
        bad = tmp_path / "bad"
        bad.mkdir()
        for number in range(13):
            (bad / f"{number}.png").write_text("hello")
        out = tmp_path / "a.csv"
        answer = command("predict", trained, pictures, bad, "--out", out)
        assert answer.exit_code == 1
        assert answer.out == f"{out}: {COUNT + 13} rows\n"
        assert "predicted 313" in answer.err
        assert "13 without prediction" in answer.err
        faults = [line for line in answer.err.splitlines() if line.startswith("sartor: ")]
        assert len(faults) == 11
        assert "3 more pictures have no prediction" in faults[-1]
        assert command("predict", trained, pictures, "--out", out).exit_code == 2
        assert command("predict", trained, pictures, "--out", out, "--overwrite").exit_code == 0
        answer = command("predict", trained, pictures / "0.png", "--out", out, "--overwrite")
        assert answer.out == f"{out}: 1 row\n"

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--resume"], "--resume means nothing without --out"),
            (["--overwrite"], "--overwrite means nothing without --out"),
            (["--out", "a.txt"], "no suffix of a known format"),
            (["--out", "a.csv", "--json"], "With --out the result is a file"),
            (["--out", "a.csv", "--explain", "b.png"], "With --out the result is a file"),
            (["--out", "a.csv", "--resume", "--overwrite"], "either resumed or overwritten"),
        ],
    )
    def test_flags_that_contradict(
        self, flags: list[str], message: str, pictures: Path, trained: Path, command: Any
    ) -> None:
        answer = command("predict", trained, pictures, *flags)
        assert answer.exit_code == 2
        assert message in answer.err

    def test_a_folder_that_does_not_exist(
        self, pictures: Path, trained: Path, tmp_path: Path, command: Any
    ) -> None:
        answer = command("predict", trained, pictures, "--out", tmp_path / "no" / "a.csv")
        assert answer.exit_code == 1
        assert "no such file or directory" in answer.err


class TestTable:
    def test_rows_come_in_order_and_fit(
        self, pictures: Path, trained: Path, tmp_path: Path, command: Any
    ) -> None:
        text = tmp_path / ("long" * 20 + ".png")
        text.write_text("hello")
        answer = command("predict", trained, text, pictures)
        lines = answer.out.splitlines()
        assert max(map(len, lines)) <= 80
        assert "error: is not a picture that Pillow can read" in lines[2]
        named = [line.split()[0] for line in lines[2:] if not line.startswith(" ")]
        assert [Path(name).name for name in named[1:]] == [f"{n}.png" for n in range(COUNT)]


@pytest.fixture
def begin(trained: Path, start: Callable[..., Any]) -> Callable[..., Any]:
    """Predict a list that goes on until its writer ends it."""

    def run(out: Path, *flags: str) -> subprocess.Popen[Any]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process: subprocess.Popen[Any] = start(
            *("predict", trained, "-", "--out", out, *flags),
            stdin=subprocess.PIPE,
            env=environment,
            # A shell ignores Ctrl-C for what it starts in the background, these tests included.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        return process

    return run


def wait_for_rows(out: Path) -> None:
    """Until some rows are in the file."""
    until = time.monotonic() + 120
    while not (out.exists() and out.stat().st_size > 1_000):
        assert time.monotonic() < until
        time.sleep(0.05)


class TestInterrupted:
    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    )
    def test_it_goes_on_where_it_was(
        self,
        number: int,
        code: int,
        begin: Callable[..., Any],
        pictures: Path,
        trained: Path,
        tmp_path: Path,
        command: Any,
    ) -> None:
        names = [str(pictures / f"{n % COUNT}.png") for n in range(900)]
        out, whole = tmp_path / "a.jsonl", tmp_path / "whole.jsonl"
        process = begin(out)
        # The list does not end, so that it is interrupted in the middle, waiting for more.
        process.stdin.write("\n".join(names) + "\n")
        process.stdin.flush()
        wait_for_rows(out)
        process.send_signal(number)
        assert process.wait(60) == code
        said = process.stderr.read()
        assert ("--resume" in said) == (number != signal.SIGKILL)
        assert "Traceback" not in said
        rows = out.read_bytes().count(b"\n")
        assert 0 < rows < 900
        unfinished = command("predict", trained, *names, "--out", out)
        assert unfinished.exit_code == 2
        assert "is unfinished" in unfinished.err
        resumed = command("predict", trained, *names, "--out", out, "--resume")
        assert resumed.exit_code == 0, resumed.err
        assert "of them from before" in resumed.out
        sartor.predict_to_file(trained, names, whole)
        assert out.read_bytes() == whole.read_bytes()


class TestPipes:
    def test_a_closed_pipe_is_no_error(
        self, pictures: Path, trained: Path, start: Callable[..., Any]
    ) -> None:
        process = start("predict", trained, *[pictures] * 4, "--topk", "1")
        assert "picture" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert "Broken" not in process.stderr.read()

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
    def test_a_full_disk(self, pictures: Path, trained: Path, start: Callable[..., Any]) -> None:
        with Path("/dev/full").open("w") as full:
            process = start("predict", trained, pictures, "--json", stdout=full)
            assert process.wait(60) == 1
        said = process.stderr.read()
        assert "no space left" in said
        assert "Traceback" not in said

    def test_a_file_that_may_not_grow(
        self, pictures: Path, trained: Path, tmp_path: Path, command: Any
    ) -> None:
        resource = pytest.importorskip("resource")
        out, whole = tmp_path / "a.jsonl", tmp_path / "whole.jsonl"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            answer = command("predict", trained, pictures, pictures, pictures, "--out", out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert answer.exit_code == 1
        assert "file too large" in answer.err
        words = trained, pictures, pictures, pictures, "--out"
        assert command("predict", *words, out, "--resume").exit_code == 0
        assert command("predict", *words, whole).exit_code == 0
        assert out.read_bytes() == whole.read_bytes()


def test_json_streams_one_document_on_one_line(pictures: Path, trained: Path, command: Any) -> None:
    answer = command("predict", trained, pictures, "--json")
    assert len(answer.document) == COUNT
    expected = [one.to_json() for one in sartor.predict_stream(trained, pictures)]
    assert answer.document == json.loads(json.dumps(expected))


def test_pictures_in_an_archive_can_be_drawn(
    trained: Path, pictures: Path, tmp_path: Path, command: Any
) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(3):
            archive.write(pictures / f"{number}.png", f"{number}.png")
    out = tmp_path / "seen.png"
    answer = command("predict", trained, tmp_path / "a.zip", "--show-input", out)
    assert answer.exit_code == 0, answer.err
    with Image.open(io.BytesIO(out.read_bytes())) as drawn:
        assert min(drawn.size) > 50


def test_names_of_any_kind_stay_on_their_line(trained: Path, tmp_path: Path, command: Any) -> None:
    names = ["a\nb\t.png", "画" * 40 + ".png", "plain.png"]
    for name in names:
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "bad\n.png").write_text("hello")
    answer = command("predict", trained, tmp_path, "--topk", "1")
    assert answer.exit_code == 1
    lines = answer.out.splitlines()
    assert len(lines) == 2 + 4
    assert max(map(cell_len, lines)) <= 80
    (broken,) = [line for line in lines if "a\\nb\\t.png" in line]
    (wide,) = [line for line in lines if "画画" in line]
    assert cell_len(broken.rpartition("%")[0]) == cell_len(wide.rpartition("%")[0])
    assert [line for line in answer.err.splitlines() if line.startswith("sartor: ")] == [
        f"sartor: {tmp_path}/bad\\n.png is not a picture that Pillow can read. Convert it to PNG "
        "or JPEG."
    ]


class TestProgress:
    EVENT = Predicting(
        done=1_234, total=10_000, unreadable=2, pictures_per_second=987.6, seconds_left=8.9
    )

    def test_in_words(self) -> None:
        assert predicting_figures(self.EVENT) == (
            "1,234/10,000  988/s  0:09 left  2 without prediction"
        )
        uncounted = replace(self.EVENT, total=None, seconds_left=None, unreadable=0)
        assert predicting_figures(uncounted) == "1,234  988/s"

    def test_plain_lines_come_now_and_then_and_at_the_end(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        progress = PlainProgress()
        progress(self.EVENT)
        assert capsys.readouterr().err == ""
        progress(replace(self.EVENT, done=10_000, ended=True, seconds_left=None))
        assert capsys.readouterr().err == "predicted 10,000  988/s  2 without prediction\n"

    def test_a_bar_in_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        progress = progress_for_stderr()
        progress(self.EVENT)
        until = time.monotonic() + 60
        while "0:09 left" not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        assert "predicting" in terminal.getvalue()
        assert "0:09 left" in terminal.getvalue()
        progress(replace(self.EVENT, done=10_000, ended=True, seconds_left=None))
        progress.close()
        assert "predicted 10,000" in terminal.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_come_as_soon_as_their_names_do(
    pictures: Path, trained: Path, start: Callable[..., Any]
) -> None:
    process = start("predict", trained, "-", "--topk", "1", stdin=subprocess.PIPE)
    for number in range(3):
        # The next name is only written once the row of this one was read.
        process.stdin.write(f"{pictures / f'{number}.png'}\n")
        process.stdin.flush()
        while f"{number}.png" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
    process.communicate(timeout=60)
    assert process.returncode == 0
