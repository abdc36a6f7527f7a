"""A run's trained network in PyTorch, with the precision and the threads of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..data.pictures.preprocess import Preprocess
from ..inference import predictor
from ..inference.forward import Forward
from ..training.engines import hardware
from .kept_calibration import calibration_at_hand
from .opened import OpenedRun, load_checkpoint, with_weights


class NetworkPredictor(predictor.Predictor):
    """Classifies arrays; opens the run once, where `sartor.predict` opens it in every call."""

    def __init__(
        self, run: OpenedRun, *, checkpoint: str = "best", calibrated: bool = True
    ) -> None:
        """The "best" checkpoint or the "last".

        Args:
            calibrated: divide the logits by the temperature that was fitted on validation images,
                where one was. Otherwise probabilities are as the network gives them, and there are
                no sets, which are meant for the others.

        Raises:
            RunError: a broken run, or one without a checkpoint.
        """
        recipe = run.recipe_here
        kept = load_checkpoint(run.folder, checkpoint)
        untrained = run.untrained_network(len(kept.classes))
        network = with_weights(untrained, kept, run.path).eval()
        calibration = calibration_at_hand(run, kept.weights_sha256, checkpoint)
        super().__init__(
            Forward.of(network, recipe.training),
            classes=kept.classes,
            preprocess=Preprocess.from_settings(recipe.preprocess),
            memory_format=hardware.torch_memory_format(recipe.training.memory_format),
            loss=recipe.training.loss,
            calibration=calibration
            if calibrated
            else replace(calibration, temperature=1.0, coverage=None, set_threshold=None),
        )
        self.weights_sha256 = kept.weights_sha256
        """The weights that predict."""
        self._training = recipe.training

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For a stretch of work: as many threads as in training and evaluation, so the same bits.

        A setting of the whole process, which is as before afterwards.
        """
        with hardware.threads_of(self._training):
            yield
