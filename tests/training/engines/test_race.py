"""Racing engines: who wins, who is left out, and that nothing is changed by it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sartor import assembly, native_module
from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.models import registry
from sartor.models.backbones import BACKBONES
from sartor.recipe import Recipe
from sartor.training.engines import hardware
from sartor.training.engines import race as racing
from sartor.training.engines.hardware import ExecutionPlan
from sartor.training.engines.race import Measurement, Timing
from sartor.training.job import Job
from sartor.training.loop import seed_random_numbers, update
from sartor.training.optim import Optimizer

MakeJob = Callable[..., Job]
USUAL = ExecutionPlan(memory_format="channels-last", amp_dtype="float32", threads=2, engine="plain")
OPEN = {"memory_format", "amp_dtype", "threads"}


class Clock:
    """Stands still but for networks that say how long they take."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races are timed by `CLOCK`, whatever else the machine does."""
    monkeypatch.setattr(racing, "time", CLOCK)


class Slow(nn.Module):
    """A network that takes its time by `CLOCK`."""

    def __init__(self, seconds: float = 0.001, scale: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(36, 3)
        self.seconds, self.scale = seconds, scale

    def forward(self, images: Tensor) -> Tensor:
        CLOCK.now += self.seconds
        return self.scale * self.head(images.flatten(1))


def timing(times_as_fast: float, **differences: Any) -> Timing:
    one = replace(USUAL, **differences)
    seconds = 0.01 / times_as_fast
    return Timing(
        engine=one,
        seconds_a_step=seconds,
        times_as_fast=times_as_fast,
        at_least=times_as_fast,
        quickest=seconds,
        rounds=5,
    )


class TestChoices:
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    dense = nn.Linear(2, 2)

    def test_are_all_pairs_of_what_is_open_the_default_first(self) -> None:
        found = racing.choices(USUAL, OPEN, self.conv)
        assert found[0] == USUAL
        assert {(one.memory_format, one.amp_dtype) for one in found} == {
            (layout, precision)
            for layout in ("channels-last", "contiguous")
            for precision in ("float32", "bfloat16")
        }
        assert len(found) == 4
        assert {one.threads for one in found} == {2}

    @pytest.mark.parametrize("name", sorted(OPEN))
    def test_what_is_given_is_kept(self, name: str) -> None:
        for model in (self.conv, self.dense):
            found = racing.choices(USUAL, OPEN - {name}, model)
            assert {getattr(one, name) for one in found} == {getattr(USUAL, name)}
        assert bool(racing.fewer_threads(USUAL, OPEN - {name})) == (name != "threads")

    def test_native_is_raced_against_the_plain_engine_where_there_are_convolutions(self) -> None:
        native = replace(USUAL, engine="native", memory_format="contiguous")
        found = racing.choices(native, OPEN, self.conv)
        assert found[0] == native
        assert {one.engine for one in found[1:]} == {"plain"}
        assert {one.memory_format for one in found[1:]} == {"channels-last", "contiguous"}
        dense = racing.choices(native, OPEN, self.dense)
        assert [(one.engine, one.amp_dtype) for one in dense] == [
            ("native", "float32"),
            ("plain", "bfloat16"),
        ]
        assert racing.choices(native, {"threads"}, self.dense) == [native]

    def test_native_in_bfloat16_races_where_a_convolution_is_wide(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        native = replace(USUAL, engine="native", memory_format="contiguous")
        rounding = replace(native, amp_dtype="bfloat16")
        free, wide = OPEN | {"instructions"}, nn.Conv2d(16, 16, 3)
        monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda _: True)
        monkeypatch.setattr(native_module, "bfloat16_sets", lambda: ("amx-bf16",))
        assert rounding in racing.choices(native, free, wide)
        pytorch = replace(USUAL, amp_dtype="bfloat16")
        assert racing.duel(native, free, wide, "cpu") == [native, pytorch, rounding]
        for open_, model in (
            (free, nn.Conv2d(15, 16, 3)),
            (OPEN, wide),
            (free - {"amp_dtype"}, wide),
        ):
            assert rounding not in racing.choices(native, open_, model)
        monkeypatch.setattr(native_module, "bfloat16_sets", tuple)
        assert rounding not in racing.choices(native, free, wide)

    def test_where_pytorch_is_wrong_in_a_layout_it_does_not_race(self) -> None:
        conv = nn.Sequential(nn.Conv2d(1, 7, (4, 4), stride=(1, 2), padding=(2, 0)))
        found = racing.choices(replace(USUAL, memory_format="contiguous"), OPEN, conv)
        assert {one.memory_format for one in found} == {"contiguous"}
        assert {one.amp_dtype for one in found} == {"float32", "bfloat16"}

    def test_a_duel_is_native_against_bfloat16(self, monkeypatch: pytest.MonkeyPatch) -> None:
        native = replace(USUAL, engine="native", memory_format="contiguous")
        monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda _: True)
        bfloat16 = replace(USUAL, amp_dtype="bfloat16")
        assert racing.duel(native, OPEN, self.conv, "cpu") == [native, bfloat16]
        assert racing.duel(native, OPEN - {"amp_dtype"}, self.conv, "cpu") == []
        assert racing.duel(USUAL, OPEN, self.conv, "cpu") == []
        monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda _: False)
        assert racing.duel(native, OPEN, self.conv, "cpu") == []

    def test_a_graph_on_cuda_alone(self) -> None:
        for device, graph in (("cuda", True), ("cpu", False), ("mps", False)):
            found = racing.choices(USUAL, OPEN, self.conv, device)
            assert any(one.engine == "graph" for one in found) == graph

    def test_the_layout_matters_to_convolutions_alone(self) -> None:
        found = racing.choices(USUAL, OPEN, self.dense)
        assert {one.memory_format for one in found} == {"channels-last"}

    @pytest.mark.parametrize(
        ("threads", "fewer"),
        [(1, []), (2, [1]), (3, [1]), (8, [4, 2, 1]), (64, [32, 16, 1]), (100, [50, 25, 1])],
    )
    def test_threads_are_halved(self, threads: int, fewer: list[int]) -> None:
        assert racing.fewer_threads(replace(USUAL, threads=threads), OPEN) == fewer


