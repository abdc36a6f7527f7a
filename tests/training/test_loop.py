"""The loop: what it computes, when it stops, what it keeps, and that resuming changes no bit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice, pairwise
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.data.dataset import Dataset
from sartor.data.feed.order import epoch_order
from sartor.data.splits.split import Split
from sartor.errors import TrainingError
from sartor.events import CheckpointDue, Ended, EpochDone, Event, StepDone
from sartor.training import loop, progress
from sartor.training.job import Job
from sartor.training.loop import Validation, train
from sartor.training.state import Checkpoint, Progress

MakeJob = Callable[..., Job]
Build = Callable[[], nn.Module]
CLOCKS = ("seconds", "images_per_second")


def never() -> bool:
    return False


def run(job: Job, progress: Progress | None = None) -> list[Event]:
    return list(train(job, progress or Progress(), never))


def of_type(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def last_of(events: list[Event]) -> Checkpoint:
    return of_type(events, CheckpointDue)[-1].last  # type: ignore[no-any-return]


def best_of(events: list[Event]) -> Checkpoint | None:
    kept = [event.best for event in of_type(events, CheckpointDue) if event.best is not None]
    return kept[-1] if kept else None


def rows_of(events: list[Event]) -> list[dict[str, Any]]:
    return [event.row for event in of_type(events, EpochDone)]


def weights_of(job: Job) -> Tensor:
    return torch.cat(
        [tensor.detach().flatten().double() for tensor in job.model.state_dict().values()]
    )


def without_clocks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in rows]


@pytest.fixture
def checkpoint_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_CHECKPOINT_SHARE", math.inf)


@pytest.fixture
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_STEP_EVENTS", 0.0)


class HandWritten:
    """The loop that a reader would write himself, with nothing but torch."""

    def __init__(self, toys: Dataset, split: Split, seed: int = 0) -> None:
        images = toys.images / 255
        # Rounded as in a recipe.
        mean, std = (round(float(f(images[split.train])), 6) for f in (np.mean, np.std))
        self.images = torch.tensor((images - mean) / std).float()
        self.labels = torch.from_numpy(toys.labels)
        self.split, self.seed = split, seed
        self.rows: list[dict[str, float]] = []

    def train(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        clip: float | None = None,
    ) -> None:
        train = torch.from_numpy(self.split.train)
        for epoch in range(epochs):
            model.train()
            order = epoch_order(len(train), self.seed, epoch) if shuffle else range(len(train))
            chosen = train[torch.tensor(np.array(order))]
            seen = []
            for start in range(0, len(chosen), batch_size):
                rows = chosen[start : start + batch_size]
                if drop_last and len(rows) < batch_size:
                    break
                optimizer.zero_grad()
                logits = model(self.images[rows])
                value = loss(logits, self.labels[rows])
                value.backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                right = (logits.argmax(1) == self.labels[rows]).sum()
                seen.append((value.item() * len(rows), int(right), len(rows)))
            losses, rights, counts = map(sum, zip(*seen, strict=True))
            self.rows.append({"train_loss": losses / counts, "train_accuracy": rights / counts})
            self.validate(model)

    def validate(self, model: nn.Module) -> None:
        model.eval()
        rows = torch.from_numpy(self.split.val)
        with torch.no_grad():
            logits = model(self.images[rows])
        self.rows[-1]["val_loss"] = float(F.cross_entropy(logits, self.labels[rows]))
        self.rows[-1]["val_accuracy"] = float(
            (logits.argmax(1) == self.labels[rows]).float().mean()
        )


@pytest.fixture
def by_hand(toys: Dataset, toy_split: Split) -> HandWritten:
    return HandWritten(toys, toy_split)


def copied(job: Job, build: Callable[[], nn.Module]) -> nn.Module:
    model = build()
    model.load_state_dict(job.model.state_dict())
    return model


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


class TestDescent:
    @pytest.mark.parametrize("batch_size", ["all", 1, 16, 31], ids=str)
    @pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
    def test_is_that_of_a_loop_by_hand(
        self, make_job: MakeJob, by_hand: HandWritten, batch_size: Any, shuffle: bool
    ) -> None:
        """Descent on the whole set, on single samples and on mini-batches; figures included."""
        network = linear()
        own = linear()
        own.load_state_dict(network.state_dict())
        job = make_job(
            network, opt="sgd", lr=0.02, epochs=3, batch_size=batch_size, shuffle=shuffle
        )
        rows = rows_of(run(job))
        size = 31 if batch_size == "all" else batch_size
        by_hand.train(
            own,
            torch.optim.SGD(own.parameters(), lr=0.02),
            epochs=3,
            batch_size=size,
            shuffle=shuffle,
        )
        torch.testing.assert_close(dict(network.state_dict()), dict(own.state_dict()))
        for row, expected in zip(rows, by_hand.rows, strict=True):
            assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-4)
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert [row["step"] for row in rows] == [k * math.ceil(31 / size) for k in (1, 2, 3)]

    @pytest.mark.parametrize(
        ("settings", "build"),
        [
            ({"opt": "adam"}, lambda p: torch.optim.Adam(p, lr=0.01)),
            (
                {"opt": "adamw", "weight_decay": 0.3, "weight_decay_on": "all"},
                lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3),
            ),
            (
                {"opt": "sgd", "momentum": 0.9, "nesterov": True},
                lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
            ),
        ],
        ids=["adam", "adamw", "nesterov"],
    )
    def test_with_other_optimizers(
        self,
        make_job: MakeJob,
        by_hand: HandWritten,
        settings: dict[str, Any],
        build: Callable[[Any], torch.optim.Optimizer],
    ) -> None:
        network, own = linear(), linear()
        own.load_state_dict(network.state_dict())
        job = make_job(network, lr=0.01, epochs=4, batch_size=8, **settings)
        run(job)
        by_hand.train(own, build(own.parameters()), epochs=4, batch_size=8)
        torch.testing.assert_close(
            dict(network.state_dict()), dict(own.state_dict()), rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize("drop_last", [True, False])
    def test_drop_last_leaves_the_incomplete_batch_out(
        self, make_job: MakeJob, by_hand: HandWritten, drop_last: bool
    ) -> None:
        network, own = linear(), linear()
        own.load_state_dict(network.state_dict())
        run(make_job(network, opt="sgd", lr=0.1, epochs=2, batch_size=8, drop_last=drop_last))
        optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
        by_hand.train(own, optimizer, epochs=2, batch_size=8, drop_last=drop_last)
        torch.testing.assert_close(dict(network.state_dict()), dict(own.state_dict()))

    @pytest.mark.parametrize("loss", ["mse", "bce"])
    def test_with_other_losses(self, make_job: MakeJob, by_hand: HandWritten, loss: str) -> None:
        network, own = linear(), linear()
        own.load_state_dict(network.state_dict())
        run(make_job(network, opt="sgd", lr=0.1, epochs=2, batch_size=8, loss=loss))
        function = {"mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}[loss]
        by_hand.train(
            own,
            torch.optim.SGD(own.parameters(), lr=0.1),
            epochs=2,
            batch_size=8,
            loss=lambda logits, labels: function(logits, F.one_hot(labels, 3).float()),
        )
        torch.testing.assert_close(dict(network.state_dict()), dict(own.state_dict()))

    def test_with_class_weights_and_smoothing(
        self, make_job: MakeJob, by_hand: HandWritten
    ) -> None:
        """They shape training and its figures; validation judges without them."""
        weights = torch.tensor([0.2, 1.0, 7.0])
        network, own = linear(), linear()
        own.load_state_dict(network.state_dict())
        rows = rows_of(
            run(
                make_job(
                    network,
                    opt="sgd",
                    lr=0.1,
                    epochs=2,
                    batch_size=31,
                    smoothing=0.2,
                    class_weights=weights.tolist(),
                )
            )
        )
        loss = nn.CrossEntropyLoss(weights, label_smoothing=0.2)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
        by_hand.train(own, optimizer, epochs=2, batch_size=31, loss=loss)
        torch.testing.assert_close(dict(network.state_dict()), dict(own.state_dict()))
        for row, expected in zip(rows, by_hand.rows, strict=True):
            assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("clip", [0.05, 1000.0], ids=["short", "long"])
    def test_clip_grad(self, make_job: MakeJob, by_hand: HandWritten, clip: float) -> None:
        network, own = linear(), linear()
        own.load_state_dict(network.state_dict())
        first = weights_of(make_job(network))
        run(make_job(network, opt="sgd", lr=0.1, epochs=2, batch_size="all", clip_grad=clip))
        optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
        by_hand.train(own, optimizer, epochs=2, batch_size=31, clip=clip)
        torch.testing.assert_close(dict(network.state_dict()), dict(own.state_dict()))
        # Two steps, none longer than learning rate times limit, which they would be without it.
        way = float((weights_of(make_job(network)) - first).norm())
        assert (way <= 2 * 0.1 * 0.05 * 1.001) == (clip == 0.05)

    @pytest.mark.usefixtures("report_every_step")
    def test_the_learning_rate_is_that_of_the_schedule(self, make_job: MakeJob) -> None:
        """Its factor on the gradient, not only what is reported."""
        network = linear()
        job = make_job(network, opt="sgd", lr=0.1, epochs=2, batch_size=16, sched="cosine")
        before = [dict(copied(job, linear).state_dict())]
        rates = []
        for event in train(job, Progress(), never):
            if isinstance(event, StepDone):
                rates.append(event.learning_rate)
                before.append({k: t.clone() for k, t in network.state_dict().items()})
        expected = [0.05 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
        assert rates == pytest.approx(expected)
        for step, (old, new) in enumerate(pairwise(before)):
            network.load_state_dict(old)
            batch = job.batches.batch(*divmod(step, 2))
            logits = network(batch.images)
            gradient = torch.autograd.grad(
                F.cross_entropy(logits, batch.labels), network[1].weight
            )[0]
            moved = old["1.weight"] - new["1.weight"]
            torch.testing.assert_close(moved, expected[step] * gradient, rtol=1e-3, atol=1e-6)


def test_of_a_mixed_picture_the_larger_share_counts() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0]])
    shares = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.7, 0.3], [0.1, 0.5, 0.4]])
    assert progress.count_correct(logits, shares) == 2
    assert progress.count_correct(logits, shares.argmax(1)) == 2


class TestAccumulation:
    @pytest.mark.parametrize("weights", ["none", "balanced", (0.2, 1.0, 5.0)], ids=str)
    @pytest.mark.parametrize(("small", "groups"), [(4, 3), (1, 8), (5, 2), (3, 31), (31, 2)])
    def test_is_one_batch_that_many_times_larger(
        self, make_job: MakeJob, small: int, groups: int, weights: Any
    ) -> None:
        """31 images: the last group is incomplete, and its parts are of unequal size."""
        common = {"opt": "sgd", "lr": 0.05, "momentum": 0.5, "epochs": 2, "class_weights": weights}
        nets = [linear(), linear()]
        nets[1].load_state_dict(nets[0].state_dict())
        parts = make_job(nets[0], batch_size=small, grad_accum_steps=groups, **common)
        whole = make_job(nets[1], batch_size=small * groups, **common)
        rows = [rows_of(run(job)) for job in (parts, whole)]
        torch.testing.assert_close(
            weights_of(parts), weights_of(whole), rtol=1e-4, atol=1e-6, check_dtype=False
        )
        for ours, expected in zip(*map(without_clocks, rows), strict=True):
            assert ours == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("weights", ["none", "balanced"])
    def test_so_it_is_of_mixed_pictures(self, make_job: MakeJob, weights: str) -> None:
        """Whose partners depend on no batch."""
        common = {"opt": "sgd", "lr": 0.05, "epochs": 2, "class_weights": weights}
        common |= {"augment": "flip mixup=1 cutmix", "loss": "cross-entropy"}
        nets = [linear(), linear()]
        nets[1].load_state_dict(nets[0].state_dict())
        parts = make_job(nets[0], batch_size=5, grad_accum_steps=2, **common)
        whole = make_job(nets[1], batch_size=10, **common)
        rows = [rows_of(run(job)) for job in (parts, whole)]
        torch.testing.assert_close(weights_of(parts), weights_of(whole), rtol=1e-4, atol=1e-6)
        for ours, expected in zip(*map(without_clocks, rows), strict=True):
            assert ours == pytest.approx(expected, rel=1e-4)

    def test_takes_no_more_than_a_batch_at_a_time(self, make_job: MakeJob) -> None:
        """Otherwise it would save no memory."""
        sizes = []
        network = linear()
        network.register_forward_hook(lambda _, images, __: sizes.append(len(images[0])))
        job = make_job(network, batch_size=4, grad_accum_steps=3, epochs=1)
        for _ in islice(of_steps(job), 3):
            pass
        assert max(sizes) <= 4
        assert sum(sizes) == 31

    def test_of_the_whole_set(self, make_job: MakeJob) -> None:
        nets = [linear(), linear()]
        nets[1].load_state_dict(nets[0].state_dict())
        for net, groups in zip(nets, (4, 1), strict=True):
            run(make_job(net, opt="sgd", batch_size="all", grad_accum_steps=groups, epochs=2))
        torch.testing.assert_close(dict(nets[0].state_dict()), dict(nets[1].state_dict()))


def of_steps(job: Job) -> Iterator[None]:
    """One update after the other, without validation."""
    for position in range(len(job.batches)):
        loop.update(job, job.batches.batch(0, position), 0.01)
        yield


def script(monkeypatch: pytest.MonkeyPatch, figures: list[tuple[float, float]]) -> None:
    """Let the validations of one training give these (loss, accuracy)."""
    coming = iter(figures)
    monkeypatch.setattr(
        loop,
        "validate",
        lambda *_: Validation(
            **dict(zip(("loss", "accuracy"), next(coming), strict=True)),
            balanced_accuracy=0.5,
            macro_f1=0.5,
        ),
    )


class TestEarlyStopping:
    ACCURACIES = (0.5, 0.7, 0.6, 0.7, 0.65, 0.8, 0.1, 0.1, 0.1)
    LOSSES = (1.0, 0.9, 0.8, 0.85, 0.8, 0.95, 0.7, 0.9, 0.9)

    def stopped(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, **settings: Any
    ) -> tuple[list[Event], Progress, dict[int, Tensor]]:
        script(monkeypatch, list(zip(self.LOSSES, self.ACCURACIES, strict=True)))
        job = make_job(batch_size=16, epochs=9, **settings)
        progress, events, weights = Progress(), [], {}
        for event in train(job, progress, never):
            events.append(event)
            if isinstance(event, EpochDone):
                weights[event.row["epoch"]] = job.model.state_dict()["linear.weight"].clone()
        return events, progress, weights

    @pytest.mark.parametrize(
        ("monitor", "patience", "last_epoch", "best_epoch"),
        [
            ("val_accuracy", 1, 3, 2),
            ("val_accuracy", 2, 4, 4),  # a tie is not an improvement, but its loss is lower
            ("val_accuracy", 3, 5, 4),
            ("val_accuracy", 4, 9, 6),
            ("val_loss", 1, 4, 3),
            ("val_loss", 3, 6, 3),
            ("val_loss", 4, 9, 7),
            ("val_accuracy", None, 9, 6),
        ],
    )
    def test_stops_after_patience_and_keeps_the_best(
        self,
        make_job: MakeJob,
        monkeypatch: pytest.MonkeyPatch,
        monitor: str,
        patience: int | None,
        last_epoch: int,
        best_epoch: int,
    ) -> None:
        events, progress, weights = self.stopped(
            make_job, monkeypatch, monitor=monitor, patience=patience
        )
        assert progress.epoch == len(rows_of(events)) == last_epoch
        assert events[-1] == Ended(reason="stopped early" if last_epoch < 9 else "finished")
        assert progress.stopped_early == (last_epoch < 9)
        assert progress.best_epoch == best_epoch
        figures = self.ACCURACIES if monitor == "val_accuracy" else self.LOSSES
        assert progress.best_value == figures[best_epoch - 1]
        best = best_of(events)
        assert best is not None
        assert torch.equal(best.weights["linear.weight"], weights[best_epoch])
        assert best.progress.epoch == best_epoch
        assert torch.equal(last_of(events).weights["linear.weight"], weights[last_epoch])
        same = torch.equal(weights[best_epoch], weights[last_epoch])
        assert same == (best_epoch == last_epoch)

    def test_says_which_epochs_were_the_best_so_far(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events, _, _ = self.stopped(make_job, monkeypatch)
        best = [event.row["epoch"] for event in of_type(events, EpochDone) if event.best]
        assert best == [1, 2, 4, 6]

    def test_of_equal_epochs_the_one_with_the_lowest_validation_loss_is_the_best(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(monkeypatch, [(0.5, 0.7), (0.3, 0.7), (0.4, 0.7), (math.nan, 0.7), (0.2, 0.6)])
        progress = Progress()
        events = run(make_job(epochs=5), progress)
        assert [event.best for event in of_type(events, EpochDone)] == [True, True, *[False] * 3]
        assert (progress.best_epoch, progress.best_value) == (2, 0.7)
        assert progress.patience_from == 1, "a tie is not an improvement"

    def test_a_figure_that_is_no_number_is_never_the_best(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(monkeypatch, [(math.nan, 0.1), (0.9, 0.1), (-math.inf, 0.1), (math.nan, 0.1)])
        progress = Progress()
        run(make_job(epochs=4, monitor="val_loss"), progress)
        assert (progress.best_epoch, progress.best_value) == (2, 0.9)

    def test_without_validation_there_is_no_best(self, make_job: MakeJob, toy_split: Split) -> None:
        split = Split(toy_split.train, toy_split.val[:0], toy_split.test)
        progress = Progress()
        events = run(make_job(split=split, epochs=2), progress)
        assert best_of(events) is None
        assert progress.best_epoch == 0
        assert rows_of(events)[0]["val_loss"] is rows_of(events)[0]["val_accuracy"] is None

    @pytest.mark.usefixtures("checkpoint_every_step")
    def test_a_checkpoint_brings_the_best_once(self, make_job: MakeJob) -> None:
        events = of_type(run(make_job(epochs=3, batch_size=16)), CheckpointDue)
        brought = [event.best.progress.epoch for event in events if event.best is not None]
        assert len(brought) == len(set(brought))


class Failing(nn.Module):
    """Linear, until a step at which its output or its gradient is no longer a number."""

    def __init__(self, at_step: int, *, gradient: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 3)
        self.left, self.gradient = at_step, gradient

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images.flatten(1))
        if not self.training:
            return logits
        self.left -= 1
        if self.left == 0 and self.gradient:
            logits.register_hook(lambda gradient: gradient * math.inf)
        return logits * math.nan if self.left == 0 and not self.gradient else logits


class TestNotFinite:
    """31 images in batches of 10 are four steps per epoch."""

    @pytest.mark.usefixtures("checkpoint_every_step")
    @pytest.mark.parametrize(
        ("step", "place"),
        [(1, r"step 1 \(epoch 1\)"), (4, r"step 4 \(epoch 1\)"), (7, r"step 7 \(epoch 2\)")],
    )
    def test_a_loss_ends_training_with_step_and_learning_rate(
        self, make_job: MakeJob, step: int, place: str
    ) -> None:
        job = make_job(Failing(step, gradient=False), batch_size=10, epochs=3, lr=0.25)
        with pytest.raises(
            TrainingError, match=rf"loss is nan at {place}, learning rate 0\.25"
        ) as caught:
            self.consume(job)
        assert "--lr" in caught.value.hint

    @pytest.mark.parametrize("step", [1, 3, 4, 5, 12])
    @pytest.mark.parametrize("every_step", [True, False])
    def test_weights_that_are_no_numbers_are_never_kept(
        self,
        make_job: MakeJob,
        monkeypatch: pytest.MonkeyPatch,
        step: int,
        every_step: bool,
    ) -> None:
        """The loss of that step is fine, its gradient is not; after the last there is no other."""
        if every_step:
            monkeypatch.setattr(progress, "_CHECKPOINT_SHARE", math.inf)
        job = make_job(Failing(step, gradient=True), batch_size=10, epochs=3, lr=0.25, opt="sgd")
        with pytest.raises(TrainingError, match=r"(loss is nan|not finite) at step \d+ .*0\.25"):
            self.consume(job)

    def test_a_far_too_high_learning_rate(self, make_job: MakeJob) -> None:
        job = make_job(model="mlp", opt="sgd", lr=1000.0, loss="mse", epochs=50, batch_size=10)
        with pytest.raises(TrainingError, match="learning rate 1000"):
            self.consume(job)

    def consume(self, job: Job) -> None:
        for event in train(job, Progress(), never):
            if isinstance(event, CheckpointDue):
                for kept in filter(None, (event.last, event.best)):
                    assert all(t.isfinite().all() for t in kept.weights.values())
                    assert all(t.isfinite().all() for t in kept.optimizer.values())


RESUMED: dict[str, dict[str, Any]] = {
    "plain": {"opt": "sgd", "momentum": 0.9},
    "adam, schedule": {"opt": "adam", "sched": "onecycle"},
    "dropout": {"model": "mlp", "model_kwargs": {"hidden": [8], "dropout": 0.4}},
    "in the order of files": {"shuffle": False, "opt": "rmsprop", "momentum": 0.5},
    "accumulation, weights": {"grad_accum_steps": 3, "batch_size": 3, "class_weights": "balanced"},
    "patience": {"patience": 1, "opt": "sgd", "lr": 1e-6},
    "batch norm, dropout, channels last": {"model": "everything"},
    "bfloat16": {"model": "everything", "amp_dtype": "bfloat16"},
    "no validation": {"model": "everything", "val": False},
    "augmentation": {"augment": "flip crop=1 rotate=20 erase sharpness", "opt": "sgd"},
    "mixing, weights": {"augment": "mixup cutmix", "class_weights": "balanced", "smoothing": 0.1},
    "drop last": {"drop_last": True, "clip_grad": 0.5, "sched": "cosine", "warmup_epochs": 0.5},
}


@pytest.fixture
def rebuilt(
    make_job: MakeJob, everything: Build, toy_split: Split
) -> Callable[[dict[str, Any]], Job]:
    def make(settings: dict[str, Any]) -> Job:
        settings = {"epochs": 3, "batch_size": 8, "seed": 3, "lr": 0.01} | settings
        network = None
        if settings.get("model") == "everything":
            del settings["model"]
            network = everything()
        split = toy_split
        if not settings.pop("val", True):
            split = Split(toy_split.train, toy_split.val[:0], toy_split.test)
        return make_job(network, split=split, **settings)

    return make


Rebuilt = Callable[[dict[str, Any]], Job]


class TestResuming:
    def go_on(
        self, job: Job, checkpoint: Checkpoint, stop_asked: Callable[[], bool] = never
    ) -> tuple[list[Event], Progress]:
        """From a checkpoint that went through a file, with a network full of rubbish before."""
        kept = Checkpoint.from_bytes(checkpoint.to_bytes(), "last")
        with torch.no_grad():
            for tensor in [*job.model.state_dict().values(), *job.optimizer.tensors.values()]:
                tensor.fill_(7)
        job.model.load_state_dict(kept.weights)
        job.optimizer.load(kept.optimizer)
        return list(train(job, kept.progress, stop_asked)), kept.progress

    def same(self, ours: Checkpoint, expected: Checkpoint) -> None:
        assert ours.weights_sha256 == expected.weights_sha256
        assert ours.optimizer.keys() == expected.optimizer.keys()
        for name, tensor in ours.optimizer.items():
            assert torch.equal(tensor, expected.optimizer[name]), name
        mine, other = ours.progress, expected.progress
        assert without_clocks(mine.history) == without_clocks(other.history)
        for name in ("step", "epoch", "position", "best_epoch", "best_value", "stopped_early"):
            assert getattr(mine, name) == getattr(other, name), name

    @pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
    def test_from_every_step_ends_in_the_same_bits(
        self, rebuilt: Rebuilt, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        straight = run(rebuilt(settings))
        monkeypatch.setattr(progress, "_CHECKPOINT_SHARE", math.inf)
        events = run(rebuilt(settings))
        self.same(last_of(events), last_of(straight))
        kept = of_type(events, CheckpointDue)
        steps = last_of(events).progress.step
        assert {event.last.progress.step for event in kept} == set(range(steps + 1))
        for number, event in enumerate(kept):
            again, _ = self.go_on(rebuilt(settings), event.last)
            self.same(last_of(again), last_of(events))
            assert again[-1] == events[-1]
            before = [e.best for e in kept[: number + 1] if e.best is not None]
            ours, best = best_of(again) or (before[-1] if before else None), best_of(events)
            assert (ours is None) == (best is None)
            if ours is not None and best is not None:
                assert ours.weights_sha256 == best.weights_sha256

    @pytest.mark.parametrize("stop_at", range(1, 13))
    def test_interrupted_anywhere_and_resumed(self, rebuilt: Rebuilt, stop_at: int) -> None:
        settings = RESUMED["batch norm, dropout, channels last"]
        calls = iter(range(1, 100))
        progress = Progress()
        events = list(train(rebuilt(settings), progress, lambda: next(calls) == stop_at))
        assert events[-1] == Ended(reason="interrupted")
        assert last_of(events).progress.step == progress.step == stop_at
        again, _ = self.go_on(rebuilt(settings), last_of(events))
        self.same(last_of(again), last_of(run(rebuilt(settings))))

    def test_step_by_step_with_a_new_process_each_time(self, rebuilt: Rebuilt) -> None:
        """Stopped after every single step: errors could add up over sessions."""
        settings = RESUMED["dropout"]
        job = rebuilt(settings)
        events = list(train(job, Progress(), lambda: True))
        while events[-1] == Ended(reason="interrupted"):
            events, _ = self.go_on(rebuilt(settings), last_of(events), lambda: True)
        self.same(last_of(events), last_of(run(rebuilt(settings))))

    @pytest.mark.usefixtures("checkpoint_every_step")
    def test_time_goes_on(self, rebuilt: Rebuilt) -> None:
        kept = of_type(run(rebuilt({})), CheckpointDue)
        checkpoint = kept[7].last
        checkpoint.progress.seconds, checkpoint.progress.sums.seconds = 1000.0, 100.0
        again, progress = self.go_on(rebuilt({}), checkpoint)
        row = rows_of(again)[0]
        assert 1000 < row["seconds"] < 1010
        assert 1000 < progress.seconds < 1010
        assert row["images_per_second"] == pytest.approx(31 / 100, rel=0.05)

    def test_a_checkpoint_does_not_move_with_training(self, rebuilt: Rebuilt) -> None:
        steps = train(rebuilt({}), Progress(), never)
        first = next(steps)
        assert isinstance(first, CheckpointDue)
        then = Checkpoint.from_bytes(first.last.to_bytes(), "first")
        for _ in steps:
            pass
        self.same(first.last, then)
        assert first.last.progress == then.progress

    def test_of_a_finished_training_trains_no_more(self, rebuilt: Rebuilt) -> None:
        events = run(rebuilt({}))
        again, progress = self.go_on(rebuilt({}), last_of(events))
        assert progress.step == last_of(events).progress.step
        self.same(last_of(again), last_of(events))

    def test_more_epochs_go_on_where_it_ended(self, rebuilt: Rebuilt) -> None:
        """With a constant learning rate, three epochs and two more are five."""
        settings = RESUMED["batch norm, dropout, channels last"]
        three = run(rebuilt(settings | {"epochs": 3}))
        five, _ = self.go_on(rebuilt(settings | {"epochs": 5}), last_of(three))
        self.same(last_of(five), last_of(run(rebuilt(settings | {"epochs": 5}))))


class TestSeeds:
    def final(self, job: Job) -> str:
        return last_of(run(job)).weights_sha256

    @pytest.mark.parametrize("name", ["plain", "dropout", "bfloat16"])
    def test_the_same_seed_gives_the_same_bits(self, rebuilt: Rebuilt, name: str) -> None:
        """Whatever the global generators hold."""
        torch.manual_seed(1)
        first = self.final(rebuilt(RESUMED[name]))
        torch.manual_seed(2)
        np.random.seed(3)
        assert self.final(rebuilt(RESUMED[name])) == first

    def test_another_seed_gives_other_weights(self, rebuilt: Rebuilt) -> None:
        finals = {self.final(rebuilt({"seed": seed})) for seed in (0, 1, 2, 2**32 - 1)}
        assert len(finals) == 4

    def test_decides_the_first_weights(self, make_job: MakeJob) -> None:
        first = {tuple(weights_of(make_job(seed=seed)).tolist()) for seed in (0, 0, 1)}
        assert len(first) == 2

    def test_decides_the_order(self, make_job: MakeJob) -> None:
        """The same first weights, no dropout: what remains is the order."""
        finals = set()
        for seed in (0, 1):
            network = linear()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.zero_()
            finals.add(self.final(make_job(network, seed=seed, epochs=1, batch_size=8)))
        assert len(finals) == 2

    def test_decides_dropout(self, rebuilt: Rebuilt) -> None:
        """The same first weights and the order of the files: what remains is dropout."""
        finals = {
            self.final(rebuilt({"model": "everything", "shuffle": False, "seed": seed}))
            for seed in (0, 1)
        }
        assert len(finals) == 2

    def test_dropout_differs_from_step_to_step(self, make_job: MakeJob) -> None:
        masks = []
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3))
        network[1].register_forward_hook(
            lambda module, _, out: (
                masks.append(tuple((out == 0).flatten().tolist())) if module.training else None
            )
        )
        run(make_job(network, batch_size="all", shuffle=False, epochs=6))
        assert len(masks) == len(set(masks)) == 6


class TestPrecision:
    def test_bfloat16_trains_to_other_weights_of_single_precision(
        self, make_job: MakeJob, everything: Build
    ) -> None:
        jobs = [
            make_job(everything(), amp_dtype=amp, epochs=30, lr=0.02, batch_size=8)
            for amp in ("float32", "bfloat16")
        ]
        rows = [rows_of(run(job)) for job in jobs]
        assert all(one[-1]["train_accuracy"] > 0.9 for one in rows)
        assert not torch.equal(weights_of(jobs[0]), weights_of(jobs[1]))
        assert all(p.dtype == torch.float32 for p in jobs[1].model.parameters())

    def test_bfloat16_is_what_the_network_computes_in(self, make_job: MakeJob) -> None:
        network, seen = linear(), set()
        network.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
        run(make_job(network, amp_dtype="bfloat16", epochs=1))
        assert seen == {torch.bfloat16}


class TestModes:
    def test_dropout_and_batch_norm_are_on_in_training_and_off_in_validation(
        self, make_job: MakeJob, everything: Build
    ) -> None:
        network, modes = everything(), []
        network.register_forward_hook(lambda module, _, __: modes.append(module.training))
        network.eval()
        run(make_job(network, epochs=2, batch_size=16))
        assert modes == [True, True, False, True, True, False]


class TestEvents:
    @pytest.mark.usefixtures("report_every_step")
    def test_steps(self, make_job: MakeJob) -> None:
        events = run(make_job(epochs=2, batch_size=10, lr=0.25))
        steps = of_type(events, StepDone)
        assert [(one.step, one.epoch, one.position) for one in steps] == [
            (step + 1, step // 4 + 1, step % 4 + 1) for step in range(8)
        ]
        assert {(one.total_steps, one.steps_per_epoch, one.epochs) for one in steps} == {(8, 4, 2)}
        assert {one.learning_rate for one in steps} == {0.25}
        # The figures are those of the epoch so far: at its end, of the row.
        for step, row in zip(steps[3::4], rows_of(events), strict=True):
            assert step.train_loss == row["train_loss"]
            assert step.train_accuracy == row["train_accuracy"]
        assert steps[-1].seconds_left == 0
        assert steps[0].seconds_left > 0

    @pytest.mark.usefixtures("report_every_step")
    def test_the_order_of_an_epoch(self, make_job: MakeJob) -> None:
        kinds = [type(event).__name__ for event in run(make_job(epochs=2, batch_size=16))]
        epoch = ["StepDone", "StepDone", "EpochDone"]
        spoken = [kind for kind in kinds[1:-2] if kind != "CheckpointDue"]
        assert spoken == epoch * 2
        assert (kinds[0], *kinds[-2:]) == ("CheckpointDue", "CheckpointDue", "Ended")

    @pytest.mark.parametrize(
        ("asked", "costs", "waits"),
        [
            (0.0, [3.0, 0.1], [0.0, 0.0]),
            (7.0, [3.0, 0.1], [7.0, 7.0]),
            ("auto", [0.08, 0.16, 0.08], [10.0, 20.0, 10.0]),
            # A minute is too short for what always takes long.
            ("auto", [0.8, 1.6, 1.6], [100.0, 100.0, 200.0]),
            # But not for what took long once.
            ("auto", [0.08, 8.0, 0.08], [10.0, 60.0, 10.0]),
        ],
    )
    def test_how_long_until_the_next_checkpoint(
        self, asked: float | str, costs: list[float], waits: list[float], make_job: MakeJob
    ) -> None:
        job = make_job(checkpoint_seconds=asked, batch_size=16)
        tracker = progress.Tracker(job, Progress())
        assert [tracker._seconds_between(cost) for cost in costs] == pytest.approx(waits)

    def test_a_checkpoint_after_every_step(self, make_job: MakeJob) -> None:
        events = run(make_job(checkpoint_seconds=0, epochs=3, batch_size=16))
        steps = [event.last.progress.step for event in of_type(events, CheckpointDue)]
        assert steps == [0, 1, 2, 3, 4, 5, 6, 6]

    def test_few_are_said(self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
        """Checkpoints take a hundredth of the time, steps are reported ten times per second."""
        ticks = count()
        monkeypatch.setattr(progress.time, "perf_counter", lambda: next(ticks) / 1000)
        events = run(make_job(epochs=100, batch_size=16, val_fraction=0.0))
        assert len(of_type(events, StepDone)) < 20
        assert len(of_type(events, CheckpointDue)) < 10
        assert len(rows_of(events)) == 100


def test_the_objectives_loss_counts_images_once_however_they_are_batched(
    make_job: MakeJob,
) -> None:
    """A mean of batch means would weigh the last, smaller batch too much."""
    rows = []
    for size in (31, 8, 30):
        network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        with torch.no_grad():
            network[1].weight.copy_(torch.linspace(-1, 1, 108).view(3, 36))
            network[1].bias.zero_()
        rows += rows_of(run(make_job(network, opt="sgd", lr=1e-12, epochs=1, batch_size=size)))
    for key in ("train_loss", "train_accuracy", "val_loss"):
        assert rows[0][key] == pytest.approx(rows[1][key], rel=1e-5)
        assert rows[0][key] == pytest.approx(rows[2][key], rel=1e-5)


def test_validation_in_parts_is_that_of_the_whole(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    whole = loop.validate(job)
    monkeypatch.setattr("sartor.inference.forward._batch_size", lambda _: 4)
    parts = loop.validate(job)
    assert whole is not None
    assert parts is not None
    assert replace(parts, loss=0.0) == replace(whole, loss=0.0)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)


class TestClassAverages:
    """Nine validation images; the network says what it is told."""

    @pytest.mark.parametrize(
        "answers",
        [
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 1, 2, 0, 1, 2, 0, 1, 2],
            [2, 2, 2, 1, 1, 1, 2, 0, 2],
        ],
    )
    def test_are_those_of_scikit_learn(
        self, make_job: MakeJob, toys: Dataset, toy_split: Split, answers: list[int]
    ) -> None:
        job = make_job(Saying(answers))
        labels = toys.labels[toy_split.val]
        figures = loop.validate(job)
        assert figures is not None
        assert figures.accuracy == sklearn.metrics.accuracy_score(labels, answers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that occur as a prediction alone
            balanced = sklearn.metrics.balanced_accuracy_score(labels, answers)
        assert figures.balanced_accuracy == pytest.approx(balanced)
        macro = sklearn.metrics.f1_score(labels, answers, average="macro")
        assert figures.macro_f1 == pytest.approx(macro)

    @pytest.mark.parametrize("monitor", ["val_balanced_accuracy", "val_macro_f1"])
    def test_can_decide_which_epoch_is_the_best(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, monitor: str
    ) -> None:
        values = iter([0.3, 0.6, 0.5])
        field = monitor.removeprefix("val_")
        plain = Validation(loss=1.0, accuracy=0.9, balanced_accuracy=0.1, macro_f1=0.1)
        monkeypatch.setattr(loop, "validate", lambda *_: replace(plain, **{field: next(values)}))
        progress = Progress()
        rows = rows_of(run(make_job(epochs=3, monitor=monitor), progress))
        assert [row[monitor] for row in rows] == [0.3, 0.6, 0.5]
        assert (progress.best_epoch, progress.best_value) == (2, 0.6)

    def test_are_none_without_validation(self, make_job: MakeJob, toy_split: Split) -> None:
        split = Split(toy_split.train, toy_split.val[:0], toy_split.test)
        (row,) = rows_of(run(make_job(epochs=1, split=split)))
        assert (row["val_balanced_accuracy"], row["val_macro_f1"]) == (None, None)


class Saying(nn.Module):
    """Answers in evaluation mode as it is told."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(()))
        self.answers = torch.tensor(answers)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot(self.answers[: len(images)], 3) * self.number
