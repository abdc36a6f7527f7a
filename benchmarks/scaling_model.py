"""Time and cost of training by many processes, on paper, fitted to what `scaling.py` measures.

A step of N processes takes

    fixed + image * B / N + 2 * norms * exchange(N) + sum(N)

Fixed is what a step takes whatever its batch: the optimizer, the calls. An exchange of a few
numbers goes round a ring, (N - 1) * latency; a batch normalisation has one forward and one back.
The sum of M bytes of gradients is two rounds,
2 * ((N - 1) * latency + M * (N - 1) / N / bandwidth).
Validation, checkpoints and the start are left out; what they do is said beside the tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
ASSUMED_LATENCY, ASSUMED_BANDWIDTH = 50e-6, 1.25e9
LARGE = 16
"""Images of a batch per worker, where the batch grows with their number."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the model knows of a network and of what connects the processes."""

    fixed: float
    """Seconds."""
    image: float
    """Seconds."""
    norms: int
    """Layers of batch normalisation."""
    gradient_bytes: float
    latency: float
    """Seconds from one process to its neighbour, software included."""
    bandwidth: float
    """Bytes per second."""

    def parts(self, workers: int, batch: float) -> dict[str, float]:
        """Seconds of a step, by what they go to."""
        hops = workers - 1
        return {
            "computing": self.fixed + self.image * batch / workers,
            "norms": 2 * self.norms * hops * self.latency,
            "gradients": 2 * hops * self.latency
            + 2 * self.gradient_bytes * hops / workers / self.bandwidth,
        }

    def seconds(self, workers: int, batch: float) -> float:
        return sum(self.parts(workers, batch).values())


def fitted(one: Mapping[str, Any], sums: Mapping[str, Any], batch: int, smaller: int) -> Step:
    """From a network's steps at two sizes of a batch, and from sums of few and of many numbers."""
    large, small = (min(one["seconds"][way]) for way in ("alone", "smaller"))
    image = (large - small) / (batch - smaller)
    latency = statistics.median(
        min(rows[0]["gather"]) / (int(size) - 1) for size, rows in sums.items()
    )
    most = sums["2"][-1]
    bandwidth = 4 * most["numbers"] / min(most["ordered"])
    return Step(
        fixed=max(large - image * batch, 0.0),
        image=image,
        norms=one["norms"],
        gradient_bytes=4 * one["parameters"],
        latency=latency,
        bandwidth=bandwidth,
    )


def breaks_first(step: Step, batch: float) -> str:
    """What takes half of a step first, and at how many workers."""
    for workers in range(2, WORKERS[-1] + 1):
        parts = step.parts(workers, batch)
        talking = parts["norms"] + parts["gradients"]
        if talking > parts["computing"]:
            what = max(("norms", "gradients"), key=lambda part: parts[part])
            words = {"norms": "the exchanges of batch normalisation", "gradients": "the sum"}[what]
            return (
                f"from {workers} workers on more than half of a step goes to talking, most of it "
                f"to {words}"
            )
    return f"up to {WORKERS[-1]:,} workers computing takes most of a step"


def lines(found: Mapping[str, Any], batch: int, smaller: int) -> list[str]:
    """The model as a part of the page."""
    written = [
        "### On paper, up to 1,000 workers",
        "",
        "A step of N workers takes `fixed + image * B / N + 2 * norms * (N - 1) * latency + "
        "2 * ((N - 1) * latency + M * (N - 1) / N / bandwidth)`, as "
        "[scaling_model.py](../benchmarks/scaling_model.py) explains. Fitted here, with the engine "
        "native and through shared memory, and with a network that is assumed: 50 microseconds "
        "from one machine to the next, 10 Gbit/s.",
    ]
    slower = []
    for name, one in found["native"].items():
        here = fitted(one, found["sums"]["memory"], batch, smaller)
        there = replace(here, latency=ASSUMED_LATENCY, bandwidth=ASSUMED_BANDWIDTH)
        plain = fitted(found["plain"][name], found["sums"]["memory"], batch, smaller)
        plain = replace(plain, latency=ASSUMED_LATENCY, bandwidth=ASSUMED_BANDWIDTH)
        slower.append(f"for {name} {breaks_first(plain, batch)}")
        written += [
            "",
            f"**{name}**: fixed {1e3 * here.fixed:.1f} ms, {1e6 * here.image:.0f} us an image, "
            f"{here.norms} norms, {here.gradient_bytes / 1e6:.2f} MB of gradients; here "
            f"{1e6 * here.latency:.1f} us and {here.bandwidth / 1e9:.1f} GB/s. With a batch of "
            f"{batch} over that network, {breaks_first(there, batch)}.",
            "",
            f"| workers | step at {batch}, ms | times as fast | cost | step at {LARGE} each, ms | "
            "images/s | cost |",
            "|--:|--:|--:|--:|--:|--:|--:|",
        ]
        alone = there.seconds(1, batch) / batch
        for workers in WORKERS:
            grown = LARGE * workers
            own, weak = there.seconds(workers, batch), there.seconds(workers, grown)
            # More workers than images: the batch has to grow.
            fixed_size = (
                f"{1e3 * own:.1f} | {alone * batch / own:.1f} | {own * workers / batch / alone:.1f}"
                if workers <= batch
                else "- | - | -"
            )
            written.append(
                f"| {workers:,} | {fixed_size} | {1e3 * weak:.1f} | {grown / weak:,.0f} | "
                f"{weak * workers / grown / alone:.1f} |"
            )
    written += [
        "",
        "Cost is the workers' time for an image, as a multiple of one worker's with the large "
        "batch: what the same number of images costs in money.",
        "",
        "With the engine plain, whose steps take longer, exchanging weighs less: "
        f"{'; '.join(slower)}.",
    ]
    return written


def best(step: Step, batch: float, choices: Sequence[int] = WORKERS) -> int:
    """The number of workers that makes a step shortest."""
    return min((one for one in choices if one <= batch), key=lambda n: step.seconds(n, batch))