class TestFastest:
    def test_the_default_unless_another_is_clearly_faster(self) -> None:
        for speed, chosen in ((1.06, "channels-last"), (1.08, "contiguous")):
            timings = [timing(1.0), timing(speed, memory_format="contiguous")]
            assert racing.fastest(timings).engine.memory_format == chosen

    def test_the_fastest_of_those_that_differ_alike(self) -> None:
        timings = [timing(1.0), timing(1.5, threads=1), timing(1.6, amp_dtype="bfloat16")]
        assert racing.fastest(timings) == timings[2]

    def test_what_differs_more_must_pay_for_it(self) -> None:
        nearly = timing(1.55, amp_dtype="bfloat16", threads=1)
        clearly = timing(1.65, amp_dtype="bfloat16", threads=1)
        once = timing(1.5, amp_dtype="bfloat16")
        assert racing.fastest([timing(1.0), nearly, once]) == once
        assert racing.fastest([timing(1.0), clearly, once]) == clearly

    def test_only_what_is_far_faster_is_believed_of_a_busy_machine(self) -> None:
        """One thread may be 22 times as fast as two that wait for each other: 16 s or 363 s."""
        for times_as_fast, at_least, chosen in ((22.0, 9.0, 1), (22.0, 1.5, 2), (1.6, 1.5, 2)):
            other = replace(timing(times_as_fast, threads=1), at_least=at_least)
            assert racing.fastest([timing(1.0), other], busy=True).engine.threads == chosen
            assert racing.fastest([timing(1.0), other]).engine.threads == 1

    def test_a_machine_is_busy_where_others_take_its_cores_or_a_step_takes_as_long_as_it_likes(
        self,
    ) -> None:
        unsteady = replace(timing(1.0), quickest=0.003)
        for default, interruptions, busy in (
            (timing(1.0), 30.0, False),
            (timing(1.0), 150.0, True),
            (unsteady, 0.0, True),
        ):
            timings = (default, timing(1.3, threads=1))
            found = Measurement(
                timings=timings, left_out=(), seconds=1.0, interruptions=interruptions
            )
            assert found.busy == busy
            assert found.choice == timings[not busy]

    @pytest.mark.parametrize(
        ("others", "found"), [((7.0, 7.1), 0.0), ((7.0, 8.2), 200.0), ((None, None), 200.0)]
    )
    def test_own_threads_that_take_cores_from_each_other_are_no_other_programs(
        self,
        others: tuple[float | None, float | None],
        found: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(racing, "involuntary_switches", lambda: 500)
        monkeypatch.setattr(racing, "seconds_of_others", lambda: others[1])
        assert racing._interruptions(100, others[0], seconds=2.0) == found


def jobs_of(make_job: MakeJob, **networks: nn.Module) -> Callable[[ExecutionPlan], Job]:
    """Jobs whose network depends on the memory format."""

    def job_of(one: ExecutionPlan) -> Job:
        network = networks[one.memory_format.replace("-", "_")]
        layout = one.memory_format
        return make_job(copy.deepcopy(network), memory_format=layout, engine="plain", opt="sgd")

    return job_of


ENGINES = [replace(USUAL, threads=1), replace(USUAL, threads=1, memory_format="contiguous")]


@pytest.mark.usefixtures("clock")
class TestRace:
    def test_the_faster_wins_by_as_much_as_it_is_faster(self, make_job: MakeJob) -> None:
        base = Slow()
        slow, fast = copy.deepcopy(base), copy.deepcopy(base)
        slow.seconds, fast.seconds = 0.02, 0.005
        result = racing.race(ENGINES, jobs_of(make_job, channels_last=slow, contiguous=fast), 0.2)
        assert racing.fastest(result.timings).engine == ENGINES[1]
        default, other = result.timings
        assert default.times_as_fast == 1
        assert default.seconds_a_step == default.quickest == pytest.approx(0.02)
        assert other.seconds_a_step == other.quickest == pytest.approx(0.005)
        assert other.times_as_fast == other.at_least == pytest.approx(4)
        assert default.rounds >= racing.FEWEST_ROUNDS
        assert 0.2 <= result.seconds < 0.3

    def test_the_hopeless_end_early(self, make_job: MakeJob) -> None:
        base = Slow(0.002)
        slow = copy.deepcopy(base)
        slow.seconds = 0.02
        result = racing.race(ENGINES, jobs_of(make_job, channels_last=base, contiguous=slow), 0.6)
        default, other = result.timings
        assert other.rounds == racing.FEWEST_ROUNDS < default.rounds
        assert racing.fastest(result.timings) == default

    def test_one_that_fails_is_left_out_with_its_reason(self, make_job: MakeJob) -> None:
        class Failing(Slow):
            def forward(self, _: Tensor) -> Tensor:
                raise RuntimeError("no kernel for this here.\nand more")

        jobs = jobs_of(make_job, channels_last=Slow(), contiguous=Failing())
        result = racing.race(ENGINES, jobs, 0)
        assert [timing.engine for timing in result.timings] == ENGINES[:1]
        assert result.left_out == ((ENGINES[1], "no kernel for this here"),)

    def test_one_that_computes_something_else_is_left_out(self, make_job: MakeJob) -> None:
        torch.manual_seed(0)
        base = Slow()
        wrong = copy.deepcopy(base)
        wrong.scale = 30.0
        result = racing.race(ENGINES, jobs_of(make_job, channels_last=base, contiguous=wrong), 0)
        (one, reason), *rest = result.left_out
        assert (one, rest) == (ENGINES[1], [])
        assert reason.startswith("the first loss is")

    def test_what_the_default_fails_with_leaves(self, make_job: MakeJob) -> None:
        class Failing(Slow):
            def forward(self, _: Tensor) -> Tensor:
                raise KeyError("mine")

        with pytest.raises(KeyError):
            racing.race(ENGINES, jobs_of(make_job, channels_last=Failing()), 0)

    def test_the_fastest_is_tried_with_fewer_threads(self, make_job: MakeJob) -> None:
        seen = []

        class Waiting(Slow):
            def forward(self, images: Tensor) -> Tensor:
                CLOCK.now += 0.002 * torch.get_num_threads()
                seen.append(torch.get_num_threads())
                return self.head(images.flatten(1))

        network = Waiting()

        def job_of(one: ExecutionPlan) -> Job:
            return make_job(copy.deepcopy(network), threads=one.threads, opt="sgd")

        result = racing.measure([USUAL], [1], job_of, 0.1)
        assert racing.fastest(result.timings).engine == replace(USUAL, threads=1)
        assert set(seen) == {1, 2}
        assert torch.get_num_threads() == 1, "as it was before"


class TestWithCompiled:
    measured = Measurement(
        timings=(timing(1.0), timing(1.6, amp_dtype="bfloat16")),
        left_out=(),
        seconds=1.0,
        interruptions=0.0,
    )

    def raced(self, monkeypatch: pytest.MonkeyPatch, *results: Timing) -> Measurement:
        def race(engines: list[ExecutionPlan], _job_of: Any, _seconds: float) -> Measurement:
            assert [one.engine for one in engines] == ["plain", "plain", "compiled"]
            assert engines[-1].amp_dtype == "bfloat16"
            return Measurement(timings=results, left_out=(), seconds=2.0, interruptions=90.0)

        monkeypatch.setattr(racing, "race", race)
        return racing.with_compiled(self.measured, lambda _: None, 1.0)  # type: ignore[arg-type, return-value]

    def test_adds_the_choice_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiled = timing(2.0, amp_dtype="bfloat16", engine="compiled")
        found = self.raced(monkeypatch, *self.measured.timings, compiled)
        assert found.timings == (*self.measured.timings, compiled)
        assert racing.fastest(found.timings) == compiled
        assert found.seconds == 3.0
        assert found.busy

    def test_where_native_is_ahead_the_fastest_of_pytorch_is_compiled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        native = timing(1.0, engine="native", memory_format="contiguous")
        plain = [timing(0.8), timing(0.9, amp_dtype="bfloat16")]
        before = Measurement(timings=(native, *plain), left_out=(), seconds=1.0, interruptions=0.0)
        raced: list[ExecutionPlan] = []

        def race(engines: list[ExecutionPlan], *_: Any) -> Measurement:
            raced.extend(engines)
            return replace(before, timings=before.timings[: len(engines)])

        monkeypatch.setattr(racing, "race", race)
        racing.with_compiled(before, lambda _: None, 1.0)  # type: ignore[arg-type, return-value]
        assert raced == [native.engine, replace(plain[1].engine, engine="compiled")]
        alone = replace(before, timings=(native,))
        assert racing.with_compiled(alone, lambda _: None, 1.0) == alone  # type: ignore[arg-type, return-value]

    def test_where_it_fails_nothing_is_added(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.raced(monkeypatch, *self.measured.timings)
        assert found.timings == self.measured.timings


# ------------------------------------------------------------------------------ the same arithmetic

SMALL = sorted(set(registry.names()) - set(BACKBONES))
"""Of those with pretrained weights, 12 pixels leave nothing."""
SIZE, CLASSES, IMAGES = 12, 5, 16
LOGITS_DIFFER = {"float32": 1e-5, "bfloat16": 0.02}
GRADIENTS_DIFFER = {"float32": 1e-5, "bfloat16": 0.2}
"""At most so much: the length of the difference over the length. bfloat16 keeps 8 bits; where two
pixels are that near, pooling chooses the other, and its gradient goes another way."""


def job_with(model: str, one: ExecutionPlan) -> Job:
    """A registered model on noise; the same first weights for every engine."""
    rng = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (IMAGES, 1, SIZE, SIZE), generator=rng, dtype=torch.uint8)
    labels = torch.arange(IMAGES) % CLASSES
    settings = vars(one) | {"opt": "sgd", "lr": 0.1, "batch_size": IMAGES, "device": "cpu"}
    recipe = Recipe().with_settings({"model": model, "val_fraction": 0.0, **settings})
    dataset = Dataset(images.numpy(), labels.numpy(), tuple("abcde"))
    rows = torch.arange(IMAGES).numpy()
    split = Split(rows, rows[:0], rows[:0])
    return assembly.assemble(recipe, dataset, split).job


class Step(NamedTuple):
    """What an update saw and did."""

    loss: Tensor
    logits: Tensor
    gradients: dict[str, Tensor]
    moves: dict[str, Tensor]
    """Of weights and buffers."""


def a_step(job: Job) -> Step:
    """One update with its own random numbers."""
    before = copy.deepcopy(job.model.state_dict())
    with hardware.tuned(job.settings):
        job.model.train()
        seed_random_numbers(0, 0)
        outcome = (job.engine_update or update)(job, job.batches.batch(0, 0), 0.1)
    gradients = {
        name: parameter.grad
        for name, parameter in job.model.named_parameters()
        if parameter.grad is not None
    }
    assert gradients
    moves = {name: tensor - before[name] for name, tensor in job.model.state_dict().items()}
    return Step(outcome.loss, outcome.logits, gradients, moves)


def every_engine() -> list[ExecutionPlan]:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(1000, 1000))
    usual = replace(USUAL, memory_format="contiguous")
    engines = racing.choices(usual, OPEN, network)
    return [*engines[1:], *(replace(usual, threads=n) for n in racing.fewer_threads(usual, OPEN))]


