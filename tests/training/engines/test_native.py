"""The engine native: the steps of the plain one but for rounding, and what it leaves to that."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor import assembly, native_module
from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.errors import RecipeError, TrainingError
from sartor.events import CheckpointDue, Ended
from sartor.inference.chain import NotAChainError, layers_of, network_of
from sartor.inference.forward import Forward
from sartor.models import registry
from sartor.models.backbones import BACKBONES
from sartor.models.dropout import Dropout
from sartor.recipe import Recipe
from sartor.training import progress as progress_module
from sartor.training.engines import hardware
from sartor.training.job import Figures, Job, Outcome
from sartor.training.loop import train
from sartor.training.optim import Optimizer
from sartor.training.seeding import step_seed, step_seeds
from sartor.training.settings import RETIRED_ENGINES
from sartor.training.state import Checkpoint, Progress

pytestmark = pytest.mark.skipif(
    native_module.missing() is not None, reason=f"no engine native: {native_module.missing()}"
)
in_bfloat16 = pytest.mark.skipif(
    not native_module.bfloat16_sets(), reason="no products of bfloat16 here"
)
MakeJob = Callable[..., Job]
SIZE, CLASSES, IMAGES, TRAINED = 12, 5, 30, 23
NETWORKS = sorted(set(registry.names()) - set(BACKBONES) - {"resnet14", "resnet20"})
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"opt": "sgd", "lr": 0.05},
    "nesterov": {"opt": "sgd", "lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "adam": {"opt": "adam", "lr": 0.001, "weight_decay": 0.1, "weight_decay_on": "all"},
    "adamw": {"opt": "adamw", "lr": 0.001, "weight_decay": 0.1},
    "rmsprop": {"opt": "rmsprop", "lr": 0.0003, "momentum": 0.5},
}
LOSSES: dict[str, dict[str, Any]] = {
    "mse": {"loss": "mse"},
    "bce": {"loss": "bce", "class_weights": "balanced"},
    "smoothed": {"smoothing": 0.2, "class_weights": (1.0, 2.0, 0.5, 1.0, 0.1)},
    "mixed": {"augment": "flip mixup=1 cutmix"},
    "augmented": {"augment": "flip crop=1"},
    "accumulated": {"grad_accum_steps": 3, "batch_size": 3, "clip_grad": 0.1},
    "clipped": {"clip_grad": 0.05},
    "two threads": {"threads": 2},
    "frozen norms": {"freeze_norms": True},
    "decayed by layer": {"layer_decay": 0.5},
    "drop last": {"drop_last": True, "shuffle": False},
}


def job_of(model: str | nn.Module, engine: str, **more: Any) -> Job:
    """A training on noise; the same first weights for every engine."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (IMAGES, 3, SIZE, SIZE)).astype(np.uint8)
    dataset = Dataset(images, np.arange(IMAGES) % CLASSES, tuple("abcde"))
    rows = np.arange(IMAGES)
    split = Split(rows[:TRAINED], rows[TRAINED:], rows[:0])
    network = model if isinstance(model, nn.Module) else None
    name = assembly.IN_MEMORY + "Own" if network is not None else model
    defaults = {"batch_size": 8, "epochs": 1, "threads": 1, "device": "cpu", "sched": "cosine"}
    recipe = Recipe().with_settings({"model": name, "engine": engine, **defaults, **more})
    return assembly.assemble(recipe, dataset, split, network).job


def trained(job: Job, progress: Progress | None = None) -> tuple[dict[str, Tensor], list[Any]]:
    progress = progress or Progress()
    with hardware.tuned(job.settings):
        events = list(train(job, progress, lambda: False))
    assert isinstance(events[-1], Ended)
    return job.model.state_dict() | job.optimizer.tensors, progress.history


