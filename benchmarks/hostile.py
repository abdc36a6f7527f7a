"""Minutes of good and hostile requests to one server: memory, answers and statuses.

    python benchmarks/hostile.py                    # ten minutes, a bundle of digits
    python benchmarks/hostile.py --seconds 60 --bundle NAME.zip
    python benchmarks/hostile.py --write            # and put the figures into docs/security.md

Good requests have known answers, and each is compared. Between them come truncated pictures, bombs,
wrong types, forms and JSON that are malformed or without end, headers and bodies that drip, clients
that hang up in the middle. At the end: how many of each, which statuses, how memory went; exit
code 1 where an answer was wrong or missing, where there was a status above 499 that is not a
deliberate 503 or 504, or where memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GOOD_AT_ONCE, HOSTILE_AT_ONCE = 4, 8
TOLERANCE = 1e-4
GROWTH_BYTES = 64 << 20
"""What memory may grow by after the first third: pools of the allocator, a large picture."""
SAMPLES = 120
"""Two for each second."""
DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- figures: hostile.py -->", "<!-- end of figures of hostile.py -->"
DELIBERATE = (503, 504)
BOUNDARY = b"xyz"
PATH = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"

Hostile = Callable[["Wire"], Awaitable[None]]


class Wire:
    """A connection on which anything may be sent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.status = 0
        self.body = b""

    async def __aenter__(self) -> Wire:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, content: bytes) -> None:
        """All of it, or less where the server has hung up."""
        if self.writer.is_closing():
            return
        try:
            self.writer.write(content)
            await self.writer.drain()
        except ConnectionError:
            return

    async def answer(self) -> None:
        """Status and body of what comes; status 0 where the server hangs up instead."""
        try:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)
            self.status = int(head.split(b" ", 2)[1])
            length = re.search(rb"content-length: (\d+)", head)
            self.body = await asyncio.wait_for(
                self.reader.readexactly(int(length[1]) if length else 0), 60
            )
        except (ConnectionError, asyncio.IncompleteReadError):
            self.status = 0

    async def ask(self, body: bytes, kind: str, path: bytes = PATH) -> None:
        """A whole request, and its answer."""
        head = b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), len(body))
        await self.send(path + head + body)
        await self.answer()


def form(*contents: bytes) -> tuple[bytes, str]:
    """A form of pictures, named by their places."""
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="%d"\r\n\r\n%s\r\n'
        % (BOUNDARY, place, content)
        for place, content in enumerate(contents)
    ]
    body = b"".join(parts) + b"--%s--\r\n" % BOUNDARY
    return body, f"multipart/form-data; boundary={BOUNDARY.decode()}"


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of 8 bits with any header and any compressed data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        whole = kind + body
        return len(body).to_bytes(4) + whole + zlib.crc32(whole).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def hostile_requests() -> Mapping[str, Hostile]:
    """All that is done to the server, by name."""
    rng = np.random.default_rng(0)
    photo = encoded(rng.integers(0, 256, (600, 800, 3)).astype(np.uint8), "JPEG")
    large = encoded(np.zeros((6000, 6000), np.uint8))
    endless = png(1, 1, zlib.compress(bytes(50_000_000), 9))
    frames = [Image.new("L", (2, 2), n % 256) for n in range(300)]
    gif = io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    noise = rng.integers(0, 256, 100_000).astype(np.uint8).tobytes()

    def posted(body: bytes, kind: str = "image/png") -> Hostile:
        async def send(wire: Wire) -> None:
            await wire.ask(body, kind)

        return send

    async def truncated(wire: Wire) -> None:
        await wire.ask(photo[: random.randrange(len(photo))], "image/jpeg")

    async def mixed(wire: Wire) -> None:
        await wire.ask(*form(photo[:5000], b"", large[:3000], noise, photo))

    async def without_end(wire: Wire) -> None:
        await wire.send(PATH + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + noise[:65536] + b"\r\n"
        for _ in range(3000):
            if wire.reader.at_eof() or wire.writer.is_closing():
                break
            await wire.send(piece)
        await wire.answer()

    async def announced(wire: Wire) -> None:
        await wire.send(PATH + b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n")
        await wire.answer()

    async def slow_head(wire: Wire) -> None:
        for byte in PATH[:20]:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.2)

    async def slow_body(wire: Wire) -> None:
        await wire.send(PATH + b"Content-Length: 1000\r\n\r\n")
        for _ in range(20):
            await wire.send(b"x")
            await asyncio.sleep(0.2)

    async def hang_up_in_body(wire: Wire) -> None:
        await wire.send(PATH + b"Content-Length: 500000\r\n\r\n" + noise)

    async def hang_up_before_answer(wire: Wire) -> None:
        body, kind = form(*[photo] * 8)
        head = b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), len(body))
        await wire.send(PATH + head + body)
        await asyncio.sleep(random.random() / 20)

    async def long_head(wire: Wire) -> None:
        for _ in range(200):
            await wire.send(b"X-Long: " + b"y" * 1000 + b"\r\n")
        await wire.answer()

    async def reads_nothing(wire: Wire) -> None:
        await wire.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        await asyncio.sleep(1)

    async def nonsense(wire: Wire) -> None:
        await wire.send(noise[: random.randrange(1, 5000)])
        await wire.answer()

    return {
        "truncated picture": truncated,
        "no picture": posted(noise),
        "bomb by its header": posted(png(60_000, 60_000, zlib.compress(b"x"))),
        "bomb by its data": posted(endless),
        "36 megapixels": posted(large),
        "300 frames": posted(gif.getvalue(), "image/gif"),
        "bad pictures beside good ones": mixed,
        "body without end": without_end,
        "100 GB announced": announced,
        "headers that drip": slow_head,
        "a body that drips": slow_body,
        "hangs up in the body": hang_up_in_body,
        "hangs up before the answer": hang_up_before_answer,
        "headers without end": long_head,
        "reads nothing": reads_nothing,
        "no HTTP": nonsense,
        "too many parts": posted(*form(*[b"x"] * 2000)),
        "a form without end": posted(form(photo)[0][:-9], form(photo)[1]),
        "JSON with NaN": posted(b'{"pictures": [NaN]}', "application/json"),
        "JSON with a million entries": posted(
            b'{"pictures": [' + b'"",' * 1_000_000 + b'""]}', "application/json"
        ),
        "JSON nested without end": posted(b"[" * 1_000_000, "application/json"),
        "JSON with an address": posted(
            b'{"pictures": ["http://localhost/a.png", "/etc/passwd"]}', "application/json"
        ),
        "a wrong type": posted(b"x" * 1000, "text/html"),
    }


