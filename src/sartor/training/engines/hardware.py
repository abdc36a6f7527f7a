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

from ... import native_module
from ...device import choose_device, is_present
from ...device import torch_memory_format as torch_memory_format
from ...distributed import member, processes
from ...errors import RecipeError
from ...inference.chain import Shape, described
from ...machine import available_cores
from ...torch_internals import cpu_multiplies_bfloat16
from ..seeding import random_numbers_kept
from ..settings import BFLOAT16_INSTRUCTIONS, RETIRED_ENGINES, ResolvedTraining, TrainingSettings
from . import native

ENGINES_TOGETHER = ("plain", "native")
"""What several processes can train with: engines that leave gradients to be added up."""
_NARROW = 48
"""Output channels of convolutions up to which native is always faster: with two such stages it was,
in float32, 1.6 times as fast as bfloat16 in PyTorch (AVX-512), with 64 channels about as fast."""
_SMALL_SIDE = 32
"""Pixels of an image's side up to which that was measured; larger ones leave the caches."""
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


def chosen(
    settings: TrainingSettings, model: nn.Module, input_shape: Shape, num_classes: int
) -> dict[str, str | int]:
    """The resolved settings of the same names, as long as nothing was measured.

    Raises:
        RecipeError: they ask for a memory format in which PyTorch computes the network wrongly.
    """
    engine = "plain" if settings.engine in RETIRED_ENGINES else settings.engine
    if engine == "auto":
        against = native.reason_against(settings, model, input_shape, num_classes)
        engine = "native" if against is None else "plain"
    if engine == "native":
        narrow = _is_narrow(settings)
        return {
            "engine": engine,
            "instructions": _chosen_instructions(settings, narrow=narrow),
            "amp_dtype": "bfloat16" if narrow else "float32",
            "memory_format": "contiguous",
        }
    against = against_channels_last(model, settings.device)
    if settings.memory_format == "channels-last" and against is not None:
        raise RecipeError([f"memory_format channels-last: {against}"], "Leave --memory-format out.")
    return {
        "engine": engine,
        "instructions": _chosen_instructions(settings, narrow=False),
        "amp_dtype": chosen_precision(settings.amp_dtype, settings.device),
        "memory_format": "contiguous"
        if against is not None
        else chosen_memory_format(settings.memory_format, model),
    }


def _is_narrow(settings: TrainingSettings) -> bool:
    """Whether the engine native computes in bfloat16, as long as nothing was measured."""
    asked = settings.instructions in BFLOAT16_INSTRUCTIONS
    return settings.amp_dtype == "bfloat16" or (settings.amp_dtype == "auto" and asked)


def instructions_for(plan: ExecutionPlan, present: str) -> str:
    """The instructions of a plan: the present ones, where they serve its precision."""
    if plan.engine != "native":
        return present
    sets = _sets(narrow=plan.amp_dtype == "bfloat16")
    return present if present in sets or not sets else sets[-1]


def _sets(*, narrow: bool) -> tuple[str, ...]:
    return native_module.bfloat16_sets() if narrow else native_module.instruction_sets()


def _chosen_instructions(settings: TrainingSettings, *, narrow: bool) -> str:
    """For "auto": the widest that are here, if there is an engine to use them."""
    sets = _sets(narrow=narrow)
    return sets[-1] if settings.instructions == "auto" and sets else settings.instructions


def chosen_memory_format(wish: str, model: nn.Module) -> str:
    """For "auto": channels-last for convolutions, whose kernels in PyTorch like it best."""
    if wish != "auto":
        return wish
    return "channels-last" if has_convolutions(model) else "contiguous"


def against_channels_last(model: nn.Module, device: str) -> str | None:
    """Why a network is not laid out channels-last on a device, in a clause; None if it may be.

    On the processor PyTorch 2.13 computes some convolutions of one channel wrongly in that layout,
    and writes beyond their output: those whose output is one pixel wide, with a stride of 1 down
    and more across (from random shapes, compared with float64). The rule asks only for what the
    layer itself says, not how wide its input is.
    """
    if device != "cpu":
        return None
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels // layer.groups == 1:
            down, across = layer.stride
            if down < across:
                return (
                    "PyTorch computes convolutions of one channel with stride "
                    f"({down}, {across}) wrongly in it, here {described(name, layer)}"
                )
    return None


