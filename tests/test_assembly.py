"""From a recipe and a dataset to a job: everything filled in, once and for all."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sartor import assembly, native_module
from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.errors import ModelError, RecipeError, UsageError
from sartor.recipe import Recipe, ResolvedRecipe
from sartor.training.engines.hardware import ExecutionPlan
from sartor.training.loop import Job
from sartor.training.objective import balanced_weights, effective_weights

COUNT = 30
SPLIT = Split(np.arange(20), np.arange(20, 25), np.arange(25, 30))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def dataset_of(channels: int = 1, height: int = 8, width: int = 6) -> Dataset:
    """Three classes; what is held out is brighter than what is trained on."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (COUNT, channels, height, width)).astype(np.uint8)
    images[20:] += 150
    return Dataset(images, np.arange(COUNT) ** 2 % 3, ("a", "b", "c"), name="toys")


DATASET = dataset_of()


def assembled(
    recipe: Recipe | None = None,
    *,
    dataset: Dataset = DATASET,
    split: Split = SPLIT,
    network: nn.Module | None = None,
    **settings: Any,
) -> tuple[Job, ResolvedRecipe]:
    """As `fit` does it."""
    recipe = (recipe or Recipe()).with_settings(settings)
    made = assembly.assemble(recipe, dataset, split, network)
    return made.job, made.recipe


class TestResolving:
    def test_fills_everything(self) -> None:
        _, recipe = assembled(model="lenet", batch_size="all", image_size=9)
        open_ones = {
            name
            for name, value in recipe.settings().items()
            if value in (None, "auto", "all", "", (), {})
        }
        # What is open for good: the usual reading, all images and labels as they are, no clipping,
        # no early stopping. And who prepares batches, which changes no bit: it is decided anew.
        reading = {"format", "image_column", "label_column", "group_column", "split_column"}
        data = {
            *reading,
            "split_words",
            "image_root",
            "exclude",
            "fixes",
            "fixes_sha256",
            "limit_per_class",
        }
        model = {"weights", "weights_sha256", "weights_licence", "accept_licence"}
        training = {"augment", "clip_grad", "patience", "workers", "extensions", "engine_changes"}
        training.add("checkpoint_seconds")
        assert open_ones == {*data, *model, *training, "value_range"}
        assert recipe.preprocess.image_size == (9, 9)
        assert recipe.preprocess.channels == 1
        assert recipe.training.batch_size == 20
        assert recipe.training.threads == 1
        assert recipe.data.fingerprint == DATASET.fingerprint
        assert recipe.model.model_kwargs["hidden"] == (120, 60)

    @pytest.mark.parametrize("model", ["linear", "mlp", "lenet"])
    def test_twice_changes_nothing(self, model: str) -> None:
        job, recipe = assembled(model=model, class_weights="balanced")
        again, twice = assembled(recipe)
        assert twice == recipe
        assert_same_job(job, again)

    def test_of_what_was_written_and_read_makes_the_same_job(self) -> None:
        """Law 3: from a run's folder the same run can be made again."""
        job, recipe = assembled(model="lenet", seed=7, sched="onecycle", val_fraction=0.3)
        again, read = assembled(Recipe.from_toml(recipe.to_toml()))
        assert read == recipe
        assert_same_job(job, again)

    def test_writes_augmentation_out(self) -> None:
        _, recipe = assembled(augment="flip crop=2")
        assert recipe.training.augment == ("flip=0.5", "crop=2,zero")

    def test_decay_spares_biases_but_in_recipes_from_before_there_was_a_choice(self) -> None:
        _, recipe = assembled(weight_decay=0.1)
        assert recipe.training.weight_decay_on == "weights"
        before = Recipe.from_toml(recipe.to_toml()).with_settings({"weight_decay_on": "auto"})
        assert before.data.fingerprint
        assert assembled(before)[1].training.weight_decay_on == "all"
        _, given = assembled(weight_decay=0.1, weight_decay_on="all")
        assert given.training.weight_decay_on == "all"

    def test_a_split_from_before_there_were_methods_is_drawn_as_it_was(self) -> None:
        _, recipe = assembled()
        assert recipe.data.split_method == "stable"
        before = Recipe.from_toml(recipe.to_toml()).with_settings({"split_method": "auto"})
        assert assembly.split_method_of(before, DATASET) == "drawn"
        assert assembled(before)[1].data.split_method == "auto"

    def test_keeps_what_is_given(self) -> None:
        given = {
            "image_size": (5, 7),
            "channels": 3,
            "mean": (0.5,),
            "std": (0.1, 0.2, 0.3),
            "batch_size": 4,
            "threads": 1,
            "device": "cpu",
            "memory_format": "contiguous",
            "model_kwargs": {"hidden": (3,)},
            "model": "mlp",
        }
        _, recipe = assembled(**given)
        settings = recipe.settings()
        assert {name: settings[name] for name in given if name != "model_kwargs"} == {
            name: value for name, value in given.items() if name != "model_kwargs"
        }
        assert settings["model_kwargs"] == {"hidden": (3,), "dropout": 0.0}

    def test_size_and_channels_are_those_of_the_data(self) -> None:
        _, recipe = assembled(dataset=dataset_of(3, 8, 6))
        assert recipe.preprocess.image_size == (8, 6)
        assert recipe.preprocess.channels == 3

    def test_finds_every_problem_at_once(self) -> None:
        no_val = Split(SPLIT.train, SPLIT.val[:0], SPLIT.test)
        with pytest.raises(RecipeError) as caught:
            assembled(
                split=no_val,
                model="mlp",
                model_kwargs={"hiden": 3},
                class_weights=(1.0, 2.0),
                patience=2,
                drop_last=True,
                batch_size=7,
                grad_accum_steps=3,
            )
        assert [problem.split(" ")[0] for problem in caught.value.problems] == [
            "class_weights",
            "patience",
            "drop_last",
            "unknown",
        ]

    @pytest.mark.parametrize(
        ("batch_size", "grad_accum_steps", "steps"),
        [(20, 1, 1), (5, 4, 1), (7, 1, 2), ("all", 1, 1), (21, 1, 0), (7, 3, 0), ("all", 2, 0)],
    )
    def test_drop_last_must_leave_a_step(
        self, batch_size: Any, grad_accum_steps: int, steps: int
    ) -> None:
        settings = {"batch_size": batch_size, "grad_accum_steps": grad_accum_steps}
        if steps:
            assert len(assembled(**settings, drop_last=True)[0].batches) == steps
        else:
            with pytest.raises(RecipeError, match="drop_last leaves nothing of 20 training images"):
                assembled(**settings, drop_last=True)
        assert len(assembled(**settings)[0].batches) >= 1

    def test_a_device_that_is_not_there(self) -> None:
        missing = "mps" if torch.cuda.is_available() else "cuda"
        with pytest.raises(UsageError, match=f"no {missing} device here"):
            assembled(device=missing)


