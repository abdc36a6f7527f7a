"""The values of a trace: one batch through a network, forward and back, and one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import UsageError, unknown
from ..files import write_text
from ..wording import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Shape = tuple[int, ...]

RELUS = ("relu", "relu6", "threshold")
"""Operations, in lower case, that give 0 for negative numbers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class About:
    """Where the network and the images come from."""

    network: str
    """Such as "runs/x, best checkpoint (epoch 3)"."""
    images: str
    """Such as "image 5 of digits (train split)"."""
    notes: tuple[str, ...] = ()
    """Notes on how the trace was made, one sentence each."""
    pixels: npt.NDArray[np.uint8] | None = None
    """uint8 (B, C, H, W), before they were normalised."""
    indices: tuple[int, ...] | None = None
    """Of the images in their dataset."""
    split: str | None = None
    """Split of the dataset that they are from, if any."""
    untrained: bool | None = None
    """None if unknown."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of a tensor's numbers over the whole batch."""

    mean: float
    std: float
    """Standard deviation, with the count in the denominator."""
    lowest: float
    highest: float
    zeros: float
    """Share of numbers that are exactly 0."""
    units: int
    """Features, or channels of feature maps."""
    silent_units: int
    """Units that are 0 for every image of the batch, everywhere."""
    finite: bool

    @classmethod
    def of(cls, values: Tensor) -> Statistics:
        """Of a tensor (B, ...) of floating-point numbers."""
        numbers = values.double().reshape(values.shape or (1,))
        zero = numbers == 0
        axis = _unit_axis(numbers)
        silent = zero.transpose(0, axis).reshape(zero.shape[axis], -1).all(dim=1)
        return cls(
            mean=float(numbers.mean()),
            std=float(numbers.std(correction=0)),
            lowest=float(numbers.min()),
            highest=float(numbers.max()),
            zeros=float(zero.double().mean()),
            units=len(silent),
            silent_units=int(silent.sum()),
            finite=bool(numbers.isfinite().all()),
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Product:
    """A linear layer written out: each row of weights times the vector, summed, plus bias."""

    weights: Tensor
    """(out, in)."""
    vector: Tensor
    """(in,)."""
    bias: Tensor | None = None
    """(out,)."""

    @property
    def terms(self) -> Tensor:
        """(out, in): every weight times the number that it meets."""
        return self.weights * self.vector

    @property
    def result(self) -> Tensor:
        """(out,)."""
        sums = self.weights @ self.vector
        return sums if self.bias is None else sums + self.bias

    def __repr__(self) -> str:
        rows = [
            [f"{number(w)}*{number(x)}" for w, x in zip(row, self.vector, strict=True)]
            for row in self.weights
        ]
        if self.bias is not None:
            rows = [[*row, number(one)] for row, one in zip(rows, self.bias, strict=True)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            " + ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            + f" = {number(total)}"
            for row, total in zip(rows, self.result, strict=True)
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Layer:
    """One call of a module, or of a function between modules. Tensors are on the CPU."""

    name: str
    operation: str
    """The module's class, or the function's name."""
    input_shape: Shape
    output_shape: Shape
    """Of the batch that came out; of the first tensor if there were several."""
    input: Tensor | None
    output: Tensor
    gradient: Tensor | None
    """Of the loss with respect to the output; None where none came, or without a label."""
    statistics: Statistics
    """Of the output."""
    parameters: tuple[str, ...]
    """Names of those it used."""
    weight: Tensor | None
    bias: Tensor | None

    def __repr__(self) -> str:
        shapes = f"{self.input_shape} -> {self.output_shape}"
        gradient = self.gradient_norm
        back = "" if gradient is None else f", gradient {number(gradient)}"
        return (
            f"<Layer {self.name} ({self.operation}): {shapes}, mean {number(self.statistics.mean)}"
            f", std {number(self.statistics.std)}{back}>"
        )

    @property
    def gradient_norm(self) -> float | None:
        """L2 norm of the gradient with respect to the output."""
        return None if self.gradient is None else float(self.gradient.double().norm())

    @property
    def is_relu(self) -> bool:
        """Whether it gives 0 for negative numbers."""
        return self.operation.lower().strip("_") in RELUS

    @property
    def is_linear(self) -> bool:
        """Whether it is the product of a matrix and one vector per image."""
        return (
            self.operation.lower().endswith("linear")
            and self.weight is not None
            and self.input is not None
            and self.weight.ndim == self.input.ndim == 2
            and self.weight.shape[1] == self.input.shape[1]
        )

    def as_product(self, image: int = 0) -> Product:
        """The layer's work on one image of the batch, as a product of a matrix and a vector.

        Raises:
            UsageError: it is not a linear layer on vectors.
        """
        if not self.is_linear:
            raise UsageError(
                f"{self.name} ({self.operation}) is not a matrix-vector product.",
                "Choose a linear layer.",
            )
        assert self.weight is not None, "is_linear"
        assert self.input is not None, "is_linear"
        return Product(weights=self.weight, vector=self.input[image], bias=self.bias)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ParameterTrace:
    """One parameter: its value before the step, its gradient and its update."""

    name: str
    also: tuple[str, ...]
    """Other names of the same parameter, where layers share it."""
    shape: Shape
    trainable: bool
    weight: Tensor
    """Before the step."""
    gradient: Tensor | None
    """As backward() left it, before any clipping; None if it took no part."""
    update: Tensor
    """Weight after the step minus weight before it."""

    def __repr__(self) -> str:
        gradient = "none" if self.gradient_norm is None else number(self.gradient_norm)
        return (
            f"<ParameterTrace {self.name} {self.shape}: weight {number(self.weight_norm)}, "
            f"gradient {gradient}, update {number(self.update_norm)}>"
        )

    @property
    def weight_norm(self) -> float:
        """L2 norm of the weight before the step."""
        return float(self.weight.double().norm())

    @property
    def gradient_norm(self) -> float | None:
        """L2 norm of the gradient."""
        return None if self.gradient is None else float(self.gradient.double().norm())

    @property
    def update_norm(self) -> float:
        """L2 norm of the update."""
        return float(self.update.double().norm())

    @property
    def update_ratio(self) -> float | None:
        """Norm of the update over norm of the weight; None for a weight of zeros."""
        return self.update_norm / self.weight_norm if self.weight_norm else None


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Loss:
    """What training minimizes, and how it is computed."""

    name: str
    """cross-entropy, mse or bce."""
    value: float
    """Of the batch, with smoothing and class weights: what backward() starts from."""
    of_each: Tensor
    """(B,): of each image, without smoothing and class weights."""
    chance_level: float
    """The loss of predicting all classes with equal probability, such as ln 10; for mse, which
    knows no probabilities, that of outputs of 0."""
    smoothing: float
    weighted: bool
    """Classes have weights of their own."""

    def __repr__(self) -> str:
        return f"<Loss {self.name}: {self.value:.4f}, {self.level} {self.chance_level:.4f}>"

    @property
    def level(self) -> str:
        """What `chance_level` is called."""
        return "outputs of 0:" if self.name == "mse" else "chance level"

    def to_json(self) -> dict[str, Any]:
        """The same as numbers, strings and lists."""
        document = {**vars(self), "of_each": self.of_each.tolist()}
        document["knowing_nothing"] = document.pop("chance_level")
        return document


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Step:
    """One step of the optimizer, and the same batch before and after it."""

    optimizer: str
    learning_rate: float
    loss_before: float
    loss_after: float
    correct_before: int
    correct_after: int
    count: int
    """Images in the batch."""
    gradient_norm: float
    """Over all parameters, before any clipping."""
    clipped_to: float | None
    """The norm it was clipped to; None where it was not."""
    logits_after: Tensor
    probabilities_after: Tensor

    def __repr__(self) -> str:
        return (
            f"<Step of {self.optimizer}, learning rate {self.learning_rate:.4g}: loss "
            f"{self.loss_before:.4f} -> {self.loss_after:.4f}, correct {self.correct_before} -> "
            f"{self.correct_after} of {self.count}>"
        )

    def to_json(self) -> dict[str, Any]:
        """The same as numbers, strings and lists."""
        tensors = ("logits_after", "probabilities_after")
        return vars(self) | {name: getattr(self, name).tolist() for name in tensors}


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """A likely problem seen in a trace."""

    kind: str
    """One word or two for programs, such as "dead-units"."""
    place: str
    """The layer or parameter; empty for the whole network."""
    message: str
    """What was found, and why it matters."""
    advice: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Trace:
    """A batch's way through a network, forward and back; `layers`, `parameters`, `step`, ...

    `trace.layers[2].output` is a tensor, `trace["conv1"]` a layer, `trace["conv1.weight"]` a
    parameter with its gradient and update. All tensors are on the CPU.
    """

    about: About
    classes: tuple[str, ...]
    images: Tensor
    """(B, C, H, W), as the network got them."""
    labels: Tensor | None
    """(B,)."""
    training_mode: bool
    """Dropout drops, and batch normalisation uses this batch's figures."""
    layers: tuple[Layer, ...]
    """In the order of their calls."""
    parameters: tuple[ParameterTrace, ...]
    output: Tensor
    """What the network gives: logits (B, K) where it is a classifier."""
    probabilities: Tensor | None
    """(B, K); None where the output is not one row of numbers per image."""
    loss: Loss | None
    """None without labels; so is `step`."""
    step: Step | None
    warnings: tuple[Symptom, ...] = ()
    """Likely problems, gravest first."""
    evidence: npt.NDArray[np.float32] | None = None
    """float32 (H, W): which pixels of the first image are evidence for the prediction (above 0) or
    against it, by occlusion; None without captum, and for images given as tensors."""

    def __repr__(self) -> str:
        step, about = self.step, self.about
        loss = f", loss {step.loss_before:.4f} -> {step.loss_after:.4f}" if step else ""
        layers = f"{len(self.layers)} layers{loss}"
        return plain(f"<Trace of {about.images} through {about.network}: {layers}>")

    def __getitem__(self, name: str) -> Layer | ParameterTrace:
        """A layer by its name, such as "conv1", or a parameter, such as "conv1.weight"."""
        parts: list[Layer | ParameterTrace] = [*self.layers, *self.parameters]
        for one in parts:
            if one.name == name or (isinstance(one, ParameterTrace) and name in one.also):
                return one
        raise KeyError(unknown("layer or parameter", name, [one.name for one in parts]))

    def parameter(self, name: str) -> ParameterTrace:
        """A parameter by its name."""
        return next(one for one in self.parameters if one.name == name)

    @property
    def predicted(self) -> Tensor | None:
        """(B,): the class with the highest output, where the network is a classifier."""
        return None if self.probabilities is None else self.output.argmax(dim=1)

    def plot(self) -> Figure:
        """Every layer's output and gradient as pictures."""
        from ..reports.trace_figures import trace_figure

        return trace_figure(self)

    def page(self) -> str:
        """The page that `save` writes: one self-contained HTML file."""
        from ..reports.trace_page import trace_page

        return trace_page(self)

    def save(self, path: str | Path) -> Path:
        """Write a page that can be stepped through, forward and back, in any browser.

        Raises:
            UsageError: the name does not end in .html. FileError: it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"Cannot write a page as {path.name}.", "Use a name ending in .html.")
        write_text(path, self.page())
        return path

    def _repr_html_(self) -> str:
        from ..reports.trace_page import trace_table

        return trace_table(self)

    def to_json(self) -> dict[str, Any]:
        """Everything but the tensors, as numbers, strings, lists and dictionaries."""
        about = self.about
        return {
            "network": about.network,
            "images": about.images,
            "indices": None if about.indices is None else list(about.indices),
            "split": about.split,
            "count": len(self.images),
            "mode": "training" if self.training_mode else "evaluation",
            "notes": list(about.notes),
            "layers": [_layer_json(layer) for layer in self.layers],
            "parameters": [_parameter_json(parameter) for parameter in self.parameters],
            "answers": list(self._answers()),
            "loss": None if self.loss is None else self.loss.to_json(),
            "step": None if self.step is None else self.step.to_json(),
            "warnings": [asdict(symptom) for symptom in self.warnings],
        }

    def _answers(self) -> Iterator[dict[str, Any]]:
        """Of each image: its true and predicted class, logits and probabilities."""
        if self.probabilities is None or self.predicted is None:
            return
        for row, predicted in enumerate(self.predicted.tolist()):
            label = None if self.labels is None else int(self.labels[row])
            yield {
                "label": None if label is None else self.classes[label],
                "predicted": self.classes[predicted],
                "logits": self.output[row].tolist(),
                "probabilities": self.probabilities[row].tolist(),
            }

    def loss_in_words(self) -> str:
        """How the loss of the first image is computed, and from it that of the batch."""
        if self.loss is None or self.labels is None or self.probabilities is None:
            return ""
        loss, true = self.loss, self.classes[int(self.labels[0])]
        each = float(loss.of_each[0])
        if loss.name == "cross-entropy":
            probability = float(self.probabilities[0, int(self.labels[0])])
            words = [
                f"The true class {true} has probability {number(probability)}; cross-entropy is "
                f"-ln {number(probability)} = {each:.4f}."
            ]
        else:
            distance = {
                "mse": "the squared distance between its output and that",
                "bce": "the cross-entropy between the sigmoid of its output and that",
            }[loss.name]
            words = [
                f"The true class {true} should give 1 and every other class 0; {loss.name} is the "
                f"mean over the classes of {distance}: {each:.4f}."
            ]
        mean = float(loss.of_each.mean())
        if len(loss.of_each) > 1:
            words.append(f"The mean over all {len(loss.of_each)} images is {mean:.4f}.")
        if loss.smoothing or loss.weighted:
            reasons = [f"smoothing {loss.smoothing:g}"] * bool(loss.smoothing)
            reasons += ["class weights"] * loss.weighted
            words.append(f"With {' and '.join(reasons)}, training sees {loss.value:.4f}.")
        if loss.name == "mse":
            words.append(f"Outputs of 0 would give {loss.chance_level:.4f}.")
        else:
            words.append(f"The chance level for {self._chance_level()}.")
        return " ".join(words)

    def _chance_level(self) -> str:
        assert self.loss is not None, "asked where there is one"
        count, value = len(self.classes), self.loss.chance_level
        logarithm = f"ln {count} = " if self.loss.name == "cross-entropy" else ""
        return f"{count} classes is {logarithm}{value:.4f}"

    @property
    def output_layer(self) -> Layer | None:
        """The last layer that has parameters."""
        return next((one for one in reversed(self.layers) if one.parameters), None)


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "operation": layer.operation,
        "input_shape": list(layer.input_shape),
        "output_shape": list(layer.output_shape),
        "parameters": list(layer.parameters),
        **_statistics_json(layer.statistics),
        "gradient_norm": layer.gradient_norm,
    }


def _statistics_json(statistics: Statistics) -> dict[str, Any]:
    document = asdict(statistics)
    document["spread"] = document.pop("std")
    return document


def _parameter_json(parameter: ParameterTrace) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "also": list(parameter.also),
        "shape": list(parameter.shape),
        "trainable": parameter.trainable,
        "weight_norm": parameter.weight_norm,
        "gradient_norm": parameter.gradient_norm,
        "update_norm": parameter.update_norm,
        "update_ratio": parameter.update_ratio,
    }


def _unit_axis(values: Tensor) -> int:
    """The axis of features (B, F) or (B, T, F), or of channels (B, C, H, W)."""
    return {1: 0, 3: 2}.get(values.ndim, 1)


def number(value: Tensor | float) -> str:
    """With four significant digits."""
    return f"{float(value):.4g}"
