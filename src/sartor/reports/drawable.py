"""What can be drawn, by shape: `inspection` makes these values and stands above this room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Shape = tuple[int, ...]


class RangeTest(Protocol):
    """Losses over rising learning rates."""

    @property
    def rates(self) -> Sequence[float]: ...
    @property
    def losses(self) -> Sequence[float]: ...
    @property
    def smoothed(self) -> Sequence[float]: ...
    @property
    def suggestion(self) -> float | None: ...


class Embedding(Protocol):
    """Images of a split as points in two dimensions."""

    @property
    def points(self) -> Floats: ...
    @property
    def labels(self) -> Integers: ...
    @property
    def indices(self) -> Integers: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def split(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def outlier_scores(self) -> Floats: ...
    def outlier_rows(self, count: int) -> Integers: ...


class Product(Protocol):
    """A matrix times a vector, plus a bias."""

    @property
    def weights(self) -> Tensor: ...
    @property
    def vector(self) -> Tensor: ...
    @property
    def bias(self) -> Tensor | None: ...
    @property
    def terms(self) -> Tensor: ...
    @property
    def result(self) -> Tensor: ...


class Layer(Protocol):
    """One call of a module or function."""

    @property
    def name(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def output_shape(self) -> Shape: ...
    @property
    def output(self) -> Tensor: ...
    @property
    def gradient(self) -> Tensor | None: ...
    @property
    def is_linear(self) -> bool: ...
    def as_product(self) -> Product: ...


class Parameter(Protocol):
    """A parameter and how far the step moved it."""

    @property
    def name(self) -> str: ...
    @property
    def trainable(self) -> bool: ...
    @property
    def weight_norm(self) -> float: ...
    @property
    def gradient_norm(self) -> float | None: ...
    @property
    def update_norm(self) -> float: ...
    @property
    def update_ratio(self) -> float | None: ...


class About(Protocol):
    """Where the images come from."""

    @property
    def pixels(self) -> npt.NDArray[np.uint8] | None: ...


class Loss(Protocol):
    """The loss of the batch."""

    @property
    def name(self) -> str: ...


class Step(Protocol):
    """One step of the optimizer."""

    @property
    def probabilities_after(self) -> Tensor: ...


class Trace(Protocol):
    """A batch's way through a network, forward and back."""

    @property
    def about(self) -> About: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor | None: ...
    @property
    def layers(self) -> Sequence[Layer]: ...
    @property
    def parameters(self) -> Sequence[Parameter]: ...
    @property
    def output(self) -> Tensor: ...
    @property
    def probabilities(self) -> Tensor | None: ...
    @property
    def predicted(self) -> Tensor | None: ...
    @property
    def loss(self) -> Loss | None: ...
    @property
    def step(self) -> Step | None: ...
