"""What all contenders are given: images, labels and first weights, in one folder on the disk."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import sartor
from sartor import assembly
from sartor.data.splits.split import make_split

from .tasks import Task

Array = np.ndarray[Any, np.dtype[Any]]
Batch = tuple[Tensor, Tensor]
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
"""The class in `torchvision.datasets`, which is also the name of its folder."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """The images of one task and the weights to start from."""

    task: Task
    folder: Path
    images: Array
    """uint8 (N, 28, 28): those to train on, then those to judge."""
    labels: Array
    """int64 (N,)."""
    weights: list[Array]
    """float32, in the order of the network's parameters in `tutorial.py`: the first, and for
    predictions those of a run."""

    @property
    def run_folder(self) -> Path:
        """Of the run that was trained for predictions."""
        return self.folder / f"run-{self.task.name}"

    def part(self, head: bool) -> tuple[Array, Array]:
        """To train on: images uint8 (N, 28, 28) and labels; with `head`, few of them."""
        count = self.task.head_images if head else self.task.train_images
        return self.images[:count], self.labels[:count]

    def val_part(self) -> tuple[Array, Array]:
        """To judge after every epoch; may be none."""
        return self.images[self.task.train_images :], self.labels[self.task.train_images :]

    def batches(self, head: bool) -> list[Batch]:
        """float32 (B, 1, 28, 28) in 0..1 and int64 (B,), in the order of the set."""
        images, labels = map(torch.from_numpy, self.part(head))
        size = self.task.training.batch_size
        pixels = images[:, None].float() / 255
        return list(zip(pixels.split(size), labels.split(size), strict=True))

    def ready_loader(self, head: bool) -> DataLoader[Batch]:
        """The same, as tools want them: a loader that hands out whole batches."""
        return DataLoader(ReadyBatches(self.batches(head)), batch_size=None)

    def network(self) -> nn.Module:
        """The loop's network with the first weights."""
        network = self.task.training.network()
        with torch.no_grad():
            for own, first in zip(network.parameters(), self.weights, strict=True):
                own.copy_(torch.from_numpy(first))
        return network


class ReadyBatches(Dataset[Batch]):
    """Whole batches as the samples of a set."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def weights_of(network: nn.Module) -> list[Array]:
    """Copies of all parameters, in their order."""
    return [parameter.detach().cpu().numpy().copy() for parameter in network.parameters()]


def write_material(folder: Path, tasks: Sequence[Task]) -> None:
    """Everything that these tasks need; the sets must be on the disk or within reach."""
    for source in sorted({task.source for task in tasks}):
        dataset = sartor.load(source)
        np.save(folder / f"{source}-images.npy", dataset.images[:, 0])
        np.save(folder / f"{source}-labels.npy", dataset.labels)
        write_idx_files(folder / TORCHVISION[source] / "raw", dataset)
    for task in tasks:
        if task.table == "predict":
            run = sartor.fit(
                task.source,
                recipe=task.name,
                epochs=1,
                device="cpu",
                out=folder / f"run-{task.name}",
            )
            weights = weights_of(run.network())
        else:
            weights = first_weights(task)
        np.savez(_weights_path(folder, task), *weights)


def read_material(folder: Path, task: Task) -> Material:
    """What `write_material` wrote, for one task."""
    count = task.train_images + task.val_images
    with np.load(_weights_path(folder, task)) as arrays:
        weights = [arrays[name] for name in arrays.files]
    return Material(
        task=task,
        folder=folder,
        images=np.load(folder / f"{task.source}-images.npy", mmap_mode="r")[:count].copy(),
        labels=np.load(folder / f"{task.source}-labels.npy")[:count],
        weights=weights,
    )


def _weights_path(folder: Path, task: Task) -> Path:
    return folder / f"weights-{task.table}-{task.name}.npz"


def first_weights(task: Task) -> list[Array]:
    """Those that sartor starts from with seed 0."""
    recipe = sartor.load_recipe(task.name).with_settings({"val_fraction": 0.0})
    dataset = sartor.load(task.source)
    split = make_split(dataset, val_fraction=0.0, test_fraction=0.0, seed=0)
    return weights_of(assembly.assemble(recipe, dataset, split).job.model)


def write_idx_files(folder: Path, dataset: sartor.Dataset) -> None:
    """As `torchvision` looks for them: train images first, then the test images."""
    folder.mkdir(parents=True)
    assert dataset.test is not None
    train = np.setdiff1d(np.arange(len(dataset)), dataset.test)
    for name, indices in (("train", train), ("t10k", dataset.test)):
        images, labels = dataset.images[indices, 0], dataset.labels[indices].astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(_idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(_idx(labels))


def _idx(values: Array) -> bytes:
    """Unsigned bytes of any number of dimensions in the IDX format."""
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return head + np.ascontiguousarray(values).tobytes()
