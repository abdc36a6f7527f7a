"""How fast `sartor serve` answers: in the process, and over HTTP beside other servers.

    python benchmarks/serving.py                  # all networks; writes docs/serving.json and .md
    python benchmarks/serving.py --only resnet20 --seconds 2 --rounds 2 --no-write
    python benchmarks/serving.py --litserve PYTHON  # an interpreter that has LitServe

In the process: one image at a time through what the server calls, bare ONNX Runtime with one thread
and with two, and the network in PyTorch; in turns, so that a busy machine is busy for all. Over
HTTP: a client on the same machine keeps 1, 8 or 64 requests under way, again in turns, while the
servers that are not asked are stopped. Bundles are made of noise, since what a network knows does
not change how fast it is.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
NETWORKS = {
    "linear": (1, 28),
    "mlp": (1, 28),
    "lenet": (1, 28),
    "convnet": (1, 28),
    "resnet8": (3, 32),
    "resnet14": (3, 32),
    "resnet20": (3, 64),
    "efficientnet-lite0": (3, 224),
}
"""Channels and side of the images of each."""
CONCURRENCY = (1, 8, 64)
BATCHES = (1, 4, 16, 64)
OURS, BARE_1, BARE_2, TORCH = (
    "sartor",
    "ONNX Runtime, 1 thread",
    "ONNX Runtime, 2 threads",
    "PyTorch",
)
PLAIN = "plain"
START, END = "<!-- figures -->", "<!-- end of figures -->"


def main() -> None:
    """Make the bundles, measure, print, write."""
    options = parsed()
    described = machine.describe(machine.command_of("serving"))
    found: dict[str, Any] = {"machine": described, "in_process": {}, "http": {}}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(options.bundles or folder)
        for name in options.only or NETWORKS:
            bundle = bundle_of(name, home)
            if "process" in options.parts:
                found["in_process"][name] = in_process(bundle, options.rounds)
                print_in_process(name, found["in_process"][name])
            if "http" in options.parts:
                found["http"][name] = over_http(name, bundle, options)
                print_http(name, found["http"][name])
    if options.write:
        (machine.DOCS / "serving.json").write_text(json.dumps(found, indent=1) + "\n")
        write_page(found)


def parsed() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS))
    parser.add_argument(
        "--parts", nargs="+", choices=["process", "http"], default=["process", "http"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="per server, level and round")
    parser.add_argument("--litserve", help="an interpreter that has LitServe beside all else")
    parser.add_argument("--rivals", nargs="+", default=["torch", "onnx"], help="their runtimes")
    parser.add_argument("--bundles", help="folder to keep the bundles in")
    parser.add_argument("--no-write", dest="write", action="store_false")
    return parser.parse_args()


def bundle_of(name: str, home: Path) -> Path:
    """A bundle of a network that was trained for a moment on noise."""
    import sartor
    from sartor import api

    out = home / f"{name}.zip"
    if out.exists():
        return out
    channels, side = NETWORKS[name]
    images = np.random.default_rng(0).integers(0, 256, (120, channels, side, side)).astype(np.uint8)
    classes = tuple(f"class {number}" for number in range(10))
    data = sartor.Dataset(images, np.arange(120) % 10, classes, name="noise")
    run = sartor.fit(
        data, model=name, epochs=1, batch_size=32, out=home / f"{name}-run", report=False
    )
    api.export(run, out)
    return out


def in_process(bundle: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each call for one image, and images per second at the best size of batch."""
    import onnxruntime
    import torch

    from sartor.api.serving import servable
    from sartor.bundle.format import Bundle
    from sartor.bundle.opening import answering_of

    opened = Bundle.open(bundle)
    shape = opened.preprocess.input_shape
    answering = answering_of(opened)

    def bare(threads: int) -> Callable[[Any], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(opened.read("model.onnx"), options)
        return lambda images: session.run(None, {"images": images})

    def in_torch(images: Any) -> Any:
        with torch.inference_mode():
            return answering(torch.from_numpy(images))

    contenders = {
        OURS: servable(str(bundle), "network").session,
        BARE_1: bare(1),
        BARE_2: bare(2),
        TORCH: in_torch,
    }
    rng = np.random.default_rng(0)
    images = {
        size: rng.integers(0, 256, (size, *shape[1:], shape[0])).astype(np.uint8)
        for size in BATCHES
    }
    calls = {
        name: max(3, min(300, round(0.15 / timed(call, images[1]))))
        for name, call in contenders.items()
    }
    single: dict[str, list[float]] = {name: [] for name in contenders}
    batches: dict[str, dict[int, list[float]]] = {
        name: {s: [] for s in BATCHES} for name in contenders
    }
    for _ in range(rounds):
        for name in shuffled(contenders):
            single[name] += [timed(contenders[name], images[1]) for _ in range(calls[name])]
        for size in BATCHES:
            for name in shuffled(contenders):
                batches[name][size].append(timed(contenders[name], images[size]) / size)
    return {
        name: {
            "p50": statistics.median(single[name]),
            "p99": float(np.percentile(single[name], 99)),
            "images_per_second": 1 / min(map(statistics.median, batches[name].values())),
        }
        for name in contenders
    }


def timed(call: Callable[[Any], Any], images: Any) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call(images)
    return time.perf_counter() - begun


def shuffled(names: Any) -> list[str]:
    """In another order each time."""
    order = list(names)
    random.shuffle(order)
    return order


def over_http(name: str, bundle: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Requests per second and latencies of each server at each level."""
    kinds: dict[str, list[str]] = {
        OURS: [sys.executable, "-m", "sartor", "serve", str(bundle), "--log", "off", "--port"]
    }
    for runtime in options.rivals:
        words = [runtime, str(bundle)]
        kinds[f"{PLAIN} ({runtime})"] = [sys.executable, str(HERE / "serving_rivals.py"), *words]
        if options.litserve:
            server = str(HERE / "serving_litserve.py")
            kinds[f"LitServe ({runtime})"] = [options.litserve, server, *words]
    channels, side = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder, servers(kinds) as running:
        picture = Path(folder) / "picture.png"
        picture.write_bytes(a_picture(channels, side))
        rates: dict[str, dict[int, list[float]]] = {
            kind: {c: [] for c in CONCURRENCY} for kind in kinds
        }
        latencies: dict[str, dict[int, list[float]]] = {
            kind: {c: [] for c in CONCURRENCY} for kind in kinds
        }
        for number in range(options.rounds + 1):
            for level in CONCURRENCY:
                for kind in shuffled(kinds):
                    with running.only(kind):
                        seconds = options.seconds if number else min(1.0, options.seconds)
                        found = asked(running.ports[kind], picture, level, seconds)
                    if number:  # the first round warms all up
                        assert not found["failed"], f"{kind} failed"
                        rates[kind][level].append(found["answers"] / seconds)
                        latencies[kind][level] += found["latencies"]
        most = statistics.median(rates[OURS][CONCURRENCY[-1]])
        with running.only(OURS):
            half = asked(
                running.ports[OURS], picture, CONCURRENCY[-1], 2 * options.seconds, most / 2
            )
    return {
        "levels": {
            kind: {
                level: {
                    "requests_per_second": statistics.median(rates[kind][level]),
                    "lowest": min(rates[kind][level]),
                    "highest": max(rates[kind][level]),
                    "p50": float(np.percentile(latencies[kind][level], 50)),
                    "p99": float(np.percentile(latencies[kind][level], 99)),
                }
                for level in CONCURRENCY
            }
            for kind in kinds
        },
        "half_load": {
            "requests_per_second": most / 2,
            "p50": float(np.percentile(half["latencies"], 50)),
            "p99": float(np.percentile(half["latencies"], 99)),
        },
    }


def a_picture(channels: int, side: int) -> bytes:
    """A smooth picture as a PNG, of the network's size."""
    ramp = np.linspace(0, 255, side)
    pixels = np.stack([ramp[None] * 0.5 + ramp[:, None] * 0.5] * channels, axis=2).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def asked(port: int, picture: Path, level: int, seconds: float, pace: float | None = None) -> Any:
    """What the client has seen, in a process of its own."""
    words = [port, picture, level, seconds, *([pace] if pace else [])]
    line = [sys.executable, str(HERE / "serving_client.py"), *map(str, words)]
    answer = subprocess.run(line, capture_output=True, text=True, timeout=seconds + 60, check=True)
    return json.loads(answer.stdout)


class Running:
    """Servers of which only one runs at a time."""

    def __init__(
        self, ports: dict[str, int], processes: dict[str, subprocess.Popen[bytes]]
    ) -> None:
        self.ports = ports
        self._processes = processes

    @contextmanager
    def only(self, kind: str) -> Iterator[None]:
        """The others are stopped meanwhile."""
        os.killpg(self._processes[kind].pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self._processes[kind].pid, signal.SIGSTOP)


@contextmanager
def servers(kinds: dict[str, list[str]]) -> Iterator[Running]:
    """All of them, started and asleep."""
    ports, processes = {}, {}
    try:
        for kind, line in kinds.items():
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports[kind] = free.getsockname()[1]
            processes[kind] = subprocess.Popen(
                [*line, str(ports[kind])],
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=sys.stderr if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            )
            await_port(ports[kind], processes[kind])
            os.killpg(processes[kind].pid, signal.SIGSTOP)
        yield Running(ports, processes)
    finally:
        for process in processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens there and answers."""
    for _ in range(600):
        assert process.poll() is None, f"it ended: {process.args!r}"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if connection.recv(100):
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("it does not answer")


def print_in_process(name: str, found: dict[str, Any]) -> None:
    """A few lines on a network."""
    print(f"\n{name}: one image at a time, in the process")
    for kind, row in found.items():
        print(
            f"  {kind:<26} p50 {row['p50'] * 1e3:8.3f} ms  p99 {row['p99'] * 1e3:8.3f} ms  "
            f"{row['images_per_second']:>10,.0f} images/s",
            flush=True,
        )


def print_http(name: str, found: dict[str, Any]) -> None:
    """A few lines on a network."""
    print(f"{name}: over HTTP")
    for kind, levels in found["levels"].items():
        cells = "   ".join(
            f"{level:>2}: {row['requests_per_second']:>7,.0f}/s {row['p50'] * 1e3:7.1f} ms"
            for level, row in levels.items()
        )
        print(f"  {kind:<20} {cells}")
    half = found["half_load"]
    print(
        f"  at half load, {half['requests_per_second']:,.0f}/s: p50 {half['p50'] * 1e3:.1f} ms, "
        f"p99 {half['p99'] * 1e3:.1f} ms",
        flush=True,
    )


def write_page(found: dict[str, Any]) -> None:
    """The figures' part of docs/serving.md."""
    page = machine.DOCS / "serving.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    lines = [
        START,
        *machine.markdown_of(found["machine"]),
        *process_table(found),
        *http_table(found),
        END,
    ]
    page.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def process_table(found: dict[str, Any]) -> list[str]:
    """In the process."""
    kinds = (OURS, BARE_1, BARE_2, TORCH)
    lines = [
        "",
        "One image at a time, milliseconds, p50 / p99; and images per second at the best of "
        f"{', '.join(map(str, BATCHES))} at once:",
        "",
        f"| network | {' | '.join(kinds)} | images/s, in the same order |",
        "|---|" + "---|" * (len(kinds) + 1),
    ]
    for name, rows in found["in_process"].items():
        cells = [f"{rows[k]['p50'] * 1e3:.3f} / {rows[k]['p99'] * 1e3:.3f}" for k in kinds]
        rates = " · ".join(f"{rows[k]['images_per_second']:,.0f}" for k in kinds)
        lines.append(f"| {name} | {' | '.join(cells)} | {rates} |")
    return lines


def http_table(found: dict[str, Any]) -> list[str]:
    """Over HTTP."""
    lines = [
        "",
        "Requests per second with 1, 8 and 64 under way, median of the rounds (lowest to highest), "
        "and p50 / p99 in milliseconds:",
        "",
        "| network | server | 1 | 8 | 64 |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["http"].items():
        for kind, levels in one["levels"].items():
            cells = [
                f"{row['requests_per_second']:,.0f} ({row['lowest']:,.0f} to {row['highest']:,.0f})"
                f"; {row['p50'] * 1e3:.1f} / {row['p99'] * 1e3:.1f}"
                for row in levels.values()
            ]
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")
    lines += [
        "",
        "At half of the rate that sartor reached with 64 under way, sent at even times:",
        "",
    ]
    lines += ["| network | requests per second | p50, ms | p99, ms |", "|---|---|---|---|"]
    for name, one in found["http"].items():
        half = one["half_load"]
        lines.append(
            f"| {name} | {half['requests_per_second']:,.0f} | {half['p50'] * 1e3:.1f} | "
            f"{half['p99'] * 1e3:.1f} |"
        )
    return lines


if __name__ == "__main__":
    main()
