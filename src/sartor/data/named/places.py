"""The places that the files of a named set may come from.

A place is asked for files by name and returns their content, or raises `UnavailableError` with the
reason. A file `name` may lie there as `name.gz`: it is handed over as it is, compressed or not. No
place vouches for what it delivers; whoever asks compares checksums.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ...errors import UnavailableError

if TYPE_CHECKING:
    from http.client import HTTPResponse

Content = bytes | bytearray

_MAX_FILE_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20


class Place(Protocol):
    """Where files may come from; `str(place)` is what messages call it."""

    def fetch(self, names: Sequence[str]) -> dict[str, Content]:
        """The content of each of the files `names`; raises `UnavailableError` if one is missing."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return f"the folder {self.path}"

    def fetch(self, names: Sequence[str]) -> dict[str, Content]:
        """See `Place`."""
        if not self.path.is_dir():
            raise UnavailableError("there is no such folder.")
        return {name: self._read(name) for name in names}

    def _read(self, name: str) -> bytes:
        candidates = (self.path / name, self.path / f"{name}.gz")
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise UnavailableError(f"it holds no {name}.")
        try:
            _check_size(path.name, path.stat().st_size, _MAX_FILE_BYTES)
            return path.read_bytes()
        except OSError as error:
            raise UnavailableError(f"{path.name} cannot be read: {_words(error)}.") from error


@dataclass(frozen=True)
class WebMirror:
    """A folder on a web server, reached through the proxies that the environment names."""

    url: str
    """Address of the folder, without a slash at its end."""
    _: KW_ONLY
    suffix: str = ""
    """What every name has at its end there, such as ".gz"."""
    max_bytes: int = _MAX_FILE_BYTES
    """A longer file is refused."""
    silence_seconds: float = 10.0
    """A server that sends nothing for so long is given up."""
    total_seconds: float = 3600.0
    """A file that takes longer is given up."""

    def __str__(self) -> str:
        return self.url

    def fetch(self, names: Sequence[str]) -> dict[str, Content]:
        """See `Place`."""
        return {name: self._download(name + self.suffix) for name in names}

    def _download(self, name: str) -> bytearray:
        # Imported here because nothing else in this module takes nearly as long.
        import urllib.request
        from http.client import HTTPException
        from urllib.error import HTTPError, URLError

        request = urllib.request.Request(f"{self.url}/{name}", headers={"User-Agent": "sartor"})
        try:
            with urllib.request.urlopen(request, timeout=self.silence_seconds) as response:
                return self._read(name, response)
        except HTTPError as error:
            error.close()
            raise UnavailableError(f"{name}: {error.code} {error.reason}.") from error
        except URLError as error:
            raise UnavailableError(f"{_words(error.reason)}.") from error
        except (OSError, HTTPException) as error:
            raise UnavailableError(f"{name}: {_words(error)}.") from error

    def _read(self, name: str, response: HTTPResponse) -> bytearray:
        announced = response.length
        _check_size(name, announced or 0, self.max_bytes)
        deadline = time.monotonic() + self.total_seconds
        content = bytearray()
        # read1 returns with whatever has come, so that a trickle cannot outwit the deadline.
        while chunk := response.read1(_CHUNK_BYTES):
            content += chunk
            _check_size(name, len(content), self.max_bytes)
            if time.monotonic() > deadline:
                raise UnavailableError(f"{name} took longer than {self.total_seconds:g} seconds.")
        if announced is not None and len(content) < announced:
            raise UnavailableError(
                f"{name} broke off after {len(content):,} of {announced:,} bytes."
            )
        return content


@dataclass(frozen=True)
class NpmPackage:
    """A package that npm can fetch; it is neither installed nor unpacked to the disk."""

    name: str
    version: str
    _: KW_ONLY
    seconds: float = 300.0
    """npm is stopped after so long."""

    def __str__(self) -> str:
        return f"npm's package {self.name} {self.version}"

    def fetch(self, names: Sequence[str]) -> dict[str, Content]:
        """See `Place`."""
        npm = _tool("npm")
        with _scratch_folder() as scratch:
            command = [npm, "pack", f"{self.name}@{self.version}", "--ignore-scripts"]
            options = [
                "--loglevel=error",
                "--no-update-notifier",
                "--cache",
                str(scratch / "cache"),
            ]
            patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=500"]
            _run([*command, *options, *patience], scratch, self.seconds)
            with _only_file(scratch, "*.tgz").open("rb") as archive:
                return members_of_tar(archive, names)


