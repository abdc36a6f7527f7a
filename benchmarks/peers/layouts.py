"""Weights in the layouts of PyTorch and of Keras, which puts outputs and channels last."""

from __future__ import annotations

from collections.abc import Sequence

from .material import Array


def to_keras(weights: Sequence[Array]) -> list[Array]:
    """From kernels and biases of PyTorch.

    Convolutions (O, I, H, W) become (H, W, I, O), linear layers (O, I) become (I, O), and the one
    that reads flattened pixels takes them channel last.
    """
    found, channels = [], 0
    for kernel in weights:
        if kernel.ndim == 4:
            channels = len(kernel)
            kernel = kernel.transpose(2, 3, 1, 0)
        elif kernel.ndim == 2:
            if channels:
                kernel = kernel.reshape(len(kernel), channels, -1).transpose(0, 2, 1)
                kernel = kernel.reshape(len(kernel), -1)
            channels, kernel = 0, kernel.T
        found.append(kernel.copy())
    return found


def from_keras(weights: Sequence[Array]) -> list[Array]:
    """The way back."""
    found, channels = [], 0
    for kernel in weights:
        if kernel.ndim == 4:
            channels = kernel.shape[-1]
            kernel = kernel.transpose(3, 2, 0, 1)
        elif kernel.ndim == 2:
            kernel = kernel.T
            if channels:
                kernel = kernel.reshape(len(kernel), -1, channels).transpose(0, 2, 1)
                kernel = kernel.reshape(len(kernel), -1)
            channels = 0
        found.append(kernel.copy())
    return found
