"""Contenders train the same, from the same weights; a process answers; disturbances are seen."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tutorial
from peers.contenders import CONTENDERS, Trainee
from peers.disturbance import Moment, share_of_others
from peers.judge import judge
from peers.layouts import from_keras, to_keras
from peers.material import TORCHVISION, Material, first_weights, read_material, write_idx_files
from peers.peak import peak_flops, training_flops
from peers.processes import Worker, WorkerError
from peers.tasks import TASKS, Task
from torch import nn

from sartor.data.dataset import Dataset
from sartor.data.readers.idx import read_file, read_idx

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contenders leave their files where they work."""
    monkeypatch.chdir(tmp_path)


def small(task: Task) -> Task:
    """On the images of `small_sets`."""
    return replace(task, train_images=300, val_images=min(task.val_images, 100), epochs=2)


def task_of(key: str) -> Task:
    return small(next(task for task in TASKS if task.key == key))


def material_of(task: Task, small_sets: dict[str, Dataset], folder: Path) -> Material:
    dataset, count = small_sets[task.source], task.train_images + task.val_images
    return Material(
        task=task,
        folder=folder,
        images=dataset.images[:count, 0],
        labels=dataset.labels[:count],
        weights=first_weights(task),
    )


def trained(trainee: Trainee, task: Task) -> Trainee:
    trainee.prepare(task.epochs, False)
    trainee.fit()
    return trainee


@pytest.mark.usefixtures("mnist", "fashion_mnist")
@pytest.mark.parametrize("name", sorted(tutorial.TRAININGS))
def test_sartor_and_the_loop_learn_the_same_from_the_same_weights(
    name: str, small_sets: dict[str, Dataset], tmp_path: Path
) -> None:
    task = task_of(f"batches/{name}")
    material = material_of(task, small_sets, tmp_path)
    found = {
        contender: judge(material, trained(CONTENDERS[contender].trainee(material), task).weights())
        for contender in ("loop", "sartor")
    }
    # Dropout draws from other generators.
    tolerance = 0.02 if name == "mnist-mlp" else 1e-3
    assert found["sartor"][0] == pytest.approx(found["loop"][0], abs=tolerance)
    assert found["loop"][0] < judge(material, material.weights)[0] - 1e-4


@pytest.mark.usefixtures("fashion_mnist")
def test_every_training_starts_from_scratch(small_sets: dict[str, Dataset], tmp_path: Path) -> None:
    task = task_of("batches/fashion-cnn")
    for name in ("loop", "sartor"):
        trainee = CONTENDERS[name].trainee(material_of(task, small_sets, tmp_path))
        first, second = trained(trainee, task).weights(), trained(trainee, task).weights()
        assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.usefixtures("mnist")
def test_sartor_judges_as_many_images_as_the_task_says(
    small_sets: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of("defaults/mnist-logistic")
    for name in ("sartor", "sartor-alone"):
        trainee: Any = trained(
            CONTENDERS[name].trainee(material_of(task, small_sets, tmp_path)), task
        )
        split = trainee.run.split()
        assert (len(split.train), len(split.val), len(split.test)) == (300, 100, 0)
        few = replace(task, train_images=50, val_images=700)
        trainee = CONTENDERS[name].trainee(material_of(few, small_sets, tmp_path))
        monkeypatch.setattr(type(few), "head_images", 50)
        trainee.prepare(1, True)
        trainee.fit()
        assert len(trainee.run.split().val) == 50
        assert trainee.run.folder.report_path.exists() == (name == "sartor")


@pytest.mark.usefixtures("fashion_mnist")
def test_the_bare_step_takes_as_many_steps_and_learns_nothing(
    small_sets: dict[str, Dataset], tmp_path: Path
) -> None:
    task = task_of("batches/fashion-cnn")
    material = material_of(task, small_sets, tmp_path)
    trainee: Any = trained(CONTENDERS["bare"].trainee(material), task)
    assert trainee.steps == task.epochs * task.steps == 6
    assert judge(material, trainee.weights()) == judge(material, material.weights)


def test_keras_layout_computes_the_same() -> None:
    torch.manual_seed(0)
    conv, dense, last = nn.Conv2d(1, 6, 5), nn.Linear(6 * 12 * 12, 7), nn.Linear(7, 10)
    parameters = [p for module in (conv, dense, last) for p in module.parameters()]
    weights = [parameter.detach().numpy() for parameter in parameters]
    kernel, bias, first, first_bias, second, second_bias = map(torch.from_numpy, to_keras(weights))
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        expected = last(dense(F.max_pool2d(conv(images), 2).flatten(1)))
        features = F.conv2d(images, kernel.permute(3, 2, 0, 1), bias)
        channels_last = F.max_pool2d(features, 2).permute(0, 2, 3, 1).flatten(1)
        found = (channels_last @ first + first_bias) @ second + second_bias
    torch.testing.assert_close(found, expected)
    back = from_keras(to_keras(weights))
    assert all(np.array_equal(one, other) for one, other in zip(back, weights, strict=True))


def test_idx_files_are_read_again(small_sets: dict[str, Dataset], tmp_path: Path) -> None:
    dataset = small_sets["mnist"]
    write_idx_files(tmp_path / TORCHVISION["mnist"] / "raw", dataset)
    raw = tmp_path / "MNIST" / "raw"
    images, labels = (
        read_idx(read_file(raw / name), source=name)
        for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    )
    assert np.array_equal(images, dataset.images[dataset.test, 0])
    assert np.array_equal(labels, dataset.labels[dataset.test])


@pytest.mark.usefixtures("fashion_mnist")
def test_a_process_trains_and_answers(small_sets: dict[str, Dataset], tmp_path: Path) -> None:
    task = task_of("batches/fashion-cnn")
    material = material_of(task, small_sets, tmp_path)
    np.save(tmp_path / f"{task.source}-images.npy", material.images)
    np.save(tmp_path / f"{task.source}-labels.npy", material.labels)
    np.savez(tmp_path / f"weights-batches-{task.name}.npz", *material.weights)
    assert np.array_equal(read_material(tmp_path, task).weights[0], material.weights[0])
    with Worker("loop", tmp_path, tmp_path / "loop") as worker:
        answer = worker.ask(order="train", task=asdict(task))
        expected = judge(material, trained(CONTENDERS["loop"].trainee(material), task).weights())
        assert (answer["loss"], answer["accuracy"]) == pytest.approx(expected, abs=1e-4)
        assert min(answer["one_epoch_seconds"], answer["seconds"]) > 0
        with pytest.raises(WorkerError, match="KeyError: 'dance'"):
            worker.ask(order="dance")


def test_what_others_take_is_told_apart() -> None:
    before, after = Moment(10.0, 100.0, 1.0), Moment(20.0, 115.0, 8.0)
    # Of 15 seconds of work in these 10, 7 were its own.
    cores = torch.multiprocessing.cpu_count()
    assert share_of_others(before, after) == pytest.approx(8 / (10 * cores))
    assert share_of_others(before, after._replace(busy=None)) == 0


def test_operations_of_a_linear_layer() -> None:
    # Forward, and back for the weights: nobody asks for the gradient of pixels.
    assert training_flops("mnist-logistic") == 2 * 2 * 784 * 10
    assert min(peak_flops().values()) > 1e8


def test_every_package_of_the_environment_is_pinned() -> None:
    lines = (ROOT / "benchmarks" / "peers" / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=]", one)[0] for one in project["dependencies"]}
    tools = {"torchvision", "lightning", "fastai", "skorch", "keras", "jax", "setuptools"}
    assert needed | tools <= names