def assert_alike(model: str, **more: Any) -> None:
    """Three steps, the last of which is smaller: weights, averages and figures but for rounding."""
    jobs = [job_of(model, engine, **more) for engine in ("plain", "native")]
    before = copy.deepcopy(jobs[0].model.state_dict())
    (plain, rows), (native, others) = map(trained, jobs)
    assert jobs[1].settings.engine == "native"
    for name, tensor in plain.items():
        moved = tensor - before[name] if name in before else tensor
        apart = (native[name] - tensor).double().norm() / moved.double().norm().clamp_min(1e-6)
        assert float(apart) < 5e-3, name
    for row, other in zip(rows, others, strict=True):
        for key in ("train_loss", "val_loss"):
            assert other[key] == pytest.approx(row[key], rel=1e-4)
        assert other["train_accuracy"] == row["train_accuracy"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", NETWORKS)
def test_every_network_and_optimizer_as_the_plain_engine(model: str, optimizer: str) -> None:
    assert_alike(model, **OPTIMIZERS[optimizer])


@pytest.mark.parametrize("more", LOSSES)
@pytest.mark.parametrize("model", ["lenet", "mlp", "resnet8"])
def test_every_loss_and_way_to_make_a_step_as_the_plain_engine(model: str, more: str) -> None:
    assert_alike(model, **{"opt": "sgd", "lr": 0.05} | LOSSES[more])


def test_dropout_draws_what_it_draws_in_the_plain_engine() -> None:
    for model in ("mlp", "lenet"):
        assert_alike(model, opt="sgd", lr=0.05, model_kwargs={"dropout": 0.3})


def test_every_epoch_is_judged_with_its_own_weights() -> None:
    """The forward pass keeps packed copies of the weights of convolutions from epoch to epoch."""
    judged = []
    for engine in ("plain", "native"):
        job = job_of("lenet", engine, epochs=4, opt="sgd", lr=0.3)
        judged.append([row["val_loss"] for row in trained(job)[1]])
    assert judged[1] == pytest.approx(judged[0], rel=1e-4)


# --------------------------------------------------------------------------------- the same bits


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("model", "amp_dtype"),
    [
        ("mlp", "float32"),
        ("lenet", "float32"),
        ("resnet8", "float32"),
        pytest.param("convnet", "bfloat16", marks=in_bfloat16),
    ],
)
def test_stopped_anywhere_and_resumed_it_ends_in_the_same_bits(
    model: str, amp_dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the stretches were: here one step at a time, before as many as an epoch has."""
    more = {"opt": "adam", "epochs": 2, "batch_size": 4, "threads": threads}
    more["amp_dtype"] = amp_dtype
    whole, _ = trained(job_of(model, "native", **more))
    monkeypatch.setattr(progress_module, "_SECONDS_BETWEEN_STEP_EVENTS", 0.0)
    job, progress = job_of(model, "native", **more), Progress()
    events = list(train(job, progress, lambda: progress.step == 4))
    assert isinstance(events[-1], Ended)
    assert events[-1].reason == "interrupted"
    (kept,) = [one.last for one in events if isinstance(one, CheckpointDue)][-1:]
    assert isinstance(kept, Checkpoint)
    monkeypatch.undo()
    again = job_of(model, "native", **more)
    again.model.load_state_dict(kept.weights)
    again.optimizer.load(kept.optimizer)
    assert_same_bits(trained(again, kept.progress.copy())[0], whole)


def test_a_stretch_is_as_long_as_is_asked_and_ends_with_the_epoch() -> None:
    job = job_of("mlp", "native", batch_size=4)
    assert job.engine_steps is not None
    job.model.train()
    for position, most, made in ((0, 1, 1), (1, 3, 3), (4, 100, 2)):
        figures = job.engine_steps(job, Progress(step=position, position=position), most)
        assert isinstance(figures, Figures)
        assert len(figures.losses) == len(figures.weights) == made
    assert figures.images == TRAINED - 4 * 4


def test_seeds_are_those_of_single_steps() -> None:
    expected = [step_seed(2**32 - 1, step) for step in range(1000, 1005)]
    assert step_seeds(2**32 - 1, 1000, 5).tolist() == expected


def test_weights_that_pytorch_changes_meanwhile_are_seen() -> None:
    found = []
    for changes in (False, True):
        job = job_of("lenet", "native", opt="sgd", lr=0.01)
        assert job.engine_steps is not None
        job.model.train()
        job.engine_steps(job, Progress(), 1)
        if changes:
            with torch.no_grad():
                for parameter in job.model.parameters():
                    parameter.zero_()
        figures = job.engine_steps(job, Progress(step=1, position=1), 1)
        assert isinstance(figures, Figures)
        found.append(figures.losses[0] / figures.weights[0])
    assert found[1] == pytest.approx(math.log(CLASSES))
    assert found[0] != found[1]


# ------------------------------------------------------------------------------ what goes wrong


def test_a_loss_that_is_not_finite_is_said_as_by_the_plain_engine() -> None:
    said = []
    for engine in ("plain", "native"):
        job = job_of("mlp", engine, opt="sgd", lr=1000.0, epochs=30, sched="constant")
        with pytest.raises(TrainingError) as caught:
            trained(job)
        said.append(str(caught.value))
    assert [text.split(" at step")[0] for text in said] == [said[0].split(" at step")[0]] * 2


def test_pixels_and_weights_that_are_nan_give_nan() -> None:
    network = registry.build_model(
        "lenet", input_shape=(1, 12, 12), num_classes=3, kwargs={}
    ).eval()
    forward = Forward.of(network, job_of("lenet", "native").settings)
    images = torch.zeros(20, 1, 12, 12)
    images[3, 0, 5, 5] = torch.nan
    for count in (4, 20):
        broken = forward.logits(images[:count]).isnan().any(1)
        assert broken.tolist() == [k == 3 for k in range(count)]


def test_statistics_of_a_single_image_are_left_to_autograd() -> None:
    """22 images in batches of 7: the last one has a batch of its own."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))
    job = job_of(network, "native", batch_size=11)
    assert job.engine_steps is not None
    job.model.train()
    assert isinstance(job.engine_steps(job, Progress(), 9), Figures)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        job.engine_steps(job, Progress(step=2, position=2), 9)
    maps = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(300, 5))
    job = job_of(maps, "native", batch_size=11)
    assert job.engine_steps is not None
    job.model.train()
    assert isinstance(job.engine_steps(job, Progress(step=2, position=2), 9), Outcome)


