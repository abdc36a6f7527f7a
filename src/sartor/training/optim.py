"""Optimizers: the update rules of `torch.optim`, called without its classes.

Same arithmetic, fewer costs: no import of the compiler (a second at the first step), no hooks and
parameter groups between the loop and the kernel, and a state that is nothing but named tensors.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.rmsprop import rmsprop

from ..models.decayed import weight_names
from ..models.parts import learning_rate_factors
from ..torch_internals import fused_adam, fused_adamw, fused_sgd
from .scaling import GradientScale
from .settings import TrainingSettings

EPSILON = 1e-8
RMSPROP_DECAY = 0.99


@dataclass(frozen=True, eq=False)
class _Alike:
    """Parameters of one type on one device, which a kernel updates together, and their state."""

    names: list[str]
    parameters: list[Tensor]
    averages: dict[str, list[Tensor]]
    counts: Tensor
    """Updates of each parameter, (P,), on its device: the fused kernels want them so."""
    steps: list[Tensor]
    """The same numbers, each as a view."""
    decay: float
    """Weight decay."""
    factor: float
    """What the learning rate is multiplied by."""

    def used(self) -> _Alike:
        """Those that have a gradient."""
        chosen = [k for k, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if len(chosen) == len(self.parameters):
            return self
        return _Alike(
            [self.names[k] for k in chosen],
            [self.parameters[k] for k in chosen],
            {kind: [kept[k] for k in chosen] for kind, kept in self.averages.items()},
            self.counts,
            [self.steps[k] for k in chosen],
            self.decay,
            self.factor,
        )

    def count(self, updates: int | Tensor = 1) -> None:
        """Add to the number of updates."""
        if len(self.steps) == len(self.counts):
            self.counts.add_(updates)
        else:
            for step in self.steps:
                step.add_(updates)


class Kept(NamedTuple):
    """A parameter, and what an optimizer keeps of it."""

    parameter: Tensor
    averages: dict[str, Tensor]
    """By kind: momentum, mean or square; shaped as the parameter."""
    step: Tensor
    """float32 (): how often it was updated."""
    decay: float
    """Weight decay."""
    factor: float
    """What the learning rate is multiplied by."""


class Optimizer:
    """Updates a model's trainable parameters in place; everything it remembers is in `tensors`."""

    def __init__(self, model: nn.Module, settings: TrainingSettings) -> None:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters: list[Tensor] = list(named.values())
        self._settings = settings
        # Runs from before there was a choice have "auto", and decay all.
        chosen = settings.weight_decay_on == "weights"
        decayed = weight_names(model) if chosen else named
        factors = dict.fromkeys(named, 1.0)
        if settings.layer_decay != 1:
            factors = learning_rate_factors(model, settings.layer_decay)
        self._groups = list(_groups(named, settings, decayed, factors))
        self._scaling: GradientScale | None = None
        if settings.amp_dtype == "float16" and self.parameters:
            self._scaling = GradientScale(self.parameters[0].device)

    def kept(self) -> Iterator[Kept]:
        """Of each parameter what belongs to it."""
        for group in self._groups:
            for k, parameter in enumerate(group.parameters):
                averages = {kind: tensors[k] for kind, tensors in group.averages.items()}
                yield Kept(parameter, averages, group.steps[k], group.decay, group.factor)

    @property
    def names(self) -> set[str]:
        """Of the parameters that it updates."""
        return {name for group in self._groups for name in group.names}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state by name; a copy of it, loaded, makes an equal optimizer."""
        own = {
            f"{kind}.{name}": tensor
            for group in self._groups
            for kind, tensors in {**group.averages, "steps": group.steps}.items()
            for name, tensor in zip(group.names, tensors, strict=True)
        }
        return own | (self._scaling.tensors if self._scaling else {})

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the state of an optimizer of the same settings and parameters.

        Its precision may differ: what only float16 keeps is left out, or begins again.

        Raises:
            ValueError: names or shapes differ.
        """
        own = self.tensors
        of_float16 = {name for name in own.keys() ^ tensors.keys() if name.startswith("scaling.")}
        own = {name: tensor for name, tensor in own.items() if name not in of_float16}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in of_float16}
        here = {(name, tensor.shape) for name, tensor in own.items()}
        there = {(name, tensor.shape) for name, tensor in tensors.items()}
        if here != there:
            raise ValueError(f"the optimizer's state differs in {min(here ^ there)[0]}")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """One update from the gradients; a parameter without a gradient stays as it is.

        A CUDA graph needs the learning rate as a float32 tensor on the device.
        """
        update = {"sgd": self._sgd, "rmsprop": self._rmsprop}.get(self._settings.opt, self._adam)
        for group in self._groups:
            used = group.used()
            gradients = [g for p in used.parameters if (g := p.grad) is not None]
            if gradients:
                # A product with 1 would be another rounding of a tensor on some devices.
                update(used, gradients, lr if used.factor == 1 else lr * used.factor)

    def scaled(self, loss_gradient: Tensor) -> Tensor:
        """The gradient to begin the backward pass with; for float16, multiplied by a scale."""
        return loss_gradient * self._scaling.scale if self._scaling else loss_gradient

    def unscale(self) -> None:
        """Take the scale out of the gradients; `step` does nothing where they overflowed."""
        if self._scaling is None:
            return
        with torch.no_grad():
            self._scaling.unscale([g for p in self.parameters if (g := p.grad) is not None])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @property
    def _overflow(self) -> Tensor | None:
        return self._scaling.overflow if self._scaling else None

    def _sgd(self, used: _Alike, gradients: list[Tensor], lr: float | Tensor) -> None:
        fused_sgd(
            used.parameters,
            gradients,
            used.averages.get("momentum", []),
            weight_decay=used.decay,
            momentum=self._settings.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self._settings.nesterov,
            maximize=False,
            # The average begins at zero and not at the first gradient; without damping, the same.
            is_first_step=False,
            found_inf=self._overflow,
        )

    def _adam(self, used: _Alike, gradients: list[Tensor], lr: float | Tensor) -> None:
        used.count()
        beta1, beta2 = self._settings.betas
        decoupled = self._settings.opt == "adamw"
        (fused_adamw if decoupled else fused_adam)(
            used.parameters,
            gradients,
            used.averages["mean"],
            used.averages["square"],
            [],
            used.steps,
            amsgrad=False,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=used.decay,
            eps=EPSILON,
            maximize=False,
            found_inf=self._overflow,
        )
        if self._overflow is not None:
            used.count(-self._overflow)

    def _rmsprop(self, used: _Alike, gradients: list[Tensor], lr: float | Tensor) -> None:
        rmsprop(
            used.parameters,
            gradients,
            used.averages["square"],
            [],
            used.averages.get("momentum", []),
            used.steps,
            lr=lr,  # type: ignore[arg-type]  # a tensor works too
            alpha=RMSPROP_DECAY,
            eps=EPSILON,
            weight_decay=used.decay,
            momentum=self._settings.momentum,
            centered=False,
            capturable=isinstance(lr, Tensor) and lr.is_cuda,
        )


def _groups(
    named: Mapping[str, Tensor],
    settings: TrainingSettings,
    decayed: Container[str],
    factors: Mapping[str, float],
) -> Iterator[_Alike]:
    kinds = {
        name: (p.dtype, p.device, settings.weight_decay if name in decayed else 0.0, factors[name])
        for name, p in named.items()
    }
    for kind in dict.fromkeys(kinds.values()):
        _, device, decay, factor = kind
        alike = {name: p for name, p in named.items() if kinds[name] == kind}
        parameters = list(alike.values())
        averages = {
            kind: [torch.zeros_like(p, memory_format=torch.preserve_format) for p in parameters]
            for kind in _averages_kept(settings)
        }
        counts = torch.zeros(len(alike), device=device)
        steps = list(counts.unbind())
        yield _Alike(list(alike), parameters, averages, counts, steps, decay, factor)


def _averages_kept(settings: TrainingSettings) -> tuple[str, ...]:
    momentum = ("momentum",) if settings.momentum else ()
    return {"sgd": momentum, "rmsprop": ("square", *momentum)}.get(settings.opt, ("mean", "square"))