@pytest.mark.parametrize(
    "one", every_engine(), ids=lambda one: "-".join(map(str, vars(one).values()))
)
@pytest.mark.parametrize("model", SMALL)
def test_every_engine_computes_what_the_plain_one_does(model: str, one: ExecutionPlan) -> None:
    assert_alike(model, one)


@pytest.mark.skipif(
    hardware.problem("compiled", "cpu") is not None, reason="needs a C++ compiler: install g++"
)
@pytest.mark.parametrize("model", sorted(set(SMALL) - {"resnet14", "resnet20"}))
def test_so_does_the_compiled_one(model: str) -> None:
    """Of the residual networks the smallest, whose blocks are those of the others."""
    assert_alike(model, replace(USUAL, engine="compiled"))


def assert_alike(model: str, one: ExecutionPlan) -> None:
    """The same loss, logits, gradients and step, but for rounding."""
    plain = a_step(job_with(model, replace(USUAL, memory_format="contiguous")))
    other = a_step(job_with(model, one))
    apart, wide = LOGITS_DIFFER[one.amp_dtype], GRADIENTS_DIFFER[one.amp_dtype]
    assert float(other.loss) == pytest.approx(float(plain.loss), rel=apart)
    assert distance({"": plain.logits}, {"": other.logits}) <= apart
    assert distance(plain.gradients, other.gradients) <= wide
    # Weights are rounded when they move.
    assert distance(plain.moves, other.moves) <= wide + 1e-4


