"""The public run: a folder read back, and the verbs as its methods. Nothing below imports it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from ..evaluation.metrics import Evaluation
from ..wording import plain
from . import exporting, fitting, judging, predicting, reporting, resuming, tracing
from .exporting import Exported
from .notes import Sink
from .opened import OpenedRun
from .predicting import Picture, Prediction
from .predictor import Predictor
from .reporting import Report
from .tracing import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Arguments = ParamSpec("_Arguments")


class Run(OpenedRun):
    """A run's folder, and what can be done with it."""

    @classmethod
    def of(cls, opened: OpenedRun) -> Run:
        """The same run with the verbs as methods."""
        if isinstance(opened, cls):
            return opened
        return cls(
            opened.folder,
            dataset=opened.given_dataset,
            network=opened.given_network,
            device=opened.device,
            trust=opened.trust,
        )

    def __repr__(self) -> str:
        status, rows = self.status["state"], self.history
        figures = ""
        if rows:
            best = self.best_row
            figures = (
                f", train accuracy {rows[-1]['train_accuracy']:.2%}"
                if best is None
                else f", val accuracy {best['val_accuracy']:.2%} (best epoch, {best['epoch']})"
            )
        return plain(f"<Run {self.path}: {status}, {len(rows)} epochs{figures}>")

    def _repr_html_(self) -> str:
        import base64
        import html
        import io

        stream = io.BytesIO()
        if self.history:
            self.plot().savefig(stream, format="png", dpi=80)
        picture = base64.b64encode(stream.getvalue()).decode()
        image = (
            f'<br><img alt="loss and accuracy over epochs" src="data:image/png;base64,{picture}">'
        )
        return f"<code>{html.escape(repr(self))}</code>" + (image if picture else "")

    def plot(self) -> Figure:
        """Loss and accuracy over epochs."""
        from ..reports.figures import learning_curves

        return learning_curves(self.history)

    def evaluate(self, split: str = "test", *, checkpoint: str = "best") -> Evaluation:
        """As `sartor.evaluate`."""
        return judging.evaluate(self, split, checkpoint=checkpoint)

    def report(
        self, split: str | None = None, *, out: str | Path | None = None, checkpoint: str = "best"
    ) -> Report:
        """As `sartor.report`."""
        return reporting.report(self, split, out=out, checkpoint=checkpoint)

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        invert: bool = False,
        ink: str | None = None,
        checkpoint: str = "best",
        calibrated: bool = True,
        abstain: str = "off",
    ) -> list[Prediction]:
        """As `sartor.predict`."""
        return predicting.predict(
            self,
            pictures,
            invert=invert,
            ink=ink,
            checkpoint=checkpoint,
            calibrated=calibrated,
            abstain=abstain,
        )

    def predictor(self, *, checkpoint: str = "best", calibrated: bool = True) -> Predictor:
        """The trained network, ready to classify arrays again and again."""
        return Predictor(self, checkpoint=checkpoint, calibrated=calibrated)

    def export(self, out: str | Path, **choices: Any) -> Exported:
        """As `sartor.export`, such as `run.export("boots.zip")`."""
        return exporting.export(self, out, **choices)

    def trace(self, **choices: Any) -> Trace:
        """As `sartor.trace`, such as `run.trace(image=5)`."""
        return tracing.trace(self, **choices)

    def resume(self, *, epochs: int | None = None, on_event: Sink | None = None) -> Run:
        """As `sartor.resume`."""
        return resume(self, epochs=epochs, on_event=on_event)


def _as_public(verb: Callable[_Arguments, OpenedRun]) -> Callable[_Arguments, Run]:
    """The verb with a public run as its result."""

    @functools.wraps(verb)
    def public(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Run:
        return Run.of(verb(*args, **kwargs))

    signature = inspect.signature(verb).replace(return_annotation=Run)
    public.__signature__ = signature  # type: ignore[attr-defined]
    return public


fit = _as_public(fitting.fit)
resume = _as_public(resuming.resume)
