"""Weights from a file of the user's: .safetensors, or .pth and .pt, read as tensors and no code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CorruptDataError, UsageError
from ..files import explain_os_errors
from .custom import reason_of

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Where training scripts keep the weights in what they save."""


def is_weights_file(path: str) -> bool:
    """Whether a name is that of a file of weights."""
    return path.lower().endswith(SUFFIXES)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        UsageError: there is no such file. CorruptDataError: it is damaged, or would run code.
    """
    if not path.is_file():
        raise UsageError(
            f"There is no file of weights at {path}.",
            "Check the path; it is relative to the current folder.",
        )
    with explain_os_errors(f"read {path}"):
        content = _safetensors(path) if path.suffix.lower() == ".safetensors" else _pickled(path)
    tensors = {name: one for name, one in _inner(content).items() if isinstance(one, Tensor)}
    if not tensors:
        raise CorruptDataError(
            f"{path} holds no weights by name.", "Save a state dict: network.state_dict()."
        )
    return {str(name): tensor for name, tensor in tensors.items()}


def _safetensors(path: Path) -> Mapping[str, object]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CorruptDataError(
            f"{path} is not a whole safetensors file: {reason_of(error)}.",
            "Copy or fetch it again.",
        ) from error


def _pickled(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what else may be in a file that is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CorruptDataError(
            f"{path} holds more than weights, or is damaged; reading it could run code.",
            "Save only its state dict, preferably as .safetensors.",
        ) from error
    except (MemoryError, OSError):
        raise
    except Exception as error:  # its reader trusts the order of what it reads
        raise CorruptDataError(
            f"{path} is not a whole file of weights: {reason_of(error).partition('. ')[0][:100]}.",
            "Copy or fetch it again.",
        ) from error


def _inner(content: object) -> Mapping[str, object]:
    """The state dict in what a training script saved."""
    for _ in _NESTED:
        if not isinstance(content, Mapping):
            return {}
        inner = (content.get(key) for key in _NESTED)
        nested = next((one for one in inner if isinstance(one, Mapping)), None)
        if nested is None:
            return content
        content = nested
    return content if isinstance(content, Mapping) else {}
