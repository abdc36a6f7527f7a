"""A run's trained network, held ready to classify again and again."""

from __future__ import annotations

import numpy as np
import torch

from ..arrays import Float32Array, Float64Array, UInt8Array
from ..data.pictures.preprocess import Preprocess
from ..errors import DataError
from ..evaluation.predictions import probabilities_of
from ..training.engines import hardware as engine
from ..training.loop import answers
from .run import Run, load_checkpoint, with_weights

_IMAGES_AT_ONCE = 1000


class Predictor:
    """Classifies arrays; opens the run once, where `sartor.predict` opens it in every call."""

    def __init__(self, run: Run, *, checkpoint: str = "best") -> None:
        """The "best" checkpoint or the "last".

        Raises:
            RunError: a broken run, or one without a checkpoint.
        """
        recipe = run.recipe
        kept = load_checkpoint(run.folder, checkpoint)
        self.classes = kept.classes
        """What each column of the probabilities means."""
        self.preprocess = Preprocess.from_settings(recipe.preprocess)
        self._training = recipe.training
        self._layout = engine.torch_memory_format(recipe.training.memory_format)
        self._normalize = self.preprocess.normalizer(recipe.training.device)
        self._network = with_weights(run._bare_network(len(kept.classes)), kept, run.path).eval()
        engine.take_kernels(recipe.training, self._network)

    def probabilities(self, images: UInt8Array) -> Float64Array:
        """float64 (N, classes), each row summing to 1, of uint8 images (N, H, W) or (N, C, H, W).

        Images of another size than the network's are prepared as pictures are.

        Raises:
            DataError: another shape or type.
        """
        prepared = self.preprocess.images(_checked(images))
        # As in training and judging: the same threads, layout, kernels and precision.
        with engine.threads_of(self._training):
            parts = [
                self._logits(prepared[start : start + _IMAGES_AT_ONCE])
                for start in range(0, len(prepared), _IMAGES_AT_ONCE)
            ]
        logits = np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)
        return probabilities_of(logits, self._training.loss)

    def labels(self, images: UInt8Array) -> list[str]:
        """The most probable class of each image; images as for `probabilities`."""
        return [self.classes[column] for column in self.probabilities(images).argmax(1)]

    def _logits(self, images: UInt8Array) -> Float32Array:
        # A copy, since the array may not be contiguous, or not be writable.
        batch = self._normalize(torch.from_numpy(images.copy()).to(self._training.device))
        batch = batch.contiguous(memory_format=self._layout)
        logits: Float32Array = answers(self._network, batch, self._training).cpu().numpy()
        return logits


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