def assert_same_job(job: Job, again: Job) -> None:
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    assert len(job.batches) == len(again.batches)
    for epoch, position in [(0, 0), (3, len(job.batches) - 1)]:
        for one, other in zip(
            job.batches.batch(epoch, position), again.batches.batch(epoch, position), strict=True
        ):
            assert torch.equal(one, other)
    assert job.settings == again.settings


class TestStatistics:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_are_numpys_of_the_training_images_alone(self, channels: int) -> None:
        dataset = dataset_of(channels)
        _, recipe = assembled(dataset=dataset)
        pixels = dataset.images[SPLIT.train] / 255
        assert recipe.preprocess.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)
        assert recipe.preprocess.std == pytest.approx(pixels.std((0, 2, 3)), abs=1e-6)

    def test_are_those_of_what_the_model_sees(self) -> None:
        """After padding to another size, not before."""
        _, recipe = assembled(image_size=(16, 6))
        padded = DATASET.images[SPLIT.train].sum() / (20 * 16 * 6 * 255)
        assert recipe.preprocess.mean == pytest.approx((padded,), abs=1e-6)

    def test_only_what_is_missing_is_measured(self) -> None:
        _, recipe = assembled(mean=(0.25,))
        assert recipe.preprocess.mean == (0.25,)
        measured = DATASET.images[SPLIT.train].std() / 255
        assert recipe.preprocess.std == pytest.approx((measured,), abs=1e-6)

    def test_make_batches_of_mean_0_and_spread_1(self) -> None:
        job, _ = assembled(dataset=dataset_of(3), batch_size="all")
        images = job.batches.batch(0, 0).images
        assert images.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-4)
        assert images.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-4)