# -------------------------------------------------------------------------------------- chains


def head(features: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features, CLASSES)]


def frozen(network: nn.Module, *names: str) -> nn.Module:
    for name in names:
        network.get_parameter(name).requires_grad_(False)
    return network


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "chains in chains": lambda: nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(432, 7, bias=False), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Identity(), nn.Linear(7, 6), Dropout(0.3), nn.Linear(6, CLASSES)),
    ),
    "dropout and ReLU on images": lambda: nn.Sequential(Dropout(0.2), nn.ReLU(), *head(432)),
    "margins": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 0, 2, 3)), nn.Conv2d(3, 3, (4, 5), padding=(0, 1), stride=2), *head(126)
    ),
    "many poolings": lambda: nn.Sequential(
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AvgPool2d((2, 1), ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool2d((2, 3)),
        *head(18),
    ),
    "frozen below": lambda: frozen(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), *head(100)),
        "0.weight",
        "0.bias",
    ),
    "frozen bias and middle": lambda: frozen(
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.Conv2d(4, 4, 2), *head(400)),
        "0.bias",
        "1.weight",
        "3.bias",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_own_networks_as_the_plain_engine(name: str) -> None:
    jobs = []
    for engine in ("plain", "native"):
        torch.manual_seed(0)
        jobs.append(job_of(CHAINS[name](), engine, opt="sgd", lr=0.05))
    (plain, _), (native, _) = map(trained, jobs)
    for key, tensor in plain.items():
        torch.testing.assert_close(native[key], tensor, rtol=1e-3, atol=1e-5)


class Own(nn.Linear):
    """A layer of a class of its own."""


def hooked(network: nn.Sequential) -> nn.Module:
    network[0].register_forward_hook(lambda *_: None)
    return network


