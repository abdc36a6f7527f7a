"""From images as bytes to probabilities, without a run: a network and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..arrays import Float32Array, Float64Array, UInt8Array
from ..data.given import plain_array
from ..data.pictures.preprocess import Preprocess
from ..errors import DataError
from ..evaluation.calibration import log_probabilities_of, scaled
from ..evaluation.predictions import NO_PREDICTION, predicted_of, probabilities_of
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
        temperature: float = 1.0,
    ) -> None:
        """A network in evaluation mode, with what it was trained with.

        Args:
            loss: decides how logits become probabilities, as `probabilities_of` says.
            temperature: what the logits are divided by before they do.
        """
        self.classes = classes
        """What each column of the probabilities means."""
        self.preprocess = preprocess
        self.forward = forward
        self._memory_format = memory_format
        self._loss = loss
        self.temperature = temperature
        self._normalize: Callable[[Tensor], Tensor] = preprocess.normalizer(forward.device)

    def logits(self, images: UInt8Array) -> Float32Array:
        """float32 (N, classes) of uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W).

        Images of another size than the network's are prepared as pictures are.

        Raises:
            DataError: another shape or type, or a single image in colour, (H, W, 3).
        """
        prepared = self.preprocess.pictures(_checked(images, self.preprocess.input_shape))
        parts = [
            self.forward.logits(self.batch(prepared[start : start + _IMAGES_AT_ONCE])).cpu().numpy()
            for start in range(0, len(prepared), _IMAGES_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def probabilities(self, images: UInt8Array) -> Float64Array:
        """float64 (N, classes), each row summing to 1; NaN where outputs are not finite.

        Images as for `logits`. They are probabilities as the network gives them; of one trained
        with mse they are shares of its scores.
        """
        return self.probabilities_of(self.logits(images))

    def probabilities_of(self, logits: Float32Array) -> Float64Array:
        """Of logits that were computed before."""
        if self.temperature == 1:
            return probabilities_of(logits, self._loss)
        return np.exp(scaled(log_probabilities_of(logits, self._loss), self.temperature))

    def labels(self, images: UInt8Array) -> list[str]:
        """The class with the highest output for each image; images as for `logits`.

        Raises:
            DataError: also where outputs are not finite, so that there is no such class.
        """
        predicted = predicted_of(self.logits(images))
        unknown = int((predicted == NO_PREDICTION).sum())
        if unknown:
            raise DataError(
                f"The network's outputs are not finite for {unknown:,} of {len(predicted):,} "
                "images, so they have no label.",
                "Train again with a lower --lr, or look at `logits`.",
            )
        return [self.classes[column] for column in predicted]

    def batch(self, images: UInt8Array) -> Tensor:
        """The network's input, float (B, C, H, W), of images uint8 (B, C, H, W) of its size."""
        # A copy, since the array may not be contiguous, or not be writable.
        batch = self._normalize(torch.from_numpy(images.copy()).to(self.forward.device))
        return batch.contiguous(memory_format=self._memory_format)


def _checked(images: UInt8Array, input_shape: tuple[int, int, int]) -> UInt8Array:
    """(N, C, H, W), from the orders that `Dataset` takes; `input_shape` is the network's."""
    channels, *size = input_shape
    images = plain_array(images, "images")
    if images.dtype != np.uint8:
        raise DataError(f"Images are of {images.dtype}, not uint8.", "Give bytes, 0 to 255.")
    if images.ndim == 3:
        gray_of_this_size = channels == 1 and list(images.shape[1:]) == size
        if not gray_of_this_size and 3 in (images.shape[0] * (channels == 3), images.shape[2]):
            raise DataError(
                f"Images of the shape {images.shape} may be one image in colour, or "
                f"{images.shape[0]} gray ones.",
                "Give one image as images[np.newaxis], and gray ones as images[:, np.newaxis].",
            )
        return images[:, np.newaxis]
    if images.ndim == 4:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        # Where both may be the channels, as with 3 pixels per side, the network's number decides.
        if first and last and images.shape[1] != channels == images.shape[3]:
            first = False
        if first:
            return images
        if last:
            return images.transpose(0, 3, 1, 2)
    raise DataError(
        f"Images have the shape {images.shape}, which is not (N, H, W), (N, H, W, C) or "
        "(N, C, H, W).",
        "Give one image as images[np.newaxis], with 1 or 3 channels.",
    )
