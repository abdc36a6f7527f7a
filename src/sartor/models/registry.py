"""Every network that has a name, and how to build one.

An entry is a function `build(*, input_shape, num_classes, ...)` that returns an `nn.Module`; what
else it takes are the model's own settings, each a keyword with annotation and default. Reading the
table imports no torch; resolving settings imports the file that has the function.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ModelError, RecipeError, SartorError, UsageError, unknown
from . import custom, libraries
from .settings import Setting, fitted, is_setting, with_tuples

if TYPE_CHECKING:
    from torch import nn


class Entry(NamedTuple):
    """One row of the table."""

    factory: str
    """module:function"""
    description: str
    """One line for those who choose."""


MODELS: Mapping[str, Entry] = {
    "convnet": Entry(
        "sartor.models.convnet:build",
        "small convolutional network that trains fast; for 28x28 to 64x64",
    ),
    "efficientnet-lite0": Entry(
        "sartor.models.efficientnet_lite:lite0", "pretrained on ImageNet; for photographs, 224x224"
    ),
    "efficientnet-lite1": Entry(
        "sartor.models.efficientnet_lite:lite1", "pretrained on ImageNet, larger; 240x240"
    ),
    "efficientnet-lite2": Entry(
        "sartor.models.efficientnet_lite:lite2", "pretrained on ImageNet, larger still; 260x260"
    ),
    "lenet": Entry(
        "sartor.models.lenet:build", "small convolutional network; good for 28x28 and below"
    ),
    "linear": Entry("sartor.models.linear:build", "logistic regression; the baseline to beat"),
    "mlp": Entry(
        "sartor.models.mlp:build", "multi-layer perceptron; ignores the position of pixels"
    ),
    "resnet8": Entry(
        "sartor.models.resnet:resnet8", "small residual network; for colour and larger images"
    ),
    "resnet14": Entry("sartor.models.resnet:resnet14", "the same with two blocks per stage"),
    "resnet20": Entry("sartor.models.resnet:resnet20", "the same with three blocks per stage"),
}

_SUPPLIED = ("input_shape", "num_classes", "in_channels")
"""Parameters whose value comes from the data."""


def names() -> tuple[str, ...]:
    """Every registered name, sorted."""
    return tuple(sorted(MODELS))


def resolve_kwargs(model: str, given: Mapping[str, object]) -> tuple[dict[str, Setting], list[str]]:
    """All settings of a model, defaults filled in and types coerced, and every problem found.

    A problem is a clause without full stop; an unknown model or a file that cannot be loaded is
    one. The settings are complete only where there are no problems. A default that is no
    `Setting`, such as None or a class, is left to the function itself.
    """
    try:
        factory = _factory_of(model)
    except SartorError as error:
        return {}, [str(error).rstrip(".")]
    return _resolve(model, factory, given)


def refuse_unknown(model: str) -> None:
    """Raise where a name can only be that of a registered network, and none has it.

    Raises:
        UsageError: it suggests the nearest name.
    """
    if model in MODELS or custom.is_custom(model) or libraries.is_library_model(model):
        return
    library, colon, name = model.partition(":")
    if colon and libraries.is_library_model(f"{library.lower()}:"):
        sentence = f'unknown model "{model}"; did you mean "{library.lower()}:{name}"?'
    else:
        sentence = unknown("model", model, MODELS)
    raise UsageError(
        sentence,
        "For your own network, give path/file.py:ClassName; for one of timm or torchvision, "
        "timm:NAME or torchvision:NAME.",
    )


def build_model(
    model: str,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    kwargs: Mapping[str, object],
) -> nn.Module:
    """A new network for images of (channels, height, width), its weights drawn at random.

    Raises:
        UsageError: no such model; as `RecipeError`, every problem of the settings.
        ModelError: it cannot be built.
    """
    if len(input_shape) != 3 or min(*input_shape, num_classes) < 1:
        raise ModelError(
            f"Cannot build a network for images of shape {tuple(input_shape)} and {num_classes} "
            "classes.",
            "Give (channels, height, width) and the number of classes, each at least 1.",
        )
    factory = _factory_of(model)
    channels, height, width = (int(length) for length in input_shape)
    supplied: dict[str, object] = {
        "input_shape": (channels, height, width),
        "num_classes": num_classes,
        "in_channels": channels,
    }
    wanted = {key: supplied[key] for key in _parameters_of(factory) if key in supplied}
    network = _call(model, factory, {**_checked(model, factory, kwargs), **wanted})
    from .lazy import materialise

    return materialise(network, (channels, height, width))


def refuse_larger(
    model: str,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    kwargs: Mapping[str, object],
    most: int,
    where: str,
) -> None:
    """Raise where a network of the registry has more numbers than the file of its weights has
    bytes: whoever wrote the settings, it is not built to see that they do not fit.

    Args:
        most: bytes of the file.
        where: the run or the bundle, for the message.

    Raises:
        ModelError: it has.
    """
    import torch

    if model not in MODELS:
        return
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            network = build_model(
                model, input_shape=input_shape, num_classes=num_classes, kwargs=kwargs
            )
        numbers = sum(one.numel() for one in (*network.parameters(), *network.buffers()))
    except (RuntimeError, NotImplementedError, ModelError):  # then building it says what is wrong
        return
    if numbers > most:
        raise ModelError(
            f"The network {model} of {where} would have {numbers:,} numbers, and the file of its "
            f"weights has {most:,} bytes.",
            "Its settings are not those that it was trained with: ask for another copy.",
        )


def _factory_of(model: str) -> Callable[..., object]:
    if custom.is_custom(model):
        return custom.load(model)
    if libraries.is_library_model(model):
        from .library_networks import factory_of

        return factory_of(model)
    refuse_unknown(model)
    module, _, function = MODELS[model].factory.partition(":")
    factory: Callable[..., object] = getattr(importlib.import_module(module), function)
    return factory


def _parameters_of(factory: Callable[..., object]) -> dict[str, Parameter]:
    """What can be given to a class or function by name, and its `**kwargs` if it has them."""
    from torch import nn

    if getattr(factory, "__init__", None) is nn.Module.__init__:
        return {}  # its signature claims **kwargs, which it then refuses
    try:
        signature = inspect.signature(factory, eval_str=True)
    except Exception:  # annotations that exist for type checkers only
        signature = inspect.signature(factory)
    positional = (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)
    return {key: one for key, one in signature.parameters.items() if one.kind not in positional}


def _resolve(
    model: str, factory: Callable[..., object], given: Mapping[str, object]
) -> tuple[dict[str, Setting], list[str]]:
    parameters = _parameters_of(factory)
    own = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD and key not in _SUPPLIED
    }
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())
    settings = {key: one.default for key, one in own.items() if is_setting(one.default)}
    missing = {key for key, one in own.items() if one.default is Parameter.empty} - set(given)
    problems = [f"{key} of {model} has no default and must be given" for key in sorted(missing)]
    for key, value in with_tuples(given).items():
        if key not in own and (key in _SUPPLIED or not takes_any):
            problems.append(_not_a_setting(model, key, own))
            continue
        try:
            settings[key] = fitted(value, own[key].annotation if key in own else None)
        except ValueError as error:
            problems.append(f"{key} of {model} {error}")
    return settings, problems


def _not_a_setting(model: str, key: str, own: Iterable[str]) -> str:
    if key in _SUPPLIED:
        return f"{key} of {model} comes from the data and cannot be set"
    if not own:
        return f'{model} has no settings, so "{key}" cannot be set'
    return unknown(f"setting of {model}", key, own)


def _checked(
    model: str, factory: Callable[..., object], given: Mapping[str, object]
) -> dict[str, Setting]:
    settings, problems = _resolve(model, factory, given)
    if problems:
        raise RecipeError(problems, "Correct the model's settings (model_kwargs).")
    return settings


def _call(model: str, factory: Callable[..., object], arguments: Mapping[str, object]) -> nn.Module:
    from torch import nn

    try:
        network = factory(**arguments)
    except SartorError:
        raise  # ours say what to do
    except Exception as error:
        place = custom.where(error, custom.split(model)[0]) if custom.is_custom(model) else ""
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ModelError(
            f'Model "{model}" cannot be built: {type(error).__name__}{place}: '
            f"{custom.reason_of(error)}.",
            f"It was called with ({shown}).",
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelError(
            f'Model "{model}" gave a {type(network).__name__}, not an nn.Module.',
            "Name a class derived from torch.nn.Module, or a function that returns a network.",
        )
    return network