@dataclass
class Seen:
    """What came back."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    """Good requests that were told to come back."""
    hostile: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    """Bytes, again and again."""

    @property
    def faults(self) -> list[str]:
        """What should not be."""
        found = self.wrong[:5]
        found += [
            f"status {status}, {count} times"
            for status, count in self.statuses.items()
            if status >= 500 and status not in DELIBERATE
        ]
        third = len(self.memory) // 3
        early, late = max(self.memory[: third + 1]), max(self.memory[-third - 1 :])
        # Before every kind was there several times, there is no level to grow from.
        if len(self.memory) >= SAMPLES and late > early + GROWTH_BYTES:
            found.append(f"memory grew from {early / 1e6:.0f} to {late / 1e6:.0f} MB")
        if not self.right:
            found.append("no good request was answered")
        return found


async def attack(
    port: int, pid: int, seconds: float, pictures: list[bytes], rows: list[list[float]]
) -> Seen:
    """Good and hostile requests at once for so many seconds; `rows` are the right answers."""
    seen, end = Seen(), time.monotonic() + seconds
    attacks = hostile_requests()
    names = itertools.cycle(random.sample(list(attacks), len(attacks)))

    async def good() -> None:
        while time.monotonic() < end:
            chosen = random.sample(range(len(pictures)), random.randint(1, 5))
            async with Wire(port) as wire:
                await wire.ask(*form(*(pictures[place] for place in chosen)))
            seen.statuses[wire.status] += 1
            if wire.status in (429, *DELIBERATE):
                seen.refused += 1
                await asyncio.sleep(0.5)
            elif wire.status != 200:
                seen.wrong.append(f"a good request ended in {wire.status}: {wire.body[:200]!r}")
            else:
                check(json.loads(wire.body)["predictions"], [rows[place] for place in chosen])

    def check(answers: list[Any], wanted: list[list[float]]) -> None:
        found = [list(one.get("probabilities", {}).values()) for one in answers]
        if (
            np.shape(found) == np.shape(wanted)
            and np.abs(np.subtract(found, wanted)).max() < TOLERANCE
        ):
            seen.right += 1
        else:
            seen.wrong.append(f"a wrong answer: {answers}")

    async def evil() -> None:
        while time.monotonic() < end:
            name = next(names)
            try:
                async with Wire(port) as wire:
                    await attacks[name](wire)
                seen.statuses[wire.status] += 1
            except ConnectionError:
                seen.statuses[0] += 1
            seen.hostile[name] += 1

    async def watch() -> None:
        while time.monotonic() < end:
            seen.memory.append(resident_bytes(pid))
            await asyncio.sleep(0.5)

    await asyncio.gather(
        watch(), *(good() for _ in range(GOOD_AT_ONCE)), *(evil() for _ in range(HOSTILE_AT_ONCE))
    )
    return seen


def resident_bytes(pid: int) -> int:
    """Main memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def right_answers(bundle: Path) -> tuple[list[bytes], list[list[float]]]:
    """Pictures, and the probabilities of each as `predict` has them."""
    from sartor.api.serving import servable
    from sartor.data.pictures.decode import quiet_decoding

    served = servable(str(bundle), "right")
    rng = np.random.default_rng(1)
    side = max(served.preprocess.height, 32)
    pictures = [encoded(rng.integers(0, 256, (side, side + n)).astype(np.uint8)) for n in range(20)]
    with quiet_decoding():
        images = [served.preprocess.from_stranger(one, "x", max_pixels=10**7) for one in pictures]
    answers = served.answers([""] * len(images), images)
    return pictures, [list(one.probabilities.values()) for one in answers]  # type: ignore[union-attr]