def patched(network: nn.Sequential) -> nn.Module:
    layer = network[0]
    layer.forward = lambda values: 2 * type(layer).forward(layer, values)  # type: ignore[assignment]
    return network


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def with_tensor_hook() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].weight.register_hook(lambda gradient: 2 * gradient)  # type: ignore[union-attr,arg-type]
    return network


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), 'no kernel for layer "1", '),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
            'no kernel for layer "1", ',
        ),
        (nn.Sequential(Own(4, 4)), 'no kernel for layer "0", '),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)), 'no kernel for layer "0", '),
        (nn.Sequential(nn.Conv2d(4, 2, 1, groups=2)), 'no kernel for layer "0", '),
        (nn.Sequential(nn.Conv2d(4, 2, 1, dilation=2)), 'no kernel for layer "0", '),
        (nn.Sequential(nn.Conv2d(4, 2, 1, padding="same")), 'no kernel for layer "0", '),
        (nn.Sequential(nn.Conv2d(4, 2, 1, padding_mode="circular")), 'no kernel for layer "0", '),
        (nn.Sequential(nn.MaxPool2d(1, ceil_mode=True)), 'no kernel for layer "0", '),
        (nn.Sequential(nn.ZeroPad2d(1), nn.ReLU()), "margins"),
        (nn.Sequential(nn.Linear(4, 4).double()), "not float32"),
        (nn.Sequential(nn.Linear(4, 4, device="meta")), "not on meta"),
        (nn.Sequential(nn.Conv2d(4, 4, 2)).to(memory_format=torch.channels_last), "row by row"),  # type: ignore[call-overload]
        (hooked(nn.Sequential(nn.Linear(4, 4))), "hook"),
        (patched(nn.Sequential(nn.Linear(4, 4))), "hook"),
        (with_tensor_hook(), "hook"),
        (shared(), "used twice"),
        (nn.ModuleList([nn.Linear(4, 4)]), "no kernel for the network, a ModuleList"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), "5"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), "3 outputs"),
    ],
    ids=lambda one: str(one)[:50].replace("\n", ""),
)
def test_what_is_no_chain_and_why(network: nn.Module, reason: str) -> None:
    with pytest.raises(NotAChainError, match=reason):
        network_of(layers_of(network, (4, 1, 1)), (4, 1, 1), 4, 1, "auto")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_wild_networks_say_the_same_forward(data: st.DataObject) -> None:
    """Whatever shapes PyTorch takes, with as many images as one likes."""
    draw = data.draw
    shape = tuple(draw(st.tuples(*[st.integers(1, 9)] * 3)))
    torch.manual_seed(draw(st.integers(0, 99)))
    layers: list[nn.Module] = []
    now = torch.zeros(1, *shape)
    for _ in range(draw(st.integers(0, 3))):
        kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel // 2))
        layer = draw(
            st.sampled_from(
                [
                    nn.Conv2d(now.shape[1], draw(st.integers(1, 20)), kernel, stride, padding),
                    nn.MaxPool2d(kernel, stride, padding),
                    nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw(st.booleans())),
                    nn.BatchNorm2d(now.shape[1]),
                    nn.ReLU(),
                ]
            )
        ).eval()
        try:
            now = layer(now)
        except RuntimeError:
            continue
        layers.append(layer)
    network = nn.Sequential(*layers, *head(now.numel())).eval()
    images = torch.randn(draw(st.sampled_from([1, 3, 16, 33])), *shape)
    with torch.no_grad():
        expected = network(images)
    for threads in (1, 3):
        settings_ = replace(job_of("linear", "native").settings, threads=threads)
        found = Forward.of(network, settings_).logits(images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------- in bfloat16


@in_bfloat16
@pytest.mark.parametrize("instructions", native_module.bfloat16_sets())
def test_in_bfloat16_it_learns_as_the_plain_engine_does(instructions: str) -> None:
    more = {"amp_dtype": "bfloat16", "epochs": 12, "lr": 0.003, "opt": "adam"}
    (_, plain), (_, native) = (
        trained(job_of("convnet", engine, **more, **asked))
        for engine, asked in (("plain", {}), ("native", {"instructions": instructions}))
    )
    for row, other in zip(plain[:2], native[:2], strict=True):
        assert other["train_loss"] == pytest.approx(row["train_loss"], rel=0.05)
    assert native[-1]["train_accuracy"] == plain[-1]["train_accuracy"] == 1


@in_bfloat16
def test_the_job_says_with_which_instructions_it_multiplies_bfloat16() -> None:
    sets = native_module.bfloat16_sets()
    for given_, engine, precision, instructions in (
        ({"amp_dtype": "bfloat16"}, "native", "bfloat16", sets[-1]),
        ({"amp_dtype": "auto"}, "native", "float32", native_module.instruction_sets()[-1]),
        ({"amp_dtype": "auto", "instructions": sets[0]}, "native", "bfloat16", sets[0]),
        ({"amp_dtype": "bfloat16", "instructions": sets[0]}, "native", "bfloat16", sets[0]),
    ):
        found = job_of("convnet", "auto", epochs=2, **given_).settings
        assert (found.engine, found.amp_dtype, found.instructions) == (
            engine,
            precision,
            instructions,
        )
    for wrong in ({"amp_dtype": "float32", "instructions": sets[0]}, {"amp_dtype": "float16"}):
        with pytest.raises(RecipeError):
            job_of("convnet", "native", **wrong)


@in_bfloat16
def test_a_run_in_bfloat16_goes_on_where_the_processor_does_not_multiply_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved = job_of("convnet", "native", amp_dtype="bfloat16").settings
    assert hardware.changes_to_run_here(resolved) == {}
    other = replace(resolved, instructions="another")
    assert hardware.changes_to_run_here(other) == {"instructions": resolved.instructions}
    monkeypatch.setattr(native_module, "bfloat16_sets", tuple)
    assert hardware.changes_to_run_here(resolved) == {"engine": "plain"}
    assert job_of("convnet", "auto", amp_dtype="bfloat16").settings.engine == "plain"
    with pytest.raises(RecipeError, match="does not multiply bfloat16 on this processor"):
        job_of("convnet", "native", amp_dtype="bfloat16")


@in_bfloat16
def test_in_bfloat16_it_takes_networks_with_a_wide_convolution() -> None:
    assert job_of("lenet", "auto", amp_dtype="bfloat16").settings.engine == "plain"
    with pytest.raises(RecipeError, match="with 16 channels or more, in and out"):
        job_of("lenet", "native", amp_dtype="bfloat16")


# ------------------------------------------------------------------------- where it is not taken


def test_auto_takes_it_and_others_say_why_not() -> None:
    assert job_of("lenet", "auto").settings.engine == "native"
    other = nn.Sequential(nn.Flatten(), nn.Linear(432, 5), nn.Softplus())
    assert job_of(copy.deepcopy(other), "auto").settings.engine == "plain"
    reason = 'cannot train this network: it has no kernel for layer "2", '
    with pytest.raises(RecipeError, match=reason):
        job_of(other, "native")
    for given_, engine in (
        ({"memory_format": "channels-last"}, "plain"),
        ({"amp_dtype": "bfloat16"}, "plain"),
        ({"freeze_epochs": 1}, "plain"),
        ({"amp_dtype": "auto"}, "native"),
    ):
        assert job_of("lenet", "auto", epochs=2, **given_).settings.engine == engine
    with pytest.raises(RecipeError, match="not channels-last"):
        job_of("lenet", "native", memory_format="channels-last")


@pytest.mark.parametrize("engine", RETIRED_ENGINES)
def test_engines_that_are_gone_are_refused_with_the_one_in_their_place(engine: str) -> None:
    with pytest.raises(RecipeError, match="leave engine out, which chooses native"):
        Recipe().with_settings({"engine": engine})


def test_every_instruction_set_that_is_here_trains() -> None:
    sets = native_module.instruction_sets()
    assert job_of("mlp", "native").settings.instructions == sets[-1]
    expected, _ = trained(job_of("lenet", "plain", opt="sgd", lr=0.05))
    for name in sets:
        found, _ = trained(job_of("lenet", "native", instructions=name, opt="sgd", lr=0.05))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5)


