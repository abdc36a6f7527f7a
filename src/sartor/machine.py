"""What this machine has, cores and memory, and how busy it is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cores() -> int:
    """The cores that this process may use: of the machine, its affinity and its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = core_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def core_quota(root: Path = Path("/")) -> float | None:
    """How many cores' worth of time the control groups of this process allow; None for no limit.

    A container sees all cores of its host; what it may use of them is only written here.

    Args:
        root: below which `proc` and `sys` lie.
    """
    quotas = [quota for folder in _control_groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, and of those around them."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree, version 1 one for each set of controllers.
        for mount in (mounts / controllers, mounts / "cpu") if controllers else (mounts,):
            folder = mount / path.strip("/")
            # In a container the path may be the host's, where only the mount is its own.
            for inside in (folder, *folder.parents):
                if inside.is_relative_to(mount):
                    yield inside


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        # "max" and -1 are no limit.
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def total_memory() -> int:
    """Bytes of main memory; 0 where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if os.name == "posix" else 0


def available_memory() -> int:
    """Bytes that programs could take without any being written out; 0 where nothing says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return total_memory()


def involuntary_switches() -> int:
    """How often a thread of this process lost its core before it gave it up, to another program or
    to another of its own threads; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def seconds_of_others(root: Path = Path("/")) -> float | None:
    """Processor seconds that all but this process have had since the start of the machine.

    Of the cores that this process may use; a hypervisor's other guests count as well. A difference
    of two calls is exact to a few hundredths. None where the system does not say.
    """
    try:
        lines = (root / "proc/stat").read_text().splitlines()
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
        used = 0
        for line in lines:
            name, *counts = line.split()
            if name in cores:
                user, nice, system, _idle, _waiting, hard, soft, stolen = map(int, counts[:8])
                used += user + nice + system + hard + soft + stolen
    except (OSError, ValueError, AttributeError):
        return None
    own = os.times()
    return used / ticks - own.user - own.system
