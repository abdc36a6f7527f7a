"""A run's trained network, held ready to classify again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..data.pictures.preprocess import Preprocess
from ..inference import predictor
from ..inference.forward import Forward
from ..training.engines import hardware
from .calibrating import temperature_value
from .opened import OpenedRun, load_checkpoint, with_weights


class Predictor(predictor.Predictor):
    """Classifies arrays; opens the run once, where `sartor.predict` opens it in every call."""

    def __init__(
        self, run: OpenedRun, *, checkpoint: str = "best", calibrated: bool = False
    ) -> None:
        """The "best" checkpoint or the "last".

        Args:
            calibrated: divide the logits by the temperature that was fitted on validation images.

        Raises:
            RunError: a broken run, or one without a checkpoint.
            UsageError: `calibrated`, but no predictions of validation images are saved.
        """
        recipe = run.recipe_here
        kept = load_checkpoint(run.folder, checkpoint)
        untrained = run.untrained_network(len(kept.classes))
        network = with_weights(untrained, kept, run.path).eval()
        super().__init__(
            Forward.of(network, recipe.training),
            classes=kept.classes,
            preprocess=Preprocess.from_settings(recipe.preprocess),
            memory_format=hardware.torch_memory_format(recipe.training.memory_format),
            loss=recipe.training.loss,
            temperature=temperature_value(run, kept.weights_sha256, recipe.training.loss)
            if calibrated
            else 1.0,
        )
        self.weights_sha256 = kept.weights_sha256
        """The weights that predict."""
        hardware.take_kernels(recipe.training, network)
        self._training = recipe.training

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For a stretch of work: as many threads as in training and evaluation, so the same bits.

        A setting of the whole process, which is as before afterwards.
        """
        with hardware.threads_of(self._training):
            yield
