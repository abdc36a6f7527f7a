"""What each of several processes does for tests/test_several.py, which starts them.

    python tests/several.py FOLDER ENGINE

Law 2 and law 1 across processes: each check compares what this process has of a batch with what it
computes of the whole batch by itself, and the trainings are compared by the test.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import sartor
from sartor import distributed, native_module
from sartor.data.feed.shares import Share
from sartor.distributed import GroupCommunicator, Team
from sartor.errors import SartorError, SartorWarning
from sartor.interrupts import StopRequest
from sartor.models.dropout import Dropout
from sartor.training.together import Agreement
from sartor.training.whole_batch import WholeBatch, over_whole_batch

COMMON: dict[str, Any] = {
    "threads": 1,
    "report": False,
    "check": False,
    "epochs": 2,
    "limit_per_class": 30,
}
TRAININGS: dict[str, dict[str, Any]] = {
    "dropout": {"model": "lenet", "model_kwargs": {"dropout": 0.3}, "batch_size": 32},
    "mlp": {"model": "mlp", "model_kwargs": {"dropout": 0.3}},
    "norms": {"model": "resnet8", "batch_size": 50, "opt": "sgd", "lr": 0.01, "epochs": 1},
    "mixing": {
        "model": "lenet",
        "model_kwargs": {"dropout": 0.2},
        "batch_size": 16,
        "augment": ("flip", "crop=2", "mixup"),
        "class_weights": "balanced",
        "grad_accum_steps": 3,
        "clip_grad": 1.0,
        "smoothing": 0.1,
    },
    "balanced": {
        "model": "lenet",
        "batch_size": 20,
        "augment": ("crop=1", "cutmix"),
        "sampler": "balanced",
        "drop_last": True,
        "loss": "bce",
        "patience": 1,
        "epochs": 3,
    },
    # The last batch has one image: fewer than there are processes.
    "one left": {"model": "resnet8", "batch_size": 13, "opt": "sgd", "lr": 0.01, "epochs": 1},
}
AGAIN = ("dropout", "norms")
"""Trained twice, for their bits: through memory that is shared, and as between machines."""


def main(folder: Path, engine: str) -> None:
    """Check the sums, then train, then fail on purpose."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=SartorWarning)
    torch.set_num_threads(1)
    team = distributed.team()
    assert team is not None
    if team.leads:
        team.meet()
    team.open("cpu")
    for check in (sums, lists_and_bytes, agreement, normalization, masks, alike):
        check(team)
    shares_memory = not isinstance(team.communicator("ordered"), GroupCommunicator)
    assert shares_memory == (native_module.module() is not None)
    team.close()
    for name, settings in TRAININGS.items():
        train(folder / name, engine, settings)
    team.local_size = 1  # as if each were on a machine of its own
    team.open("cpu")
    assert isinstance(team.communicator("ordered"), GroupCommunicator)
    for check in (sums, lists_and_bytes):
        check(team)
    team.close()
    for name in AGAIN:
        train(folder / f"{name} again", engine, TRAININGS[name])
    told = {name: refusal(folder / name, change) for name, change in MISTAKES.items()}
    path = folder / f"told-{team.rank}.json"
    path.write_text(json.dumps(told), encoding="utf-8")


def train(out: Path, engine: str, settings: dict[str, Any]) -> None:
    """As a program does it that every process runs."""
    sartor.fit("digits", out=out, engine=engine, **COMMON | settings)


def sums(team: Team) -> None:
    """Of any length, whichever way, the same at all, and ordered ones as a plain loop has them."""
    for length in (1, 5, 20_000, 70_001):
        rows = torch.randn(team.size, length, generator=torch.Generator().manual_seed(length))
        expected = rows[0].clone()
        for row in rows[1:]:
            expected += row
        found = team.add_up(rows[team.rank].clone())
        assert torch.equal(found, expected), "the order of ranks"
        quick = team.add_up(rows[team.rank].clone(), "fast")
        torch.testing.assert_close(quick, expected)
        assert torch.equal(team.gather(quick), quick.expand(team.size, -1)), "the same everywhere"
        assert torch.equal(team.gather(rows[team.rank]), rows)


def lists_and_bytes(team: Team) -> None:
    own = [float(team.rank) + 0.5] * team.rank
    expected = [[rank + 0.5] * rank for rank in range(team.size)]
    assert team.gather_lists(own) == expected
    for content in (b"", b"one", bytes(70_000)):
        assert team.spread(content if team.leads else b"") == content


def agreement(team: Team) -> None:
    """A signal to one is heard by all after the same step; only the first one's clock counts."""
    request = StopRequest(signal_number=15 if team.rank == team.size - 1 else 0)
    agreed = Agreement(team, request)
    agreed.is_due = lambda: not team.leads
    for asked in (15, 0):
        agreed.agree(team.add_up(torch.tensor(agreed.own())).tolist())
        assert request.number == asked
        assert request.asked() == bool(asked)
        assert not agreed.due
        request.signal_number = 0
    agreed.is_due = lambda: True
    agreed.agree(team.add_up(torch.tensor(agreed.own())).tolist())
    assert agreed.due


