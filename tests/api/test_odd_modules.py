"""Networks of a user's own that hold or draw what PyTorch's own layers do not."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import Interrupted, ModelError
from sartor.events import Event, Note, StepDone
from sartor.models.copying import copied_network

FILE = """
import itertools, random, threading
import numpy as np
import torch
from torch import nn


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(10))

    def forward(self, images):
        return self.layers(images)


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), nn.LazyLinear(10)

    def forward(self, images):
        return self.second(self.first(images)) if self.training else self.first(images)


class Locked(Lazy):
    def __init__(self):
        super().__init__()
        self.guards = {"one": threading.Lock(), "two": [threading.RLock()]}

    def forward(self, images):
        with self.guards["one"], self.guards["two"][0]:
            return super().forward(images)


class Endless(Lazy):
    def __init__(self):
        super().__init__()
        self.numbers = (number for number in range(1_000_000))

    def forward(self, images):
        next(self.numbers)
        return super().forward(images)


class Drawing(Lazy):
    def forward(self, images):
        if self.training:
            noise = np.random.standard_normal(tuple(images.shape))
            images = images * (0.5 + random.random()) + torch.from_numpy(noise).float()
        return super().forward(images)


class Counting(Lazy):
    def __init__(self):
        super().__init__()
        self.steps, self.mean, self.drawn = 0, torch.zeros(1), random.Random(1)
        self.ids = itertools.count()
        self.fixed = {"width": 8, "table": torch.ones(3)}

    def forward(self, images):
        self.steps, self.mean = self.steps + 1, self.mean + images.mean()
        self.scale, self.hidden = self.drawn.random(), super().forward(images).mean()
        next(self.ids)
        return super().forward(images)
"""


@pytest.fixture
def digits() -> Dataset:
    return sartor.load("digits")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def fit(digits: Dataset, file: Path, name: str, **more: object) -> sartor.Run:
    settings = {"epochs": 2, "threads": 1, "batch_size": 500, "check": False, "report": False}
    out = file.parent / str(more.pop("out", name))
    return sartor.fit(digits, model=f"{file}:{name}", out=out, **{**settings, **more})


def notes_of(digits: Dataset, file: Path, name: str) -> str:
    events: list[Event] = []
    fit(digits, file, name, epochs=1, on_event=events.append)
    return "\n".join(event.text for event in events if isinstance(event, Note))


class TestLazy:
    def test_its_parameters_are_counted_trained_and_read_back(
        self, digits: Dataset, file: Path
    ) -> None:
        run = fit(digits, file, "Lazy")
        assert run.weights_sha256 == fit(digits, file, "Lazy", out="again").weights_sha256
        kept = sum(one.numel() for one in run.network("last").parameters())
        assert kept == 64 * 8 + 8 + 8 * 10 + 10
        assert run.evaluate("val").count == len(run.split().val)

    def test_an_object_is_given_again_untouched(self, digits: Dataset, file: Path) -> None:
        namespace: dict[str, type] = {}
        exec(FILE, namespace)
        settings = {"threads": 1, "batch_size": 500, "check": False, "report": False}
        run = sartor.fit(
            digits, model=namespace["Lazy"](), epochs=1, out=file.parent / "object", **settings
        )
        figure = run.evaluate("val").accuracy
        again = sartor.evaluate(run.path, "val", data=digits, model=namespace["Lazy"]())
        assert again.accuracy == figure
        longer = sartor.resume(
            run.path, epochs=2, data=digits, model=namespace["Lazy"](), report=False
        )
        assert len(longer.history) == 2

    def test_a_layer_that_evaluation_leaves_out_is_named(self, digits: Dataset, file: Path) -> None:
        with pytest.raises(
            ModelError, match=r'Layer "second" \(LazyLinear\) of the model has no shape'
        ):
            fit(digits, file, "Conditional")


class TestCopies:
    def test_locks_are_new_ones(self) -> None:
        namespace: dict[str, type] = {}
        exec(FILE, namespace)
        network = namespace["Locked"]()
        with network.guards["one"], network.guards["two"][0]:
            copy = copied_network(network)
            assert copy.guards["one"].acquire(blocking=False)
        assert copy.guards["two"][0] is not network.guards["two"][0]

    def test_what_cannot_be_copied_is_named(self) -> None:
        namespace: dict[str, type] = {}
        exec(FILE, namespace)
        with pytest.raises(ModelError, match="numbers of Endless: cannot pickle 'generator'"):
            copied_network(namespace["Endless"]())


class TestRandomNumbers:
    def test_killed_and_resumed_ends_in_the_same_bits(self, digits: Dataset, file: Path) -> None:
        def stop(event: Event) -> None:
            if isinstance(event, StepDone):
                os.kill(os.getpid(), signal.SIGTERM)

        whole = fit(digits, file, "Drawing")
        random.seed(1)
        np.random.seed(1)
        with pytest.raises(Interrupted):
            fit(digits, file, "Drawing", out="cut", on_event=stop)
        random.seed(2)
        np.random.seed(2)
        resumed = sartor.resume(file.parent / "cut", report=False)
        assert resumed.weights_sha256 == whole.weights_sha256

    def test_those_of_the_program_are_as_before(self, digits: Dataset, file: Path) -> None:
        random.seed(5)
        np.random.seed(5)
        expected = random.Random(5).random(), np.random.RandomState(5).random_sample()
        fit(digits, file, "Drawing", epochs=1)
        assert (random.random(), np.random.random_sample()) == expected


class TestHiddenState:
    @pytest.mark.parametrize("name", ["Lazy", "Locked", "Drawing"])
    def test_nothing_is_said_where_there_is_none(
        self, digits: Dataset, file: Path, name: str
    ) -> None:
        assert "no checkpoint holds" not in notes_of(digits, file, name)

    def test_attributes_that_change_are_named(self, digits: Dataset, file: Path) -> None:
        said = notes_of(digits, file, "Counting")
        assert "steps of Counting, mean of Counting, drawn of Counting and 2 more changed" in said
        assert "numbers of Endless changed" in notes_of(digits, file, "Endless")

    def test_without_a_listener_it_is_a_warning(self, digits: Dataset, file: Path) -> None:
        with pytest.warns(sartor.SartorWarning, match="steps of Counting"):
            fit(digits, file, "Counting", epochs=1)