def distance(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """Length of the difference over the length, all tensors taken as one vector."""
    assert {name: tensor.shape for name, tensor in expected.items()} == {
        name: tensor.shape for name, tensor in found.items()
    }
    one, other = (
        torch.cat([tensors[name].double().flatten() for name in expected])
        for tensors in (expected, found)
    )
    return float((one - other).norm() / one.norm())


# --------------------------------------------------------------------------------------- no trace


def test_a_race_on_copies_leaves_model_optimizer_and_random_numbers(
    make_job: MakeJob, everything: Callable[[], nn.Module]
) -> None:
    job = make_job(everything(), opt="adam", memory_format="contiguous")
    update(job, job.batches.batch(0, 0), 0.01)
    before = copy.deepcopy((job.model.state_dict(), job.optimizer.tensors))
    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)

    def job_of(one: ExecutionPlan) -> Job:
        model = hardware.laid_out(copy.deepcopy(job.model), one.memory_format)
        settings = replace(job.settings, amp_dtype=one.amp_dtype, threads=one.threads)
        return replace(job, model=model, optimizer=Optimizer(model, settings), settings=settings)

    usual = ExecutionPlan.of(job.settings)
    racing.measure(racing.choices(usual, OPEN, job.model), [1], job_of, 0.05)
    assert racing.seconds_a_step(job_of(usual)) > 0
    assert torch.equal(torch.rand(3), expected)
    for old, new in zip(before, (job.model.state_dict(), job.optimizer.tensors), strict=True):
        assert old.keys() == new.keys()
        for name, tensor in old.items():
            assert torch.equal(tensor, new[name]), name
            assert tensor.stride() == new[name].stride()