def normalization(team: Team) -> None:
    """Against PyTorch's own, of the whole batch, forward, backward and in what it keeps."""
    layers: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
        (lambda: nn.BatchNorm2d(3, momentum=0.3), (3, 4, 5)),
        (lambda: nn.BatchNorm1d(3, affine=False), (3,)),
        (lambda: nn.BatchNorm1d(3, momentum=None), (3, 7)),
        (lambda: nn.BatchNorm3d(3, track_running_stats=False), (3, 2, 2, 2)),
    ]
    for make, shape in layers:
        for count in (7, team.size - 1):
            for layout in (torch.contiguous_format, torch.channels_last):
                if layout == torch.contiguous_format or len(shape) == 3:
                    one_normalization(team, make, (count, *shape), layout)


def one_normalization(
    team: Team, make: Callable[[], nn.Module], shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    if shape[0] * int(np.prod(shape[2:])) < 2:
        return  # of a single number PyTorch refuses a variance
    torch.manual_seed(3)
    whole, own = make(), make()
    generator = torch.Generator().manual_seed(5)
    images, wanted = (
        (torch.randn(shape, generator=generator) * 3 + 7).contiguous(memory_format=layout)
        for _ in range(2)
    )
    every = images.clone().requires_grad_()
    expected = whole(every)
    expected.backward(wanted)
    (rows,) = Share(team.rank, team.size).of_batch(len(images))
    mine = slice(rows.start, rows.start + rows.number)
    share = images[mine].clone().requires_grad_()
    context = WholeBatch(team, "cpu")
    with over_whole_batch(own, context), context.part(rows):
        found = own(share)
        found.backward(wanted[mine] if rows.counts else torch.zeros_like(wanted[mine]))
    assert type(own) is type(whole), "as it was before"
    torch.testing.assert_close(found, expected[mine], atol=1e-5, rtol=1e-5)
    if rows.counts:
        assert every.grad is not None
        torch.testing.assert_close(share.grad, every.grad[mine], atol=1e-5, rtol=1e-5)
    for one, other in zip(whole.parameters(), own.parameters(), strict=True):
        assert other.grad is not None
        total = team.add_up(other.grad.clone())
        torch.testing.assert_close(total, one.grad, atol=1e-3, rtol=1e-4)
    for one, other in zip(whole.buffers(), own.buffers(), strict=True):
        torch.testing.assert_close(other, one)
    assert torch.equal(own.eval()(images), own(images)), "in evaluation as it is"


def masks(team: Team) -> None:
    """A row's mask is that of the whole batch, whichever dropout; what else draws, draws apart."""
    shapes = {Dropout: (6, 5), nn.Dropout: (6, 5, 5), nn.Dropout2d: (6, 5, 5)}
    for kind, shape in shapes.items():
        for layout in (torch.contiguous_format, torch.channels_last):
            if len(shape) < 3 and layout == torch.channels_last:
                continue
            torch.manual_seed(11)
            layer = kind(0.4)
            ones = torch.ones(9, *shape).contiguous(memory_format=layout)
            expected = [layer(ones) for _ in range(2)]
            (rows,) = Share(team.rank, team.size).of_batch(9)
            mine = slice(rows.start, rows.start + rows.number)
            context = WholeBatch(team, "cpu")
            torch.manual_seed(11)
            context.begin_step()
            elsewhere = torch.rand(4)
            with over_whole_batch(layer, context), context.part(rows):
                found = [layer(ones[mine]) for _ in range(2)]
            for one, other in zip(expected, found, strict=True):
                assert torch.equal(one[mine], other), kind
            assert team.gather(elsewhere).unique(dim=0).shape[0] == team.size


def alike(team: Team) -> None:
    """Where processes differ in a bit, the first one's count, also in buffers."""
    model = nn.BatchNorm1d(4)
    own = Agreement(team, StopRequest())
    own.keep_alike(model)
    with torch.no_grad():
        model.weight += 1e-7 * team.rank
        model.running_mean += team.rank
        model.num_batches_tracked += team.rank
    own.keep_alike(model)
    assert torch.equal(model.weight, torch.ones(4))
    assert torch.equal(model.running_mean, torch.zeros(4))
    assert int(model.num_batches_tracked) == 0


def other_data() -> dict[str, Any]:
    random = np.random.default_rng(int(os.environ["RANK"]))
    images = random.integers(0, 255, (60, 8, 8)).astype(np.uint8)
    return {"data": (images, np.arange(60) % 3), "limit_per_class": None}


def unusable() -> dict[str, Any]:
    """Before the others are called."""
    return {"data": "digits", "lr": -1}


def other_arguments() -> dict[str, Any]:
    if os.environ["RANK"] == "1":
        sys.argv = [*sys.argv, "--lr", "1"]
    return {"data": "digits"}


def diverging() -> dict[str, Any]:
    return {"data": "digits", "lr": 1e3, "opt": "sgd", "model": "lenet"}


MISTAKES: dict[str, Callable[[], dict[str, Any]]] = {
    "unusable": unusable,
    "other data": other_data,
    "diverging": diverging,
    "other arguments": other_arguments,
}


def refusal(out: Path, change: Callable[[], dict[str, Any]]) -> str:
    """What a training says that cannot go well."""
    try:
        sartor.fit(**COMMON | {"out": out} | change())
    except SartorError as error:
        return error.message
    return "nothing"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