def is_clearly_native(model: nn.Module, input_shape: Shape, instructions: str) -> bool:
    """Whether native is faster than PyTorch in any precision, so that PyTorch need not be measured:
    convolutions of few channels, on small images."""
    widths = [one.out_channels for one in model.modules() if isinstance(one, nn.Conv2d)]
    small = max(input_shape[1:]) <= _SMALL_SIDE
    return bool(widths) and max(widths) <= _NARROW and small and instructions != "generic"


def has_convolutions(model: nn.Module) -> bool:
    """Whether the layout of images matters to a model."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def chosen_threads(wish: int | None) -> int:
    """As many as PyTorch would use, which honours OMP_NUM_THREADS, unless told otherwise.

    Of several processes on one machine each takes its share of the cores: torchrun sets
    OMP_NUM_THREADS to 1 where it is not set, which would leave some idle.
    """
    here = member()
    if wish is None and here is not None and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        return max(1, available_cores() // here.local_size)
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


def problems(settings: TrainingSettings, device: str) -> list[str]:
    """Why the settings cannot be used on a device of this machine."""
    found = [problem(settings.engine, device, settings.amp_dtype)]
    sets = ("auto", *native_module.instruction_sets(), *native_module.bfloat16_sets())
    if settings.engine in ("auto", "native") and settings.instructions not in sets:
        found.append(
            f"instructions {settings.instructions} are not available, only {', '.join(sets)}"
        )
    if settings.amp_dtype == "float16" and device != "cuda":
        found.append(f"amp_dtype float16 is for cuda; on {device}, use bfloat16")
    found += _problems_of_several(settings, device)
    return [sentence for sentence in found if sentence]


def _problems_of_several(settings: TrainingSettings, device: str) -> list[str]:
    """Why several processes cannot train with the settings."""
    here = member()
    if here is None:
        return []
    found = []
    if settings.batch_size != "all" and settings.batch_size < here.size:
        found.append(
            f"batch_size {settings.batch_size} leaves some of {here.size} processes without an "
            f"image; it counts the images of all of them"
        )
    if device == "mps":
        found.append("several processes train on cpu or cuda, not on mps")
    if device == "cuda" and here.local_size > torch.cuda.device_count():
        found.append(
            f"{here.local_size} processes on this machine have {torch.cuda.device_count()} GPUs; "
            "each needs its own"
        )
    return found


def problem(engine: str, device: str, amp_dtype: str = "float32") -> str | None:
    """Why an engine cannot work in a precision on a device of this machine."""
    if processes() > 1 and engine not in (*ENGINES_TOGETHER, "auto"):
        return f"engine {engine} trains in one process, and these are {processes()}"
    if engine == "native" and device != "cpu":
        return f"engine native runs on the CPU, not on {device}"
    if engine == "native" and native_module.missing():
        return f"engine native is not available: {native_module.missing()}"
    if engine == "native" and amp_dtype == "bfloat16" and not native_module.bfloat16_sets():
        return "engine native does not multiply bfloat16 on this processor"
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
    against = problem(settings.engine, wanted["device"], settings.amp_dtype)
    if settings.engine in RETIRED_ENGINES or against:
        wanted["engine"] = "plain"
    elif settings.engine == "native":
        sets = _sets(narrow=settings.amp_dtype == "bfloat16")
        if settings.instructions not in sets:
            wanted["instructions"] = sets[-1]
    return {name: value for name, value in wanted.items() if value != getattr(settings, name)}


def _has_compiler() -> bool:
    names = (os.environ.get("CXX", ""), *_COMPILERS)
    return any(name and shutil.which(name) for name in names)


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
def tuned(settings: ResolvedTraining) -> Iterator[None]:
    """Use the machine as the resolved settings say; afterwards all is as it was."""
    with (
        threads_of(settings),
        torch.random.fork_rng(devices=_used_gpus(settings)),
        random_numbers_kept(),
    ):
        yield


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


def _used_gpus(settings: TrainingSettings) -> list[int]:
    return [torch.cuda.current_device()] if settings.device == "cuda" else []
