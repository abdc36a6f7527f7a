"""From images as bytes to probabilities, without a run: a network and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..arrays import Float32Array, Float64Array, UInt8Array
from ..data.pictures.preprocess import Preprocess
from ..errors import DataError
from ..evaluation.predictions import probabilities_of
from .forward import Forward

_IMAGES_AT_ONCE = 1000


class Predictor:
    """Classifies arrays, again and again.

    It leaves the threads of the process as they are. `sartor.predict` and `evaluate` set those of
    the run for as long as they work, which can change the last bits of a probability.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        classes: tuple[str, ...],
        preprocess: Preprocess,
        memory_format: torch.memory_format,
        loss: str,
    ) -> None:
        """A network in evaluation mode, with what it was trained with.

        Args:
            loss: decides how logits become probabilities, as `probabilities_of` says.
        """
        self.classes = classes
        """What each column of the probabilities means."""
        self.preprocess = preprocess
        self.forward = forward
        self._memory_format = memory_format
        self._loss = loss
        self._normalize: Callable[[Tensor], Tensor] = preprocess.normalizer(forward.device)

    def logits(self, images: UInt8Array) -> Float32Array:
        """float32 (N, classes) of uint8 images (N, H, W) or (N, C, H, W).

        Images of another size than the network's are prepared as pictures are.

        Raises:
            DataError: another shape or type.
        """
        prepared = self.preprocess.pictures(_checked(images))
        parts = [
            self.forward.logits(self.batch(prepared[start : start + _IMAGES_AT_ONCE])).cpu().numpy()
            for start in range(0, len(prepared), _IMAGES_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def probabilities(self, images: UInt8Array) -> Float64Array:
        """float64 (N, classes), each row summing to 1; images as for `logits`."""
        return self.probabilities_of(self.logits(images))

    def probabilities_of(self, logits: Float32Array) -> Float64Array:
        """Of logits that were computed before."""
        return probabilities_of(logits, self._loss)

    def labels(self, images: UInt8Array) -> list[str]:
        """The most probable class of each image; images as for `logits`."""
        return [self.classes[column] for column in self.probabilities(images).argmax(1)]

    def batch(self, images: UInt8Array) -> Tensor:
        """The network's input, float (B, C, H, W), of images uint8 (B, C, H, W) of its size."""
        # A copy, since the array may not be contiguous, or not be writable.
        batch = self._normalize(torch.from_numpy(images.copy()).to(self.forward.device))
        return batch.contiguous(memory_format=self._memory_format)


def _checked(images: UInt8Array) -> UInt8Array:
    """(N, C, H, W)."""
    if images.dtype != np.uint8:
        raise DataError(f"Images are of {images.dtype}, not uint8.", "Give bytes, 0 to 255.")
    if images.ndim == 3:
        return images[:, np.newaxis]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise DataError(
        f"Images have the shape {images.shape}, which is neither (N, H, W) nor (N, C, H, W).",
        "Give one image as images[np.newaxis], and 1 or 3 channels before height and width.",
    )
