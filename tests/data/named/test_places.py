"""The places: each delivers what it has, and gives the reason when it cannot."""

from __future__ import annotations

import io
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sartor.data.named.places import (
    DebianPackage,
    LocalFolder,
    NpmPackage,
    Place,
    WebMirror,
    members_of_tar,
)
from sartor.errors import UnavailableError


def reason(place: Place, *names: str) -> str:
    """Why the place has not the files."""
    with pytest.raises(UnavailableError) as caught:
        place.fetch(names)
    assert caught.value.message.endswith(".")
    return caught.value.message


class TestLocalFolder:
    def test_prefers_the_plain_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"plain")
        (tmp_path / "a.gz").write_bytes(b"compressed")
        (tmp_path / "b.gz").write_bytes(b"as it is")
        assert LocalFolder(tmp_path).fetch(["a", "b"]) == {"a": b"plain", "b": b"as it is"}

    def test_reasons(self, tmp_path: Path) -> None:
        assert reason(LocalFolder(tmp_path / "none"), "a") == "there is no such folder."
        assert reason(LocalFolder(tmp_path), "a") == "it holds no a."

    def test_its_name(self) -> None:
        assert str(LocalFolder(Path("/data"))) == "the folder /data"


class Mirror(BaseHTTPRequestHandler):
    """A web server with the vices of web servers."""

    asked: ClassVar[list[str]] = []
    patience = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        getattr(self, "send_" + self.path.rpartition("/")[2].partition(".")[0])()

    def send(self, content: bytes, length: int | None = None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def send_good(self) -> None:
        self.send(b"content", 7)

    def send_unannounced(self) -> None:
        self.send(b"content")

    def send_missing(self) -> None:
        self.send_error(404)

    def send_moved(self) -> None:
        self.send_response(302)
        self.send_header("Location", "good")
        self.end_headers()

    def send_astray(self) -> None:
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.end_headers()

    def send_short(self) -> None:
        self.send(b"cont", 7)

    def send_huge(self) -> None:
        self.send(b"", 10**12)

    def send_endless(self) -> None:
        self.send(bytes(100_000))

    def send_nonsense(self) -> None:
        self.wfile.write(b"nonsense\r\n\r\n")

    def send_silence(self) -> None:
        self.patience.wait(120)

    def send_trickle(self) -> None:
        self.send(b"", 1000)
        while not self.patience.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies
    monkeypatch.setattr(Mirror, "asked", [])
    monkeypatch.setattr(Mirror, "patience", threading.Event())
    # The clients that give up break the connection, which is no news.
    monkeypatch.setattr(ThreadingHTTPServer, "handle_error", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/sets"
        Mirror.patience.set()
        server.shutdown()
        thread.join()


class TestWebMirror:
    def test_delivers(self, url: str) -> None:
        delivered = WebMirror(url).fetch(["good", "unannounced", "moved"])
        assert delivered == dict.fromkeys(["good", "unannounced", "moved"], b"content")

    def test_appends_its_suffix(self, url: str) -> None:
        assert WebMirror(url, suffix=".gz").fetch(["good"]) == {"good": b"content"}
        assert Mirror.asked == ["/sets/good.gz"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("missing", "missing: 404 Not Found."),
            ("short", "short broke off after 4 of 7 bytes."),
            ("huge", "huge is larger than 1,000 bytes."),
            ("endless", "endless is larger than 1,000 bytes."),
            ("nonsense", "nonsense: nonsense"),
            ("silence", "silence: timed out."),
            ("trickle", "trickle took longer than 0.2 seconds."),
            ("astray", "is not allowed"),
        ],
    )
    def test_reasons(self, url: str, name: str, said: str) -> None:
        silence = 0.3 if name == "silence" else 60
        total = 0.2 if name == "trickle" else 60
        mirror = WebMirror(url, max_bytes=1000, silence_seconds=silence, total_seconds=total)
        assert said in reason(mirror, name)

    def test_goes_through_a_proxy(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", url.removesuffix("/sets"))
        mirror = WebMirror("http://mirror.invalid/sets")
        assert mirror.fetch(["good"]) == {"good": b"content"}
        assert Mirror.asked == ["http://mirror.invalid/sets/good"]

    def test_a_closed_network_answers_at_once(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            mirror = WebMirror(f"http://127.0.0.1:{deaf.getsockname()[1]}", silence_seconds=60)
            started = time.monotonic()
            assert reason(mirror, "good") == "connection refused."
            assert time.monotonic() - started < 30

        def unknown_host(*_: Any, **__: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
        assert reason(WebMirror(url), "good") == "name or service not known."


def tar_of(files: dict[str, bytes], mode: Any = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


PACKAGE = {"package/package.json": b"{}", "package/data/a": b"aa", "package/data/b.gz": b"bb"}


class TestTar:
    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
    def test_finds_files_in_any_folder(self, mode: str) -> None:
        archive = io.BytesIO(tar_of(PACKAGE, mode))
        assert members_of_tar(archive, ["b", "a"]) == {"a": b"aa", "b": b"bb"}

    def test_takes_files_only(self) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE):
                member = tarfile.TarInfo("a")
                member.type, member.linkname = kind, "/etc/passwd"
                tar.addfile(member)
        buffer.seek(0)
        with pytest.raises(UnavailableError, match="holds no a"):
            members_of_tar(buffer, ["a"])

    def test_every_truncation_has_its_reason(self) -> None:
        whole = tar_of({"other": bytes(600), "a": b"aa"})
        refused = 0
        for length in range(len(whole)):
            try:
                assert members_of_tar(io.BytesIO(whole[:length]), ["a"]) == {"a": b"aa"}
            except UnavailableError:
                refused += 1
        assert refused > 50


Tool = Callable[[str, str], None]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Makes an executable of a shell script; no other is to be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


def until(happened: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not happened() and time.monotonic() < give_up:
        time.sleep(0.01)


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


NPM = NpmPackage("sets", "1.0")
DEBIAN = DebianPackage("dataset-sets")


class TestNpmPackage:
    def test_reads_the_archive(self, tool: Tool, tmp_path: Path) -> None:
        (tmp_path / "sets.tgz").write_bytes(tar_of(PACKAGE))
        tool("npm", f'echo "$@" >{tmp_path}/said; /bin/cp {tmp_path}/sets.tgz .')
        assert NPM.fetch(["a", "b"]) == {"a": b"aa", "b": b"bb"}
        assert (tmp_path / "said").read_text().startswith("pack sets@1.0 --ignore-scripts ")
        assert reason(NPM, "a", "c") == "it holds no c."

    def test_leaves_nothing_behind(
        self, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        tool("npm", "echo > some-file; exit 1")
        reason(NPM, "a")
        assert list(scratch.iterdir()) == []

    @pytest.mark.usefixtures("tool")
    def test_without_npm(self) -> None:
        assert reason(NPM, "a") == "npm is not installed."

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("exit 3", "npm failed: exit code 3."),
            ("echo 'warning' >&2; echo 'gone.' >&2; exit 1", "npm failed: gone."),
            (
                "echo 'npm error code E404' >&2; echo 'npm error more' >&2; echo >&2; exit 1",
                "npm failed: npm error code E404.",
            ),
            ("exit 0", "the tool ended without error, but delivered no package."),
            ("echo garbage > x.tgz", "its archive is damaged: "),
            ("read line && exit 0; echo closed >&2; exit 1", "npm failed: closed."),
        ],
    )
    def test_reasons(self, tool: Tool, script: str, said: str) -> None:
        tool("npm", script)
        assert reason(NPM, "a").startswith(said)

    def test_an_executable_that_is_none(self, tool: Tool, tmp_path: Path) -> None:
        tool("npm", "")
        (tmp_path / "bin" / "npm").write_bytes(b"\x7fELF")
        assert reason(NPM, "a").startswith("npm does not start: ")

    def test_a_hanging_tool_is_ended_with_its_children(
        self, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tool("npm", f"/bin/sleep 600 & echo $! > {tmp_path}/child; wait")
        wait = subprocess.Popen.wait

        def until_it_hangs(process: Any, timeout: float | None = None) -> int:
            until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
            return wait(process, timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", until_it_hangs)
        hanging = NpmPackage("sets", "1.0", seconds=0.5)
        assert reason(hanging, "a") == "npm did not end within 0.5 seconds."
        child = int((tmp_path / "child").read_text())
        until(lambda: not is_alive(child))
        assert not is_alive(child)


class TestDebianPackage:
    def test_reads_the_package(self, tool: Tool, tmp_path: Path) -> None:
        (tmp_path / "sets.tar").write_bytes(tar_of({"./usr/share/a.gz": b"aa"}, "w"))
        tool("apt-get", f'echo "$@" >>{tmp_path}/said; echo > sets.deb')
        tool("dpkg-deb", f"/bin/cat {tmp_path}/sets.tar")
        assert DEBIAN.fetch(["a"]) == {"a": b"aa"}
        said = (tmp_path / "said").read_text().splitlines()
        assert said == ["-o Acquire::Retries=1 download dataset-sets"]

    def test_fetches_lists_of_its_own_if_need_be(self, tool: Tool, tmp_path: Path) -> None:
        (tmp_path / "sets.tar").write_bytes(tar_of({"a": b"aa"}, "w"))
        tool(
            "apt-get",
            f"""
            echo "$@" >>{tmp_path}/said
            case "$*" in
                *" -c "*" update") /bin/cp apt.conf {tmp_path}/used; exit 0;;
                *" -c "*" download dataset-sets") echo > sets.deb; exit 0;;
            esac
            echo "E: Unable to locate package" >&2; exit 100
            """,
        )
        tool("dpkg-deb", f"/bin/cat {tmp_path}/sets.tar")
        assert DEBIAN.fetch(["a"]) == {"a": b"aa"}
        assert len((tmp_path / "said").read_text().splitlines()) == 3
        assert "sartor-" in (tmp_path / "used").read_text()  # in a temporary folder of ours

    def test_the_update_that_failed_is_the_reason(self, tool: Tool) -> None:
        tool("dpkg-deb", "exit 0")
        tool(
            "apt-get",
            """
            case "$*" in *update) echo "E: Could not resolve" >&2; exit 100;; esac
            echo "W: of no interest" >&2; echo "E: Unable to locate package" >&2; exit 100
            """,
        )
        assert reason(DEBIAN, "a") == "apt-get failed: E: Could not resolve."

    def test_an_unknown_package(self, tool: Tool) -> None:
        tool("dpkg-deb", "exit 0")
        tool("apt-get", 'case "$*" in *update) exit 0;; esac; echo "E: Unable" >&2; exit 100')
        assert reason(DEBIAN, "a") == "apt-get failed: E: Unable."

    def test_a_hanging_tool_is_not_tried_again(self, tool: Tool, tmp_path: Path) -> None:
        tool("dpkg-deb", "exit 0")
        tool("apt-get", f"echo once >>{tmp_path}/said; exec /bin/sleep 60")
        hanging = DebianPackage("dataset-sets", seconds=0.4)
        assert reason(hanging, "a") == "apt-get did not end within 0.4 seconds."
        assert (tmp_path / "said").read_text() == "once\n"

    def test_missing_and_failing_tools(self, tool: Tool) -> None:
        assert reason(DEBIAN, "a") == "apt-get is not installed."
        tool("apt-get", "echo > sets.deb")
        assert reason(DEBIAN, "a") == "dpkg-deb is not installed."
        tool("dpkg-deb", "echo 'dpkg-deb: error: no archive' >&2; exit 2")
        assert reason(DEBIAN, "a") == "dpkg-deb failed: dpkg-deb: error: no archive."
