"""How the machine is used: threads, the layout of images in memory, precision.

Tiny numbers are not flushed to zero: PyTorch sets that per thread, so the bits would depend on
which threads of the process are older than the setting.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ...device import choose_device, is_present
from ..seeding import random_numbers_kept
from ..settings import ResolvedTraining, TrainingSettings
from ..torch_internals import cpu_multiplies_bfloat16
from . import kernels
from .direct import chain_of

_COMPILERS = ("g++", "clang++", "c++", "cl")


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """One way to use the machine; each field is a resolved setting of the same name."""

    memory_format: str
    amp_dtype: str
    threads: int
    engine: str

    @classmethod
    def from_settings(cls, plan: Mapping[str, str | int]) -> ExecutionPlan:
        """The plan with these settings, by their names."""
        return cls(
            memory_format=str(plan["memory_format"]),
            amp_dtype=str(plan["amp_dtype"]),
            threads=int(plan["threads"]),
            engine=str(plan["engine"]),
        )

    @classmethod
    def of(cls, settings: ResolvedTraining) -> ExecutionPlan:
        """The plan that resolved settings name."""
        return cls(
            memory_format=settings.memory_format,
            amp_dtype=settings.amp_dtype,
            threads=settings.threads,
            engine=settings.engine,
        )


def chosen_memory_format(wish: str, model: nn.Module) -> str:
    """For "auto": channels-last for convolutions, whose kernels and pooling like it best."""
    if wish != "auto":
        return wish
    return "channels-last" if has_convolutions(model) else "contiguous"


def has_convolutions(model: nn.Module) -> bool:
    """Whether the layout of images matters to a model."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def chosen_threads(wish: int | None) -> int:
    """As many as PyTorch would use, which honours OMP_NUM_THREADS, unless told otherwise."""
    return wish or torch.get_num_threads()


def chosen_precision(wish: str, device: str) -> str:
    """For "auto", as long as nothing was measured: bfloat16 where the device multiplies it."""
    if wish != "auto":
        return wish
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device has instructions for products of bfloat16, not only conversions."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and cpu_multiplies_bfloat16()


def chosen_engine(settings: TrainingSettings, model: nn.Module) -> str:
    """For "auto", as long as nothing was measured: direct for the networks that it supports."""
    if settings.engine != "auto":
        return settings.engine
    return "plain" if chain_of(model, settings) is None else "direct"


def problems(settings: TrainingSettings, device: str) -> list[str]:
    """Why the settings cannot be used on a device of this machine."""
    found = [problem(settings.engine, device)]
    if settings.amp_dtype == "float16" and device != "cuda":
        found.append(f"amp_dtype float16 is for cuda; on {device}, use bfloat16")
    return [sentence for sentence in found if sentence]


def problem(engine: str, device: str) -> str | None:
    """Why an engine cannot work on a device of this machine."""
    if engine in ("direct", "onednn") and device != "cpu":
        return f"engine {engine} runs on the CPU, not on {device}"
    if engine == "onednn" and not kernels.available():
        return "engine onednn needs a build of PyTorch with oneDNN"
    if engine == "graph" and device != "cuda":
        return f"engine graph is a CUDA graph, and the device is {device}"
    if engine == "compiled" and device == "mps":
        return "engine compiled is for cpu and cuda"
    if engine == "compiled" and device == "cpu" and not _has_compiler():
        return "engine compiled needs a C++ compiler such as g++, and none was found"
    return None


def changes_to_run_here(settings: ResolvedTraining, device: str | None = None) -> dict[str, str]:
    """What must change of a training that was made for another machine so that this one runs it.

    Args:
        device: the one that is asked for; by default the training's, or what is there instead.

    Raises:
        UsageError: this machine does not have the device that is asked for.
    """
    here = device or (settings.device if is_present(settings.device) else "auto")
    wanted = {"device": choose_device(here)}
    if settings.amp_dtype == "float16" and wanted["device"] != "cuda":
        wanted["amp_dtype"] = "float32"
    if problem(settings.engine, wanted["device"]):
        wanted["engine"] = "plain"
    return {name: value for name, value in wanted.items() if value != getattr(settings, name)}


def _has_compiler() -> bool:
    names = (os.environ.get("CXX", ""), *_COMPILERS)
    return any(name and shutil.which(name) for name in names)


def torch_memory_format(name: str) -> torch.memory_format:
    """PyTorch's constant for a resolved memory format."""
    return torch.channels_last if name == "channels-last" else torch.contiguous_format


def laid_out(model: nn.Module, memory_format: str) -> nn.Module:
    """The model itself, its weights in that layout, whatever their layout was before."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not is_lazy(tensor) and tensor.ndim == 4:
            # Through the plain layout, for the strides of a side of length 1 tell kernels apart.
            plain = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
            if tensor.stride() != plain.stride():
                tensor.data = plain.copy_(tensor.data)
    if memory_format == "channels-last":
        # The stubs of nn.Module.to do not know its keyword memory_format.
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return model


@contextmanager
def tuned(settings: ResolvedTraining, model: nn.Module | None = None) -> Iterator[None]:
    """Use the machine as the resolved settings say; afterwards all is as it was, the model too."""
    with (
        threads_of(settings),
        torch.random.fork_rng(devices=_used_gpus(settings)),
        random_numbers_kept(),
    ):
        if model is not None:
            take_kernels(settings, model)
        try:
            yield
        finally:
            if model is not None:
                kernels.remove_from(model)


@contextmanager
def threads_of(settings: ResolvedTraining) -> Iterator[None]:
    """Use as many threads as the resolved settings say."""
    before = torch.get_num_threads()
    if settings.threads == before:
        yield
        return
    torch.set_num_threads(settings.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_kernels(settings: ResolvedTraining, model: nn.Module) -> None:
    """Let a model compute by the kernels that the resolved settings name."""
    if settings.engine == "onednn":
        kernels.apply_to(model, settings.batch_size)


def _used_gpus(settings: TrainingSettings) -> list[int]:
    return [torch.cuda.current_device()] if settings.device == "cuda" else []
