"""The plain PyTorch loop, as most people write it: what sartor's speed is measured against.

Four trainings of the walk-throughs that sartor grew from. Every sample goes the usual way, from
bytes to a Pillow picture to a float tensor, and a `DataLoader` stacks samples into batches.
torchvision would serve the data here, but it has no build for the CPU wheel of torch that this
project uses; `ImageSet` and `to_tensor` take the same steps as its `MNIST` and `ToTensor`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset, random_split

Sample = tuple[Tensor, int]


class ImageSet(Dataset[Sample]):
    """Grey images and labels, one sample at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """`images`: uint8 (N, H, W). `labels`: int64 (N,)."""
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Float image (1, H, W) in 0..1, and its label."""
        image, label = self.images[index], int(self.labels[index])
        return to_tensor(Image.fromarray(image.numpy())), label


def to_tensor(picture: Image.Image) -> Tensor:
    """float32 (C, H, W) in 0..1."""
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
    pixels = pixels.view(picture.size[1], picture.size[0], len(picture.getbands()))
    pixels = pixels.permute((2, 0, 1)).contiguous()
    return pixels.to(dtype=torch.get_default_dtype()).div(255)


class FashionCnn(nn.Module):
    """Two convolutions, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, 10)

    def forward(self, t: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) -> logits (B, 10)."""
        t = F.max_pool2d(F.relu(self.conv1(t)), kernel_size=2, stride=2)
        t = F.max_pool2d(F.relu(self.conv2(t)), kernel_size=2, stride=2)
        t = t.reshape(-1, 12 * 4 * 4)
        t = F.relu(self.fc1(t))
        t = F.relu(self.fc2(t))
        return cast(Tensor, self.out(t))


def mnist_mlp() -> nn.Module:
    """784-512-512-10 with dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(512, 10),
    )


def mnist_logistic() -> nn.Module:
    """One linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def fashion_mlp() -> nn.Module:
    """784-128-64-32-10."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one of the walk-throughs trains, and how."""

    network: Callable[[], nn.Module]
    optimizer: type[optim.SGD] | type[optim.Adam]
    learning_rate: float
    batch_size: int
    shuffle: bool
    """Whether the training images come in a new order every epoch."""
    val_images: int
    """How many images, of those given, are judged after every epoch."""


TRAININGS: Mapping[str, Training] = {
    "fashion-cnn": Training(
        network=FashionCnn,
        optimizer=optim.Adam,
        learning_rate=0.01,
        batch_size=100,
        shuffle=False,
        val_images=0,
    ),
    # Given all 70,000 images; its walk-through judges the 10,000 test images every epoch.
    "mnist-mlp": Training(
        network=mnist_mlp,
        optimizer=optim.SGD,
        learning_rate=0.01,
        batch_size=32,
        shuffle=True,
        val_images=10_000,
    ),
    "mnist-logistic": Training(
        network=mnist_logistic,
        optimizer=optim.SGD,
        learning_rate=0.001,
        batch_size=128,
        shuffle=True,
        val_images=10_000,
    ),
    "fashion-mlp": Training(
        network=fashion_mlp,
        optimizer=optim.SGD,
        learning_rate=0.001,
        batch_size=128,
        shuffle=True,
        val_images=10_000,
    ),
}


class Figures(NamedTuple):
    """What one pass over some images found."""

    loss: float
    """Mean: of the batches' losses in training, of the images' losses in validation."""
    correct: int
    """Images that were predicted right."""


class Epoch(NamedTuple):
    """The figures of one epoch."""

    train: Figures
    val: Figures | None


def fit(training: Training, network: nn.Module, samples: ImageSet, epochs: int) -> list[Epoch]:
    """Train `network` in place, and judge it after every epoch where images are kept for that."""
    train_loader, val_loader = loaders(training, samples)
    optimizer = training.optimizer(network.parameters(), lr=training.learning_rate)
    rows = []
    for _ in range(epochs):
        train = train_epoch(network, train_loader, optimizer)
        val = None if val_loader is None else evaluate(network, val_loader)
        rows.append(Epoch(train, val))
    return rows


def loaders(
    training: Training, samples: ImageSet
) -> tuple[DataLoader[Sample], DataLoader[Sample] | None]:
    """For training and for validation; without validation, all samples train in their order."""
    size, shuffle = training.batch_size, training.shuffle
    if not training.val_images:
        return DataLoader(samples, batch_size=size, shuffle=shuffle), None
    train_images = len(samples) - training.val_images
    train_set, val_set = random_split(samples, [train_images, training.val_images])
    return (
        DataLoader(train_set, batch_size=size, shuffle=shuffle),
        DataLoader(val_set, batch_size=size),
    )


def train_epoch(
    network: nn.Module, loader: DataLoader[Sample], optimizer: optim.Optimizer
) -> Figures:
    """Show every image once, in batches."""
    network.train()
    total_loss, total_correct = 0.0, 0
    for images, labels in loader:
        logits = network(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total_loss += loss.item()
        total_correct += logits.argmax(dim=1).eq(labels).sum().item()
    return Figures(total_loss / len(loader), total_correct)


@torch.no_grad()
def evaluate(network: nn.Module, loader: DataLoader[Sample]) -> Figures:
    """Judge every image once."""
    network.eval()
    total_loss, total_correct, count = 0.0, 0, 0
    for images, labels in loader:
        logits = network(images)
        total_loss += F.cross_entropy(logits, labels).item() * len(labels)
        total_correct += logits.argmax(dim=1).eq(labels).sum().item()
        count += len(labels)
    return Figures(total_loss / count, total_correct)