def test_instructions_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_module, "instruction_sets", lambda: ("generic",))
    assert job_of("mlp", "native").settings.instructions == "generic"
    with pytest.raises(RecipeError, match="x86-64-v4 are not available, only auto, generic"):
        job_of("mlp", "native", instructions="x86-64-v4")


def test_what_runs_without_it_needs_none_of_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run from a machine that has it goes on with another engine where it is missing."""
    resolved = job_of("mlp", "native").settings
    monkeypatch.setattr(native_module, "instruction_sets", tuple)
    monkeypatch.setattr(native_module, "missing", lambda: "it was not built")
    changed = hardware.changes_to_run_here(resolved)
    assert changed == {"engine": "plain"}
    assert hardware.problems(replace(resolved, engine="plain"), "cpu") == []
    assert len(hardware.problems(resolved, "cpu")) == 2


def test_the_state_of_the_optimizer_is_described_for_every_parameter() -> None:
    job = job_of("resnet8", "plain", opt="rmsprop", momentum=0.5, weight_decay=0.1)
    assert isinstance(job.optimizer, Optimizer)
    kept = list(job.optimizer.kept())
    assert {id(one.parameter) for one in kept} == {id(p) for p in job.model.parameters()}
    assert {tuple(one.averages) for one in kept} == {("square", "momentum")}
    assert {one.decay for one in kept} == {0.0, 0.1}
