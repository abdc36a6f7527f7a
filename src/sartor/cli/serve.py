"""`sartor serve`: answer over HTTP. Its flags, its call, its printing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ..errors import FileError, MissingExtraError, UsageError
from ..wording import one_line
from .arguments import LogName, RuntimeName
from .output import check_count, note, print_json

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)=(.+)", re.DOTALL)
_PLAIN = re.compile(r"[^A-Za-z0-9_.-]+")
_TOKEN = "SARTOR_TOKEN"
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve predictions over HTTP. Ctrl-C stops the server; SIGHUP reloads all models."""

    models: Positional[tuple[str, ...]]
    """Bundles or runs, each as PATH or NAME=PATH; the first is the default."""
    host: str = "127.0.0.1"
    """Address to listen on; one that other machines can reach needs a token or --open."""
    port: int = 8000
    """Port to listen on; 0 for any free one."""
    token_file: Path | None = None
    """File with the token that every request must carry; or set the variable SARTOR_TOKEN."""
    token: str | None = None
    """The token itself; other users of this machine can see it, so prefer --token-file."""
    open: bool = False
    """Answer everybody who can reach the address, without a token."""
    batch: int = 64
    """Largest batch for the network; smaller ones are used if they are faster."""
    queue: int = 1024
    """Most pictures waiting for an answer; beyond that, requests get 429."""
    max_pictures: int = 256
    """Most pictures in one request."""
    max_megabytes: int = 32
    """Largest request, in MiB."""
    max_pixels: int = 50_000_000
    """Most pixels in one picture."""
    deadline: float = 10.0
    """Seconds after which a request without an answer gets 504."""
    runtime: RuntimeName | None = None
    """Runtime: onnx, torch, or int8 if the bundle has it; by default onnx if it is installed, else
    torch."""
    log: LogName = "requests"
    """What to log on stderr, as lines of JSON: requests, errors or off."""
    trust: bool = False
    """Run a run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    json: bool = False
    """Print the address as one line of JSON."""


def serve(given: Serve) -> int:
    """Serve until a signal comes; every request that was taken is answered before the end."""
    sources = _named(given.models)
    token = _token(given)
    _check(given)
    try:
        from ..web import running
        from ..web.guard import is_loopback
        from ..web.limits import MEBIBYTE, Limits
    except ImportError as error:
        raise MissingExtraError("The server", str(error.name), "serve") from error
    if token is None and not given.open and not is_loopback(given.host):
        raise UsageError(
            f"At {given.host} everybody who reaches this machine could ask.",
            "Set a token with --token-file FILE, or let everybody ask with --open.",
        )
    address = running.Address(host=given.host, port=given.port, token=token)
    # Before anything that takes time.
    with running.listen(address) as listening:
        from ..api import serving

        def opened(name: str, source: str) -> serving.Servable:
            return serving.servable(source, name, runtime=given.runtime, trust=given.trust)

        server = running.Running.of(
            [opened(name, source) for name, source in sources.items()],
            address=address,
            reopen=lambda before: opened(before.name, sources[before.name]),
            limits=Limits(
                batch=given.batch,
                queue=given.queue,
                pictures=given.max_pictures,
                body_bytes=given.max_megabytes * MEBIBYTE,
                bytes_in_flight=max(8 * given.max_megabytes, 256) * MEBIBYTE,
                pixels=given.max_pixels,
                answer_seconds=given.deadline,
            ),
            log=given.log,
        )
        url = running.url_of(listening)
        if given.json:
            print_json({"url": url, "models": list(sources)})
        else:
            print(f"Serving {', '.join(sources)} at {url} (docs: {url}/docs)", flush=True)
        signal_number = server.run(listening)
    note("Stopped; every accepted request was answered.")
    return 128 + signal_number if signal_number else 0


def _check(given: Serve) -> None:
    for name in ("batch", "queue", "max_pictures", "max_megabytes", "max_pixels"):
        check_count(f"--{name.replace('_', '-')}", getattr(given, name))
    if not 0 < given.deadline < float("inf"):
        raise UsageError(
            f"--deadline must be above 0, not {given.deadline:g}.", "Give a number of seconds."
        )
    if given.queue < given.max_pictures:
        raise UsageError(
            f"--queue {given.queue} is less than a request may hold, {given.max_pictures}.",
            f"Raise it, or lower --max-pictures to {given.queue}.",
        )


def _named(models: tuple[str, ...]) -> dict[str, str]:
    """Each model's path by its name, in their order.

    Raises:
        UsageError: none, or two of one name.
    """
    if not models:
        raise UsageError(
            "No model is named.", "Name a bundle or a run, such as: sartor serve latest"
        )
    sources: dict[str, str] = {}
    for word in models:
        match = None if Path(word).exists() else _NAMED.fullmatch(word)
        before, equals, path = word.partition("=")
        if equals and not match and not Path(word).exists() and Path(path).exists():
            raise UsageError(
                f"A model cannot be served as {one_line(before) or 'nothing'}.",
                "Its name takes letters, digits, dots, dashes and underscores: "
                f"{_PLAIN.sub('-', before).strip('-.') or 'model'}={path}",
            )
        name, source = match.groups() if match else (_name_of(word), word)
        if name in sources:
            raise UsageError(
                f"Two models have the name {name}.", f"Name one of them: {name}-2={source}"
            )
        sources[name] = source
    return sources


def _name_of(path: str) -> str:
    stem = Path(path).resolve().name.removesuffix(".zip")
    return _PLAIN.sub("-", stem).strip("-.") or "model"


def _token(given: Serve) -> str | None:
    """The token that is asked for.

    Raises:
        UsageError: it is given twice, or is easily guessed. FileError: it cannot be read.
    """
    ways = [
        given.token,
        None if given.token_file is None else _read(given.token_file),
        os.environ.get(_TOKEN) or None,
    ]
    found = [way for way in ways if way is not None]
    if not found:
        return None
    if len(found) > 1:
        raise UsageError(
            "There is more than one token.", f"Use one of --token, --token-file and {_TOKEN}."
        )
    (token,) = found
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"A token has at least {_SHORTEST_TOKEN} characters, all of them ASCII.",
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return token


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "not a text").lower()
        raise FileError(f"Cannot read the token in {path}: {reason}.", "Check the path.") from None
