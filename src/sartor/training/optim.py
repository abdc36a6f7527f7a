"""Optimizers: the update rules of `torch.optim`, called through its functional form.

Same arithmetic, fewer costs: no import of the compiler (a second at the first step), no hooks and
parameter groups between the loop and the kernel, and a state that is nothing but named tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from .settings import TrainingSettings

_EPSILON = 1e-8
_RMSPROP_DECAY = 0.99


class Optimizer:
    """Updates a model's trainable parameters in place; everything it remembers is in `tensors`."""

    def __init__(self, model: nn.Module, settings: TrainingSettings) -> None:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters: list[Tensor] = list(named.values())
        self._names = list(named)
        self._settings = settings
        self._averages = {
            kind: [
                torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters
            ]
            for kind in _averages_kept(settings)
        }
        # One counter a parameter, a float on its device: the fused kernels want it so.
        self._steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state by name; a copy of it, loaded, makes an equal optimizer."""
        columns = {**self._averages, "steps": self._steps}
        return {
            f"{kind}.{name}": tensor
            for kind, tensors in columns.items()
            for name, tensor in zip(self._names, tensors, strict=True)
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the state of an optimizer of the same settings and parameters.

        Raises:
            ValueError: names or shapes differ.
        """
        own = self.tensors
        here = {(name, tensor.shape) for name, tensor in own.items()}
        there = {(name, tensor.shape) for name, tensor in tensors.items()}
        if here != there:
            raise ValueError(f"the optimizer's state differs in {min(here ^ there)[0]}")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update from the gradients; a parameter without a gradient stays as it is."""
        used = [
            index for index, parameter in enumerate(self.parameters) if parameter.grad is not None
        ]
        gradients = [g for index in used if (g := self.parameters[index].grad) is not None]
        parameters = [self.parameters[index] for index in used]
        averages = {kind: [kept[index] for index in used] for kind, kept in self._averages.items()}
        steps = [self._steps[index] for index in used]
        if self._settings.opt == "sgd":
            self._sgd(parameters, gradients, averages, lr)
        elif self._settings.opt == "rmsprop":
            self._rmsprop(parameters, gradients, averages, steps, lr)
        else:
            self._adam(parameters, gradients, averages, steps, lr)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def _sgd(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        averages: dict[str, list[Tensor]],
        lr: float,
    ) -> None:
        sgd(
            parameters,
            gradients,
            list(averages.get("momentum", [])) or [None] * len(parameters),
            fused=True,
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self._settings.nesterov,
            maximize=False,
        )

    def _adam(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        averages: dict[str, list[Tensor]],
        steps: list[Tensor],
        lr: float,
    ) -> None:
        beta1, beta2 = self._settings.betas
        adam(
            parameters,
            gradients,
            averages["mean"],
            averages["square"],
            [],
            steps,
            fused=True,
            decoupled_weight_decay=self._settings.opt == "adamw",
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=self._settings.weight_decay,
            eps=_EPSILON,
            maximize=False,
        )

    def _rmsprop(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        averages: dict[str, list[Tensor]],
        steps: list[Tensor],
        lr: float,
    ) -> None:
        rmsprop(
            parameters,
            gradients,
            averages["square"],
            [],
            averages.get("momentum", []),
            steps,
            lr=lr,
            alpha=_RMSPROP_DECAY,
            eps=_EPSILON,
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            centered=False,
        )


def _averages_kept(settings: TrainingSettings) -> tuple[str, ...]:
    momentum = ("momentum",) if settings.momentum else ()
    return {"sgd": momentum, "rmsprop": ("square", *momentum)}.get(settings.opt, ("mean", "square"))
