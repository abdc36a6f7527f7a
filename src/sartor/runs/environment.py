"""What a run was made with: versions, machine, commit."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import distributed, native_module

_PACKAGES = ("sartor", "torch", "numpy", "pillow", "safetensors")
_DECIDING_PACKAGES = ("sartor", "torch", "numpy")
_DECIDING_VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *(
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "MKL_CBWR",
        "MKL_ENABLE_INSTRUCTIONS",
        "MKL_DYNAMIC",
        "OMP_DYNAMIC",
    ),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""Environment variables by which libraries choose their kernels, and so the order of additions."""


def describe_environment() -> dict[str, Any]:
    """Versions, machine and commit, for environment.json."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "arithmetic": _arithmetic(),
        "commit": _commit(Path(__file__).parent),
        "command": sys.argv,
        **distributed.description(),
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two environments and may change bits, such as "torch 2.9 (was 2.8)".

    What one of them does not say is not compared: older versions wrote down less.
    """
    was, here = _deciding(then), _deciding(now)
    return [
        f"{name} {here[name] or 'none'} (was {was[name] or 'none'})"
        for name in here
        if name in was and was[name] != here[name]
    ]


def _deciding(environment: Mapping[str, Any]) -> dict[str, str]:
    """What decides the bits of a result, by name."""
    packages, arithmetic = environment.get("packages"), environment.get("arithmetic")
    found: dict[str, Any] = {}
    if isinstance(packages, dict):
        found |= {name: packages[name] for name in _DECIDING_PACKAGES if name in packages}
    if isinstance(environment.get("python"), str):
        # From one to the next the sum of floats has changed.
        found["Python"] = ".".join(environment["python"].split(".")[:2])
    if "processor" in environment:
        found["processor"] = environment["processor"]
    if isinstance(arithmetic, dict):
        variables = arithmetic.get("variables")
        found |= {name: value for name, value in arithmetic.items() if name != "variables"}
        if isinstance(variables, dict):
            found |= {name: variables.get(name) for name in _DECIDING_VARIABLES}
    return {name: "" if value is None else str(value) for name, value in found.items()}


def _arithmetic() -> dict[str, Any]:
    """What the libraries compute with here."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "kernels of the engine native": native_module.describe().get("chosen"),
        "GPU": torch.cuda.get_device_name() if gpu else None,
        "CUDA": torch.version.cuda if gpu else None,
        "cuDNN": torch.backends.cudnn.version() if gpu else None,  # type: ignore[no-untyped-call]
        "variables": {name: os.environ[name] for name in _DECIDING_VARIABLES if name in os.environ},
    }


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def exact_processor() -> str:
    """The name, and what tells apart processors that a virtual machine gives the same name."""
    facts = _cpuinfo()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{processor()} ({', '.join(numbers)})" if numbers else processor()


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """What the system says of the first core; nothing where it is not Linux."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


@functools.cache
def _commit(folder: Path) -> str | None:
    """The commit of sartor's own source, where it runs from a checkout; asked for once, for what
    this process has imported stays."""
    if not any((parent / ".git").exists() for parent in list(folder.parents)[:3]):
        return None
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