def main() -> int:
    """Start a server, attack it, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--bundle", type=Path, help="by default a network trained on digits now")
    parser.add_argument("--write", action="store_true", help="the figures into docs/security.md")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where that page is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or made(Path(folder))
        pictures, rows = right_answers(bundle)
        line = [sys.executable, "-m", "sartor", "serve", str(bundle), "--port", "0", "--json"]
        log = Path(folder) / "log"
        with (
            log.open("w") as stream,
            subprocess.Popen([*line], stdout=subprocess.PIPE, stderr=stream, text=True) as server,
        ):
            assert server.stdout is not None
            port = int(json.loads(server.stdout.readline())["url"].rpartition(":")[2])
            seen = asyncio.run(attack(port, server.pid, options.seconds, pictures, rows))
            server.terminate()
            code = server.wait(60)
        failures = [line for line in log.read_text().splitlines() if '"event": "failure"' in line]
    tell(seen, failures, code)
    if options.write:
        write_page(options.docs, options.seconds, seen, len(failures))
    return 1 if seen.faults or failures or code != 143 else 0


def made(folder: Path) -> Path:
    """A bundle of a small network."""
    import sartor
    from sartor import api

    run = sartor.fit("digits", epochs=2, out=folder / "run", report=False)
    api.export(run, folder / "digits.zip")
    return folder / "digits.zip"


def tell(seen: Seen, failures: list[str], code: int) -> None:
    """A few lines."""
    print(f"good requests: {seen.right:,} right, {len(seen.wrong)} wrong, {seen.refused:,} refused")
    print(f"hostile requests: {sum(seen.hostile.values()):,} of {len(seen.hostile)} kinds")
    print("statuses:", ", ".join(f"{k}: {v:,}" for k, v in sorted(seen.statuses.items())))
    places = np.linspace(0, len(seen.memory) - 1, 6).astype(int)
    print("memory, MB:", " ".join(f"{seen.memory[place] / 1e6:.0f}" for place in places))
    print(f"failures in the log: {len(failures)}; exit code {code}")
    for fault in [*seen.faults, *failures[:5]]:
        print("FAULT:", fault)


def write_page(docs: Path, seconds: float, seen: Seen, failures: int) -> None:
    """The figures into docs/security.md, between their marks."""
    page = docs / "security.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(lines_of(seconds, seen, failures))
    page.write_text(f"{before}{BEGIN}\n{lines}\n{END}{after}")


def lines_of(seconds: float, seen: Seen, failures: int) -> list[str]:
    """What the page says."""
    statuses = ", ".join(
        f"{status or 'none, the connection ended'}: {count:,}"
        for status, count in sorted(seen.statuses.items())
    )
    third = max(len(seen.memory) // 3, 1)
    early, late = max(seen.memory[:third]), max(seen.memory[-third:])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"- {seconds / 60:g} minutes, {GOOD_AT_ONCE} good and {HOSTILE_AT_ONCE} hostile clients at "
        f"once, server and clients on the same {cores} cores: {seen.right:,} good requests were "
        f"answered right, {len(seen.wrong)} wrong, {seen.refused:,} told to come back.",
        f"- {sum(seen.hostile.values()):,} hostile requests of {len(seen.hostile)} kinds; "
        f"{failures} failures in the log, faults: {len(seen.faults)}.",
        f"- Statuses: {statuses}.",
        f"- Main memory of the server: at most {early / 1e6:.0f} MB in the first third, "
        f"{late / 1e6:.0f} MB in the last.",
    ]


if __name__ == "__main__":
    sys.exit(main())
