"""From images as bytes to probabilities, without a run: a network and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..arrays import AnyArray, Float32Array, Float64Array, UInt8Array
from ..data.given import images_in_order
from ..data.pictures.preprocess import Preprocess
from ..errors import DataError
from ..evaluation.calibration import log_probabilities_of, scaled
from ..evaluation.predictions import NO_PREDICTION, predicted_of, probabilities_of
from .calibration import Calibration
from .forward import Forward, Scored
from .novelty import Novelty

_IMAGES_AT_ONCE = 1000
UNCALIBRATED = Calibration()
"""Nothing was fitted."""


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
        calibration: Calibration = UNCALIBRATED,
    ) -> None:
        """A network in evaluation mode, with what it was trained with.

        Args:
            loss: decides how logits become probabilities, as `probabilities_of` says.
            calibration: its temperature divides the logits before they do.
        """
        self.classes = classes
        """What each column of the probabilities means."""
        self.preprocess = preprocess
        self.forward = forward
        self._memory_format = memory_format
        self._loss = loss
        self.calibration = calibration
        """Temperature and thresholds, as far as they were fitted."""
        score = calibration.novelty
        self._novelty = None if score is None else Novelty(score, loss).to(forward.device)
        self._normalize: Callable[[Tensor], Tensor] = preprocess.normalizer(forward.device)

    def logits(self, images: AnyArray) -> Float32Array:
        """float32 (N, classes) of images (N, H, W), (N, H, W, C) or (N, C, H, W).

        Bytes or floats in 0..1, as `fit` takes them. Images of another size than the network's are
        prepared as pictures are.

        Raises:
            DataError: another shape, other numbers, or a single image in colour, (H, W, 3).
        """
        return self._scored(images, None).logits.numpy()

    def scored(self, images: AnyArray) -> tuple[Float32Array, Float32Array | None]:
        """Logits, and the novelty (N,) of images as for `logits`; None where there is no score."""
        found = self._scored(images, self._novelty)
        return found.logits.numpy(), None if found.novelty is None else found.novelty.numpy()

    def _scored(self, images: AnyArray, novelty: Novelty | None) -> Scored:
        """Of all images, on the CPU."""
        prepared = self.preprocess.pictures(images_in_order(images, self.preprocess.input_shape))
        with self.forward.own_threads():
            parts = [
                self._part(prepared[start : start + _IMAGES_AT_ONCE], novelty)
                for start in range(0, len(prepared), _IMAGES_AT_ONCE)
            ]
        logits = [part.logits.cpu() for part in parts] or [torch.empty((0, len(self.classes)))]
        if novelty is None:
            return Scored(_joined(logits), None)
        scores = [part.novelty.cpu() for part in parts if part.novelty is not None]
        return Scored(_joined(logits), _joined(scores or [torch.empty(0)]))

    def _part(self, images: UInt8Array, novelty: Novelty | None) -> Scored:
        score = self.calibration.novelty
        layer = score.layer if score else ""
        found = self.forward.scored_bytes(images, self._normalize, novelty, layer)
        if found is not None:
            return found
        return self.forward.scored(self.batch(images), novelty, layer)

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.calibration.temperature

    def probabilities(self, images: AnyArray) -> Float64Array:
        """float64 (N, classes), each row summing to 1; NaN where outputs are not finite.

        Images as for `logits`. They are at the temperature of the calibration; of a network trained
        with mse they are shares of its scores.
        """
        return self.probabilities_of(self.logits(images))

    def probabilities_of(self, logits: Float32Array) -> Float64Array:
        """Of logits that were computed before."""
        if self.temperature == 1:
            return probabilities_of(logits, self._loss)
        return np.exp(scaled(log_probabilities_of(logits, self._loss), self.temperature))

    def labels(self, images: AnyArray) -> list[str]:
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


def _joined(parts: list[Tensor]) -> Tensor:
    """One after the other; a single one as it is, for a single image is quick without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