class TestFlow:
    @pytest.mark.parametrize("model", ["linear", "mlp", "lenet"])
    @pytest.mark.parametrize(("size", "channels"), [((12, 10), 3), ((28, 28), 1), ((4, 9), 3)])
    def test_of_size_and_channels_to_batches_and_model(
        self, model: str, size: tuple[int, int], channels: int
    ) -> None:
        job, _ = assembled(model=model, image_size=size, channels=channels, batch_size=4)
        batch = job.batches.batch(0, 0)
        assert batch.images.shape == (4, channels, *size)
        assert job.model(batch.images).shape == (4, 3)

    def test_of_images_through_the_same_preparation(self) -> None:
        job, recipe = assembled(image_size=(12, 10), channels=3, shuffle=False, batch_size=1)
        material = assembly.prepare_material(recipe, DATASET, SPLIT)
        expected = material.preprocess.images(DATASET.images[:1])
        scaled = (expected / 255 - recipe.preprocess.mean[0]) / recipe.preprocess.std[0]
        np.testing.assert_allclose(job.batches.batch(0, 0).images.numpy(), scaled, atol=1e-5)

    def test_of_the_split(self) -> None:
        job, _ = assembled(batch_size=20)
        assert sorted(job.batches.batch(0, 0).labels.tolist()) == sorted(
            DATASET.labels[SPLIT.train].tolist()
        )
        assert job.val is not None
        labels = [label for batch in job.val.in_order(2) for label in batch.labels.tolist()]
        assert labels == DATASET.labels[SPLIT.val].tolist()

    def test_without_validation(self) -> None:
        job, _ = assembled(split=Split(SPLIT.train, SPLIT.val[:0], SPLIT.test))
        assert job.val is None

    def test_of_the_layout(self) -> None:
        conv, recipe = assembled(model="lenet", channels=3, engine="plain", memory_format="auto")
        assert recipe.training.memory_format == "channels-last"
        images = conv.batches.batch(0, 0).images
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert not images.is_contiguous()
        weight = conv.model.get_parameter("conv1.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last)
        for settings in ({"model": "mlp", "engine": "plain"}, {"model": "lenet"}):
            dense, recipe = assembled(channels=3, memory_format="auto", **settings)
            assert recipe.training.memory_format == "contiguous"
        assert dense.batches.batch(0, 0).images.is_contiguous()

    def test_of_accumulation(self) -> None:
        """A batch of the loop is what one update takes."""
        job, _ = assembled(batch_size=3, grad_accum_steps=4)
        assert len(job.batches.batch(0, 0).labels) == 12
        assert len(job.batches) == 2


class TestClassWeights:
    def test_effective_ones_take_their_beta(self) -> None:
        job, _ = assembled(class_weights="effective", effective_beta=0.9)
        labels = torch.from_numpy(DATASET.labels[SPLIT.train])
        assert job.objective.class_weights is not None
        assert torch.equal(job.objective.class_weights, effective_weights(labels, 3, 0.9))

    def test_a_balanced_sampler_sees_training_images_alone(self) -> None:
        assert assembled()[0].batches.balance is None  # type: ignore[attr-defined]
        balance = assembled(sampler="balanced")[0].batches.balance  # type: ignore[attr-defined]
        assert np.array_equal(balance, DATASET.labels[SPLIT.train])

    def test_balanced_ones_count_training_images_alone(self) -> None:
        job, _ = assembled(class_weights="balanced")
        expected = balanced_weights(torch.from_numpy(DATASET.labels[SPLIT.train]), 3)
        assert torch.equal(job.objective.class_weights, expected)
        everywhere = balanced_weights(torch.from_numpy(DATASET.labels), 3)
        assert not torch.equal(expected, everywhere)

    def test_given_ones_are_passed_on(self) -> None:
        job, _ = assembled(class_weights=(1, 2, 0.5))
        assert job.objective.class_weights is not None
        assert job.objective.class_weights.tolist() == [1, 2, 0.5]

    def test_none(self) -> None:
        assert assembled()[0].objective.class_weights is None

    def test_must_be_one_a_class(self) -> None:
        with pytest.raises(RecipeError, match="must be 3 numbers, one per class, not 2"):
            assembled(class_weights=(1.0, 2.0))


class TestFirstWeights:
    def test_depend_on_the_seed_alone(self) -> None:
        torch.manual_seed(1)
        first = assembled(model="mlp", seed=4)[0].model.state_dict()
        torch.manual_seed(2)
        second = assembled(model="mlp", seed=4)[0].model.state_dict()
        third = assembled(model="mlp", seed=5)[0].model.state_dict()
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
        assert not any(torch.equal(tensor, third[name]) for name, tensor in first.items())

    def test_leave_the_random_numbers_of_others_alone(self) -> None:
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        assembled(model="mlp")
        assert torch.equal(torch.rand(3), expected)


class TestInMemory:
    RECIPE = Recipe().with_settings({"model": "in-memory:Net", "model_kwargs": {}})

    def test_is_used_as_it_is(self) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        job, recipe = assembled(self.RECIPE, network=network)
        assert job.model is network
        assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
        assert recipe.model.model == "in-memory:Net"
        assert assembled(recipe, network=network)[1] == recipe

    def test_cannot_be_built_from_its_name(self) -> None:
        with pytest.raises(
            ModelError, match="trained Net, an object of a Python program"
        ) as caught:
            assembly.assemble(self.RECIPE, DATASET, SPLIT)
        assert "model=..." in caught.value.hint


def test_arrays_that_may_not_be_written_to_are_no_cause_for_warnings() -> None:
    """Such as those mapped from a file."""
    images, labels = DATASET.images.copy(), DATASET.labels.copy()
    images.setflags(write=False)
    labels.setflags(write=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        job, _ = assembled(dataset=Dataset(images, labels, DATASET.classes))
        job.batches.batch(0, 0)
    assert [str(warning.message) for warning in caught] == []


class TestAugmentation:
    def test_changes_the_training_images_alone(self) -> None:
        plain, _ = assembled(model="linear", batch_size=20)
        job, _ = assembled(model="linear", batch_size=20, augment=["flip=1", "mixup"])
        assert job.val is not None
        assert plain.val is not None
        for ours, theirs in zip(job.val.in_order(5), plain.val.in_order(5), strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)
        ours, theirs = job.batches.batch(0, 0), plain.batches.batch(0, 0)
        assert not torch.equal(ours.images, theirs.images)
        assert ours.labels.shape == (20, 3)

    def test_the_first_batch_is_looked_at_as_it_is(self) -> None:
        plain, _ = assembled(model="linear")
        job, _ = assembled(model="linear", augment=["flip=1", "mixup"])
        ours, theirs = assembly.first_batch(job), plain.batches.batch(0, 0)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)

    def test_paints_with_what_becomes_zero(self) -> None:
        job, _ = assembled(model="linear", augment=["erase=1,1,1"])
        # Up to the rounding of the mean to a whole level, of which a standard deviation is 29.
        assert (job.batches.batch(0, 0).images.abs() < 0.03).float().mean() > 0.5


class TestMemory:
    def test_images_as_they_are_need_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prepared pictures are trained from the disk where they are larger than memory."""
        monkeypatch.setattr(assembly, "total_memory", lambda: 10)
        job, _ = assembled()
        assert len(job.batches) == 1

    def test_images_to_be_resized_must_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assembly, "total_memory", lambda: 10)
        with pytest.raises(RecipeError, match="this machine has"):
            assembled(image_size=9)

    def test_mapped_images_give_the_batches_of_those_in_memory(self, tmp_path: Path) -> None:
        np.save(tmp_path / "images.npy", DATASET.images)
        mapped = dataclasses.replace(
            DATASET, images=np.load(tmp_path / "images.npy", mmap_mode="r")
        )
        assert isinstance(mapped.images.base, np.memmap)
        assert_same_job(assembled()[0], assembled(dataset=mapped)[0])


@pytest.mark.skipif(not native_module.bfloat16_sets(), reason="no products of bfloat16 here")
def test_a_resolved_recipe_takes_the_plans_that_race() -> None:
    """There and back: the instructions follow the precision."""
    _, recipe = assembled(model="convnet", model_kwargs={"widths": (32, 32)}, engine="native")
    plan = ExecutionPlan.of(recipe.training)
    narrow = assembly.with_plan(recipe, dataclasses.replace(plan, amp_dtype="bfloat16"))
    assert narrow.training.instructions == native_module.bfloat16_sets()[-1]
    again = assembly.with_plan(narrow, plan)
    assert again.training.instructions == native_module.instruction_sets()[-1]
