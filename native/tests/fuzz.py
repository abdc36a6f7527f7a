"""Throws whatever Python may hand over at `_native`: it must compute or say what is wrong.

    python native/tests/fuzz.py FOLDER_OF_THE_MODULE SECONDS [SEED]

Meant for a module that is built with a sanitizer (`make native-test`), which ends the process at
the first byte that is read or written where none should be.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

Layer = dict[str, Any]
KINDS = ("linear", "conv", "max_pool", "avg_pool", "adaptive_avg_pool", "relu", "flatten",
         "batch_norm", "dropout", "residual")  # fmt: skip
REFUSALS = (ValueError, TypeError, MemoryError, OverflowError)
WILD = (
    -1,
    0,
    1,
    2,
    3,
    17,
    2**31,
    2**40,
    -(2**63),
    2**63,
    2**70,
    1.5,
    float("nan"),
    None,
    "3",
    [],
    True,
)


class Chance:
    """Draws arrays and layers; now and then something is wrong with them."""

    def __init__(self, seed: int, wrongness: float) -> None:
        self.draw = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.wrongness = wrongness

    def wrong(self) -> bool:
        return self.draw.random() < self.wrongness

    def whole(self, low: int, high: int) -> Any:
        return self.draw.choice(WILD) if self.wrong() else self.draw.randint(low, high)

    def pair(self, low: int, high: int, count: int = 2) -> Any:
        if self.wrong():
            return self.draw.choice([(), (1,), (1, 2, 3), 3, None, "ab", (2**40, 2**40)])
        return [self.draw.randint(low, high) for _ in range(count)]

    def floats(self, *shape: Any) -> Any:
        """float32 of a shape; or of another one, another kind, read-only, strided, not finite."""
        sides = [side if isinstance(side, int) and 0 <= side < 300 else 2 for side in shape]
        found = self.numbers.standard_normal(sides).astype(np.float32)
        if self.draw.random() < 0.02:
            found[...] = self.draw.choice([np.nan, np.inf, -np.inf, 0, 1e38, 1e-42])
        if not self.wrong():
            return found
        return self.draw.choice(
            [
                found.astype(np.float64),
                np.zeros(found.shape, np.int64),
                found[..., :-1],
                found.repeat(2)[::2],
                found[None],
                np.zeros(0, np.float32),
                np.asfortranarray(found.reshape(1, -1).repeat(2, 0)),
                None,
                "weights",
                list(found.ravel()[:3]),
            ]
        )

    def layer(self, shape: tuple[int, int, int], depth: int = 0) -> Layer:
        kind = self.draw.choice(KINDS) if not self.wrong() else self.draw.choice(["lstm", "", None])
        channels, height, width = shape
        found: Layer = {"kind": kind}
        if kind == "linear":
            inputs = self.whole(1, 9) if self.wrong() else channels * height * width
            out = self.whole(1, 40)
            found |= {"in": inputs, "out": out, "weight": self.floats(out, inputs)}
            found["bias"] = self.draw.choice([None, self.floats(out)])
        elif kind == "conv":
            # With enough channels, products may be of bfloat16.
            most = self.draw.choice([20, 70])
            out, kernel = self.whole(most // 2 - 9, most), self.pair(1, 5)
            inputs = self.whole(1, 9) if self.wrong() else channels
            sides = kernel if isinstance(kernel, list) else [3, 3]
            found |= {"in": inputs, "out": out, "kernel": kernel, "stride": self.pair(1, 3)}
            found["padding"] = self.pair(0, 3, 4)
            found["weight"] = self.floats(out, inputs, *sides)
            found["bias"] = self.draw.choice([None, self.floats(out)])
        elif kind in ("max_pool", "avg_pool"):
            found |= {"kernel": self.pair(1, 4), "stride": self.pair(1, 4)}
            found["padding"] = self.pair(0, 2)
            found |= {"ceil": self.draw.random() < 0.5, "count_padding": self.draw.random() < 0.5}
        elif kind == "adaptive_avg_pool":
            found["output"] = self.pair(1, 5)
        elif kind == "batch_norm":
            count = self.whole(1, 9) if self.wrong() else channels
            names = ("weight", "bias", "mean", "variance")
            found |= {"channels": count, **{name: self.floats(count) for name in names}}
            found |= {"momentum": 0.1, "epsilon": 1e-5, "frozen": self.draw.random() < 0.3}
        elif kind == "dropout":
            found["p"] = self.whole(0, 1) if self.wrong() else self.draw.random()
        elif kind == "residual" and depth < 2:
            found["body"] = [self.layer(shape, depth + 1) for _ in range(self.draw.randint(0, 3))]
            found["shortcut"] = [
                self.layer(shape, depth + 1) for _ in range(self.draw.randint(0, 1))
            ]
        if self.wrong() and found:
            found.pop(self.draw.choice(list(found)))
        return found


def sets_of(native: Any) -> list[str]:
    return [*native.build()["isas"], *native.build()["bfloat16"]]


def chain(chance: Chance, native: Any) -> tuple[list[Layer], tuple[int, int, int], int, Any]:
    """Layers that fit together as far as the engine takes them, and the network of them."""
    draw = chance.draw
    shape = (draw.randint(1, 4), draw.randint(1, 12), draw.randint(1, 12))
    threads, isa = draw.choice([1, 2, 3]), draw.choice([None, *sets_of(native)])
    layers: list[Layer] = []
    now = shape
    for _ in range(draw.randint(1, 5)):
        layer = chance.layer(now)
        try:
            native.Network([*layers, layer], shape, 0, threads, isa)
        except REFUSALS:
            continue
        layers.append(layer)
        now = after(layer, now)
    if draw.random() < 0.9:
        features = now[0] * now[1] * now[2]
        out = draw.randint(1, 12)
        weight, bias = chance.floats(out, features), chance.floats(out)
        layers += [{"kind": "flatten"}]
        layers += [{"kind": "linear", "in": features, "out": out, "weight": weight, "bias": bias}]
    outputs = chance.whole(1, 12) if chance.wrong() else 0
    return layers, shape, threads, native.Network(layers, shape, outputs, threads, isa)


def after(layer: Layer, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape after a layer that was taken."""
    channels, height, width = shape
    match layer["kind"]:
        case "linear":
            return layer["out"], 1, 1
        case "flatten":
            return channels * height * width, 1, 1
        case "adaptive_avg_pool":
            return channels, *layer["output"]
        case "conv":
            top, bottom, left, right = layer["padding"]
            sides = (height + top + bottom, width + left + right)
            rest = [side - kernel for side, kernel in zip(sides, layer["kernel"], strict=True)]
            down, right_ = (r // step + 1 for r, step in zip(rest, layer["stride"], strict=True))
            return layer["out"], down, right_
        case "max_pool" | "avg_pool":
            found = []
            for side, kernel, step, pad in zip(
                (height, width), layer["kernel"], layer["stride"], layer["padding"], strict=True
            ):
                rest = side + 2 * pad - kernel
                count = (-(-rest // step) if layer.get("ceil") and layer["kind"] == "avg_pool"
                         else rest // step) + 1  # fmt: skip
                if (
                    layer.get("ceil")
                    and layer["kind"] == "avg_pool"
                    and (count - 1) * step >= side + pad
                ):
                    count -= 1
                found.append(count)
            return channels, found[0], found[1]
        case "residual":
            for inner in layer["body"]:
                shape = after(inner, shape)
            return shape
        case _:
            return shape


def parameters(layers: list[Layer]) -> list[Any]:
    found = []
    for layer in layers:
        for name in ("weight", "bias"):
            if isinstance(layer.get(name), np.ndarray):
                found.append(layer[name])
        for name in ("body", "shortcut"):
            found += parameters(layer.get(name, []))
    return found


def forward(chance: Chance, native: Any) -> None:
    _, shape, _, network = chain(chance, native)
    count = chance.draw.choice([0, 1, 2, 15, 16, 17, 40])
    images = chance.floats(count, *shape)
    out = chance.floats(count, network.outputs)
    features = chance.draw.choice([None, chance.floats(count, network.features)])
    network.forward(images, out, features)
    total = chance.draw.randint(1, 30)
    pixels = chance.numbers.integers(0, 256, (total, *shape)).astype(np.uint8)
    high = total if not chance.wrong() else total + 3
    rows = chance.numbers.integers(0 if not chance.wrong() else -2, high, count)
    network.refresh()
    network.forward_bytes(
        pixels, rows, chance.floats(shape[0]), chance.floats(shape[0]), out, features
    )


class Echo:
    """One of several processes, of which the others have nothing."""

    def __init__(self, chance: Chance) -> None:
        self.size = chance.whole(1, 5)
        self.rank = chance.draw.randint(0, self.size - 1) if chance.draw.random() < 0.98 else 7

    def add_up(self, values: Any) -> None:
        values += 0

    def gather(self, own: Any, out: Any) -> None:
        out[:] = 0
        out[self.rank * len(own) :][: len(own)] = own

    def own_of(self, images: int, parts: int) -> int:
        length = -(-images // parts)
        sizes = [min(length, images - start) for start in range(0, images, length)]
        ends = [(n * self.rank // self.size, n * (self.rank + 1) // self.size) for n in sizes]
        return sum(end - first for first, end in ends)


def memory(chance: Chance, native: Any) -> None:
    """Shared by one process with itself."""
    size = chance.whole(1, 1)
    room = np.zeros(native.SharedMemory.bytes(size) + 64, np.uint8)
    room = room[-room.ctypes.data % 64 :]
    shared = native.SharedMemory(room, chance.whole(0, 0), [-1] * size, chance.draw.random())
    own = chance.numbers.integers(0, 256, chance.draw.choice([0, 1, 299])).astype(np.uint8)
    try:
        shared.add_up(chance.floats(chance.draw.choice([0, 1, 299])))
        shared.gather(own, np.empty(len(own) + chance.wrong(), np.uint8))
        shared.leave()
    except RuntimeError:
        if size == 1:
            raise  # else the others say nothing


def steps(chance: Chance, native: Any) -> None:
    layers, shape, _, network = chain(chance, native)
    draw, classes = chance.draw, network.outputs
    kind = draw.choice(["sgd", "adam", "adamw", "rmsprop", *(["lion"] if chance.wrong() else [])])
    entries = []
    for parameter in parameters(layers):
        if draw.random() < 0.15:
            continue
        averages = {name: np.zeros_like(parameter) for name in ("mean", "square", "momentum")}
        entry = {"parameter": parameter, "decay": 0.01, "factor": 1.0, **averages}
        entry["step"] = np.zeros(1, np.float32)
        if chance.wrong():
            entry.pop(draw.choice(list(entry)))
        entries.append(entry)
    optimizer = {"kind": kind, "momentum": draw.choice([0.0, 0.9]), "nesterov": draw.random() < 0.3,
                 "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "alpha": 0.99,
                 "parameters": entries}  # fmt: skip
    loss = {"kind": draw.choice(["cross-entropy", "mse", "bce"]), "smoothing": 0.1}
    loss["weights"] = draw.choice([None, chance.floats(classes)])
    parts, clip = draw.choice([1, 1, 2, 3]), draw.choice([0.0, 0.5])
    together = Echo(chance) if draw.random() < 0.4 else None
    trainer = native.Trainer(network, loss, optimizer, parts, clip, together)
    made, batch = draw.randint(1, 3), draw.choice([1, 5, 16, 17, 33])
    images = max(1, made * batch - draw.randint(0, batch - 1))
    figures = [np.full(made, 0.01), np.arange(made, dtype=np.uint64), np.empty(made),
               np.empty(made), np.empty(made, np.int64)]  # fmt: skip
    if chance.wrong():
        figures[draw.randrange(5)] = draw.choice([np.empty(made + 1), np.empty(0, np.int64), None])
    labels = chance.numbers.integers(0, classes if not chance.wrong() else classes + 2, images)
    if draw.random() < 0.5:
        total = draw.randint(1, 30)
        pixels = chance.numbers.integers(0, 256, (total, *shape)).astype(np.uint8)
        of_all = chance.numbers.integers(0, classes, total)
        rows = chance.numbers.integers(0, total if not chance.wrong() else total + 2, images)
        scale, shift = chance.floats(shape[0]), chance.floats(shape[0])
        trainer.steps_of_bytes(pixels, of_all, rows, scale, shift, batch, *figures)
        return
    if together is not None:
        images = together.own_of(batch, parts) + chance.wrong()
        labels, figures = labels[:images], [one if one is None else one[:1] for one in figures]
    if draw.random() < 0.5:
        shares = chance.numbers.dirichlet(np.ones(classes), images).astype(np.float32)
        trainer.steps_of_floats(chance.floats(images, *shape), shares, batch, *figures)
    else:
        trainer.steps_of_floats(chance.floats(images, *shape), labels, batch, *figures)


def main(folder: str, seconds: float, seed: int = 0) -> None:
    sys.path.insert(0, folder)
    native = importlib.import_module("_native")
    found: Counter[str] = Counter()
    ends, number = time.monotonic() + seconds, 0
    entrances: list[Callable[[Chance, Any], None]] = [forward, steps, memory]
    while time.monotonic() < ends:
        number += 1
        chance = Chance(seed * 1_000_003 + number, [0.0, 0.01, 0.1][number % 3])
        one = entrances[number % len(entrances)]
        try:
            one(chance, native)
            found[f"{one.__name__} computed"] += 1
        except REFUSALS as error:
            found[f"{one.__name__} refused, {type(error).__name__}"] += 1
    print(f"{number} tries, seed {seed}: {dict(found)}")
    assert all(found[f"{one.__name__} computed"] for one in entrances), "nothing was computed"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))