@dataclass(frozen=True)
class DebianPackage:
    """A package that apt can fetch, on Debian and its descendants.

    It is not installed. No rights are needed, and nothing on the system changes: should apt not
    know the package, its lists are fetched into a temporary folder of our own.
    """

    name: str
    _: KW_ONLY
    seconds: float = 300.0
    """Each of the tools is stopped after so long."""

    def __str__(self) -> str:
        return f"Debian's package {self.name}"

    def fetch(self, names: Sequence[str]) -> dict[str, Content]:
        """See `Place`."""
        apt, dpkg = _tool("apt-get"), _tool("dpkg-deb")
        with _scratch_folder() as scratch:
            self._download(apt, scratch)
            package = _only_file(scratch, "*.deb")
            unpacked = scratch / "package.tar"
            _run([dpkg, "--fsys-tarfile", str(package)], scratch, self.seconds, output=unpacked)
            with unpacked.open("rb") as archive:
                return members_of_tar(archive, names)

    def _download(self, apt: str, scratch: Path) -> None:
        patience = ["-o", "Acquire::Retries=1"]
        download = ["download", self.name]
        try:
            _run([apt, *patience, *download], scratch, self.seconds)
        except _ToolError:
            own_lists = [apt, *patience, "-c", str(_write_apt_settings(scratch))]
            update_error = None
            try:
                _run([*own_lists, "update"], scratch, self.seconds)
            except _ToolError as error:
                # Perhaps only a source that has nothing to do with us failed: try all the same.
                update_error = error
            try:
                _run([*own_lists, *download], scratch, self.seconds)
            except _ToolError as error:
                raise update_error or error from None


def members_of_tar(archive: BinaryIO, names: Collection[str]) -> dict[str, Content]:
    """The content of each of the files `names` (or `name.gz`), whatever folder of `archive` has it.

    Read straight from the archive, compressed or not: nothing is unpacked to the disk.

    Raises:
        UnavailableError: the archive is damaged, or has not all of the files.
    """
    found: dict[str, Content] = {}
    try:
        with tarfile.open(fileobj=archive, mode="r:*") as tar:
            for member in tar:
                base = PurePosixPath(member.name).name
                name = base if base in names else base.removesuffix(".gz")
                if name in found or name not in names or not member.isfile():
                    continue
                _check_size(base, member.size, _MAX_FILE_BYTES)
                stream = tar.extractfile(member)
                assert stream is not None  # it is a file
                found[name] = stream.read()
                if len(found) == len(names):
                    return found
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UnavailableError(f"its archive is damaged: {_words(error)}.") from error
    missing = next(name for name in names if name not in found)
    raise UnavailableError(f"it holds no {missing}.")


class _ToolError(UnavailableError):
    """A tool ended with an exit code other than 0."""


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(f"{name} is not installed.")
    return path


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sartor-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def _run(command: list[str], folder: Path, seconds: float, *, output: Path | None = None) -> None:
    """Run a tool in `folder`, its standard output going to `output`.

    Raises:
        _ToolError: it failed; the message is its own complaint.
        UnavailableError: it did not start, or did not end in time.
    """
    name = Path(command[0]).name
    complaints = folder / "complaints.txt"
    with complaints.open("wb") as stderr, (output or Path(os.devnull)).open("wb") as stdout:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"{name} does not start: {_words(error)}.") from error
        try:
            exit_code = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{name} did not end within {seconds:g} seconds.") from error
        finally:
            _end(process)
    if exit_code != 0:
        raise _ToolError(f"{name} failed: {_complaint(complaints, exit_code)}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a tool together with whatever it started, if it still runs."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _complaint(complaints: Path, exit_code: int) -> str:
    """The line of a tool's standard error that tells the most."""
    lines = [line.strip() for line in complaints.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.match(r"E: |npm err", line, re.IGNORECASE)]
    return next(iter(errors or reversed(lines)), f"exit code {exit_code}").rstrip(".")


def _write_apt_settings(scratch: Path) -> Path:
    """Settings that make apt keep its lists and its cache in `scratch`."""
    (scratch / "lists" / "partial").mkdir(parents=True)
    (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
    settings = scratch / "apt.conf"
    # The hooks that a system hangs on an update are cleared: they change the system.
    settings.write_text(f"""\
Dir::State::Lists "{scratch / "lists"}";
Dir::Cache "{scratch / "cache"}";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
""")
    return settings


def _only_file(folder: Path, pattern: str) -> Path:
    paths = list(folder.glob(pattern))
    if len(paths) != 1:
        raise UnavailableError("the tool ended without error, but delivered no package.")
    return paths[0]


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise UnavailableError(f"{name} is larger than {max_bytes:,} bytes.")


def _words(error: BaseException | str) -> str:
    """What an error of the system says, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
