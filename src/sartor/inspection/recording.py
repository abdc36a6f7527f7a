"""What happens inside a network while a batch passes through it.

A module in which no other is called is one call; so is a function of torch between modules, such
as `F.relu` or `x.view` in a network's own `forward`. Functions inside such a module are its own
business and are not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from ..models.summary import tensors_in

# They change where or how numbers lie in memory, not what they are.
_SILENT = {"clone", "contiguous", "cpu", "cuda", "float", "to", "type", "type_as"}
_PROPERTIES = {"H", "T", "mH", "mT"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """One call of a module or of a function between modules; tensors lie on the processor."""

    name: str
    operation: str
    """The module's class, or the function's name."""
    input: Tensor | None
    """The first tensor that went in and stems from the images, as it was then."""
    output: Tensor
    """The first tensor that came out, as it was then, even if it was changed in place later."""
    parameters: dict[str, str]
    """Names in the network by their role here: {"weight": "conv1.weight", ...}."""
    weight: Tensor | None
    """What a linear layer or a convolution multiplies by, also where it is computed."""
    bias: Tensor | None
    gradients: list[Tensor] = field(default_factory=list)
    """Of the loss with respect to the output; filled by the backward pass."""


@dataclass
class _Frame:
    """A module's call that has not returned yet."""

    module: nn.Module
    input: Tensor | None
    opaque: bool
    """What happens inside is not looked at."""
    calls: list[Call] = field(default_factory=list)
    calls_others: bool = False


