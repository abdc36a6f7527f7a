"""What a folder's classifier has to beat: an SVM on HOG and colours, a plain network.

Both see the pictures as sartor prepared them, at 64x64 pixels and over the same background.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import numpy.typing as npt
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from sartor.arrays import BoolArray
from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split

_CELL, _BLOCK, _ANGLES, _LEVELS = 8, 2, 9, 8
_STRENGTHS = (1.0, 3.0, 10.0, 30.0)

Floats = npt.NDArray[np.float32]


def right_by_svm(dataset: Dataset, split: Split, part: str) -> BoolArray:
    """Which images an SVM with a radial kernel gets right, its strength chosen by validation."""
    features, labels = described(dataset.images), dataset.labels

    def right(strength: float, indices: npt.NDArray[np.int64]) -> BoolArray:
        return machines[strength].predict(features[indices]) == labels[indices]

    machines = {
        strength: make_pipeline(StandardScaler(), SVC(C=strength)).fit(
            features[split.train], labels[split.train]
        )
        for strength in _STRENGTHS
    }
    best = max(_STRENGTHS, key=lambda strength: right(strength, split.val).mean())
    return right(best, split.part(part))


def described(images: npt.NDArray[np.uint8]) -> Floats:
    """HOG and a histogram of colours, float32 (N, D), of images uint8 (N, C, H, W)."""
    return np.stack([np.concatenate([hog(one), colours(one)]) for one in images])


def hog(image: npt.NDArray[np.uint8]) -> Floats:
    """Histograms of oriented gradients (Dalal and Triggs, 2005): cells of 8x8, blocks of 2x2.

    At each pixel the channel with the largest gradient counts.
    """
    values = image.astype(np.float32) / 255
    down, right = np.gradient(values, axis=(1, 2))
    strongest = np.hypot(down, right).argmax(0)[None]
    down, right = (np.take_along_axis(one, strongest, 0)[0] for one in (down, right))
    size = np.hypot(down, right)
    angle = (np.arctan2(down, right) % np.pi) * (_ANGLES / np.pi)
    low, share = np.floor(angle).astype(int), angle % 1
    height, width = (length // _CELL for length in size.shape)
    cells = np.zeros((height, width, _ANGLES), np.float32)
    rows, columns = np.indices((height * _CELL, width * _CELL)) // _CELL
    crop = np.s_[: height * _CELL, : width * _CELL]
    np.add.at(cells, (rows, columns, low[crop] % _ANGLES), (size * (1 - share))[crop])
    np.add.at(cells, (rows, columns, (low[crop] + 1) % _ANGLES), (size * share)[crop])
    blocks = np.lib.stride_tricks.sliding_window_view(cells, (_BLOCK, _BLOCK), (0, 1))
    flat = blocks.reshape(-1, _ANGLES * _BLOCK**2)
    return (flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 0.1)).ravel()


def colours(image: npt.NDArray[np.uint8]) -> Floats:
    """Square roots of the shares of 8 levels of each channel, in each quarter of the image."""
    height, width = image.shape[1:]
    found = []
    for rows in (np.s_[: height // 2], np.s_[height // 2 :]):
        for columns in (np.s_[: width // 2], np.s_[width // 2 :]):
            for channel in image[:, rows, columns]:
                counts = np.bincount((channel >> 5).ravel(), minlength=_LEVELS)
                found.append(np.sqrt(counts / channel.size))
    return np.concatenate(found).astype(np.float32)


def right_by_cnn(
    dataset: Dataset, split: Split, part: str, *, seed: int, seconds: float
) -> BoolArray:
    """Which images the plain network gets right after so many seconds of processor time.

    Adam at its usual rate, batches of 64, mirrored at random; of all epochs the one that is best on
    the validation split counts.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = plain_network(len(dataset.classes))
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.from_numpy(np.array(dataset.images))
    labels = torch.from_numpy(np.array(dataset.labels))
    train = torch.from_numpy(split.train)
    best, weights = -1.0, {}
    began = time.process_time()
    while time.process_time() - began < seconds:
        network.train()
        for rows in train[torch.randperm(len(train), generator=generator)].split(64):
            batch = scaled(images[rows])
            mirrored = torch.rand(len(rows), generator=generator) < 0.5
            batch[mirrored] = batch[mirrored].flip(3)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), labels[rows]).backward()
            optimizer.step()
        reached = float(judged(network, images, labels, split.val).mean())
        if reached > best:
            best, weights = reached, copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    return judged(network, images, labels, split.part(part))


def plain_network(num_classes: int) -> nn.Module:
    """Four times convolution, normalization, ReLU and pooling, then a linear layer; for 64x64."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128, 256):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    ending = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, num_classes)]
    return nn.Sequential(*layers, *ending)


@torch.inference_mode()
def judged(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, indices: npt.NDArray[np.int64]
) -> BoolArray:
    """Which of these images are predicted right."""
    network.eval()
    rows = torch.from_numpy(indices)
    named = torch.cat([network(scaled(images[some])).argmax(1) for some in rows.split(256)])
    return (named == labels[rows]).numpy()


def scaled(images: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32, -1 to 1."""
    return images.float() / 127.5 - 1