class Recording(TorchFunctionMode):
    """Hooks on every module and an ear for every function of torch: `calls`, in their order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._parameters = {id(one): name for name, one in model.named_parameters()}
        self._inside: list[_Frame] = []
        """Outermost first."""
        self._calls: list[Call] = []
        self._listening = True
        # By their ids: tensors that stem from the images, at what version, and a copy of that.
        # They are kept, so that no other tensor can get the same id.
        self._seen: dict[int, tuple[Tensor, int, Tensor | None]] = {}

    @property
    def calls(self) -> list[Call]:
        """Each under a name of its own: the second call of `relu` is `relu#2`."""
        counts: Counter[str] = Counter()
        named = []
        for call in self._calls:
            counts[call.name] += 1
            number = counts[call.name]
            named.append(replace(call, name=f"{call.name}#{number}") if number > 1 else call)
        return named

    @contextmanager
    def running(self) -> Iterator[Recording]:
        """Listen to what is called inside."""
        handles: list[RemovableHandle] = []
        try:
            for module in self._heard():
                handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
            with self:
                yield self
        finally:
            for handle in handles:
                handle.remove()
            self._seen.clear()

    def _heard(self) -> list[nn.Module]:
        """All but what computes a weight, as in weight normalisation: no image goes through it."""
        return [one for one, name in self._names.items() if "parametrizations" not in name]

    def place(self) -> str:
        """The innermost module being called, as a part of a sentence; empty for the network."""
        name = self._names[self._inside[-1].module] if self._inside else ""
        return f' in layer "{name}" ({type(self._inside[-1].module).__name__})' if name else ""

    @property
    def in_forward(self) -> bool:
        """Whether the network is being called."""
        return bool(self._inside)

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        with self._deaf():
            if self._inside:
                self._inside[-1].calls_others = True
            else:
                self._mark(tensors_in((args, kwargs)))
            childless = next(module.children(), None) is None
            opaque = childless and (bool(self._inside) or _is_from_torch(module))
            self._inside.append(_Frame(module, self._kept_input((args, kwargs)), opaque))

    def _leave(self, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        with self._deaf():
            frame = self._inside.pop()
            shown = frame.calls_others or (not self._inside and not _is_from_torch(module))
            calls = frame.calls if shown and frame.calls else [self._module_call(frame, output)]
            above = self._inside[-1].calls if self._inside else self._calls
            above += [call for call in calls if call is not None]
            self._mark(tensors_in(output))

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not (self._inside and self._listening):
            return func(*args, **kwargs)
        flowing = any(id(one) in self._seen for one in tensors_in((args, kwargs)))
        name = _function_name(func) if flowing and not self._inside[-1].opaque else ""
        before = self._kept_input((args, kwargs)) if name else None
        result = func(*args, **kwargs)
        if name:
            self._add_function_call(name, before, args, kwargs, result)
        if flowing:
            self._mark(tensors_in(result))
        return result

    def _module_call(self, frame: _Frame, output: Any) -> Call | None:
        module = frame.module
        weight, bias = (getattr(module, role, None) for role in ("weight", "bias"))
        return self._call(
            name=self._names[module] or type(module).__name__,
            operation=type(module).__name__,
            before=frame.input,
            output=output,
            parameters={
                role: self._parameters[id(one)]
                for role, one in module.named_parameters()
                if id(one) in self._parameters
            },
            weight=weight,
            bias=bias,
        )

    def _add_function_call(
        self, name: str, before: Tensor | None, args: Any, kwargs: Any, result: Any
    ) -> None:
        container = self._names[self._inside[-1].module]
        given = [("", one) for one in args] + list(kwargs.items())
        parameters: dict[str, str] = {}
        values: dict[str, Tensor] = {}
        for key, one in given:
            if id(one) in self._parameters:
                role = key or ("bias" if one.ndim < 2 or "weight" in parameters else "weight")
                parameters[role] = self._parameters[id(one)]
                values[role] = one
        call = self._call(
            name=f"{container}.{name}" if container else name,
            operation=name,
            before=before,
            output=result,
            parameters=parameters,
            weight=values.get("weight"),
            bias=values.get("bias"),
        )
        if call is not None:
            self._inside[-1].calls.append(call)

    def _call(
        self,
        *,
        name: str,
        operation: str,
        before: Tensor | None,
        output: Any,
        parameters: dict[str, str],
        weight: Any,
        bias: Any,
    ) -> Call | None:
        first = next((one for one in tensors_in(output) if one.is_floating_point()), None)
        if first is None or not first.numel():
            return None
        call = Call(
            name=name,
            operation=operation,
            input=before,
            output=self._kept(first),
            parameters=parameters,
            weight=_copied(weight) if isinstance(weight, Tensor) else None,
            bias=_copied(bias) if isinstance(bias, Tensor) else None,
        )
        if first.requires_grad:
            # Now: later it may be changed in place, and the gradient would be that of the change.
            keep = lambda gradient: call.gradients.append(_copied(gradient))  # noqa: E731
            first.register_hook(keep)  # type: ignore[no-untyped-call]
        return call

    def _kept_input(self, values: Any) -> Tensor | None:
        first = next((one for one in tensors_in(values) if id(one) in self._seen), None)
        return None if first is None else self._kept(first)

    def _kept(self, tensor: Tensor) -> Tensor:
        """A copy of its present values, the same one as long as they do not change."""
        _, version, copy = self._seen.get(id(tensor), (tensor, -1, None))
        if copy is None or version != _version(tensor):
            copy = _copied(tensor)
            self._seen[id(tensor)] = (tensor, _version(tensor), copy)
        return copy

    def _mark(self, tensors: Iterable[Tensor]) -> None:
        for one in tensors:
            self._seen.setdefault(id(one), (one, -1, None))

    @contextmanager
    def _deaf(self) -> Iterator[None]:
        """Inside, functions of torch are our own."""
        listening, self._listening = self._listening, False
        try:
            yield
        finally:
            self._listening = listening


def _function_name(func: Any) -> str:
    """What to call it; empty for one that is not worth showing."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(func.__self__, "__name__", "")
        return name if name in _PROPERTIES else ""
    name = name.strip("_") + ("_" if name.endswith("_") and not name.endswith("__") else "")
    return "" if name in _SILENT else name


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _is_from_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")
