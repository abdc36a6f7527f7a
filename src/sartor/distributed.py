"""One of several processes: what its launcher says of it, and what all of them tell each other.

Only this module asks for the rank. Processes talk in two ways: by messages, which lie in a store
that all of them reach and wait as long as they have to, and by sums over tensors, in which all of
them take part at the same moment of the training.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import shared_memory
from .errors import TrainingError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

    from ._native import SharedMemory
    from .arrays import Float32Array, Float64Array, UInt8Array

SUMS = ("ordered", "fast")
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MEETING_POINT = ("MASTER_ADDR", "MASTER_PORT")
_TO_MEET = ("SARTOR_SECONDS_TO_MEET", 300)
"""How long processes are waited for that were not started yet."""
_TO_ANSWER = ("SARTOR_SECONDS_TO_ANSWER", 600)
"""How long one is waited for that is silent in the middle of a sum."""
_SECONDS_TO_LEAVE = 5.0
_POLL_SECONDS = 0.05
_FEW_BYTES = 1 << 16
"""So small a tensor is sent whole to everybody: one exchange takes less time than two."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """Which of several processes this is."""

    rank: int
    size: int
    """How many there are, on all machines."""
    local_rank: int
    local_size: int
    """How many there are on this machine."""

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes and prints."""
        return self.rank == 0


def member() -> Member | None:
    """Which of several processes this is; None for one that is alone.

    Raises:
        UsageError: the environment says one thing without the others.
    """
    said = {name: os.environ[name] for name in _NUMBERS if os.environ.get(name)}
    if not {"RANK", "WORLD_SIZE"} & set(said):
        return None
    numbers = {name: _number(name, text) for name, text in said.items()}
    for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if name not in numbers:
            raise UsageError(
                f"The environment has {other} but not {name}, so this process does not know "
                "whether it is one of several.",
                f"Start the processes with torchrun, or unset {other} to train in one.",
            )
    rank, size = numbers["RANK"], numbers["WORLD_SIZE"]
    if not 0 <= rank < size:
        raise UsageError(
            f"The environment says RANK={rank} of WORLD_SIZE={size} processes.",
            "Ranks count from 0. Start the processes with torchrun, which sets both.",
        )
    if size == 1:
        return None
    missing = [name for name in _MEETING_POINT if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"This is process {rank} of {size}, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set, so it cannot meet the others.",
            "Start the processes with torchrun, or unset RANK and WORLD_SIZE to train in one.",
        )
    return Member(
        rank=rank,
        size=size,
        local_rank=numbers.get("LOCAL_RANK", 0),
        local_size=numbers.get("LOCAL_WORLD_SIZE", 1),
    )


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f'The environment says {name}="{text}", which is not a whole number.',
            "Start the processes with torchrun, or unset it to train in one.",
        ) from None


def _seconds(name: str, default: int) -> int:
    """A number of seconds that the environment may say.

    Raises:
        UsageError: it says something else.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not int(text):
        raise UsageError(
            f'The environment says {name}="{text}", which is not a number of seconds.',
            f"Give a whole number, or unset it for {default}.",
        )
    return int(text)


def processes() -> int:
    """How many processes train together."""
    here = member()
    return here.size if here else 1


def follows() -> bool:
    """Whether another process is the first of those that train together.

    Raises:
        UsageError: as `member`.
    """
    here = member()
    return here is not None and not here.leads


def launch() -> str:
    """What the launcher calls all that it starts again and again; "" without a launcher.

    The same for a process that takes the place of one that died.
    """
    identity = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if identity in ("", "none"):
        # Launchers on one machine need no name; theirs is that of the parent process.
        started = os.environ.get("TORCHELASTIC_RESTART_COUNT")
        return "" if started is None else f"{socket.gethostname()}:{os.getppid()}"
    return identity


def has_name() -> bool:
    """Whether somebody named the launch, so that a later one of that name is the same training."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "none") != "none"


def restarts() -> int:
    """How often the launcher has started all processes again."""
    text = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(text) if text.isdecimal() else 0


_fits = 0


def count_fit() -> int:
    """How many trainings this process has begun, this one included."""
    global _fits
    _fits += 1
    return _fits


def description() -> dict[str, Any]:
    """What a run keeps of the processes that train it; nothing for one without a launcher."""
    count, name = processes(), launch()
    if count == 1 and not name:
        return {}
    return {"processes": {"count": count, "launch": name, "fit": _fits}}


class Team:
    """The processes that train together, as one of them sees them."""

    def __init__(self, here: Member, store: Store) -> None:
        self.rank, self.size = here.rank, here.size
        self.local_rank, self.local_size = here.local_rank, here.local_size
        self._store = store
        self._messages = 0
        self._calls = 0
        self._is_open = False
        self._memory: SharedMemory | None = None
        self._kept: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def arrive(self) -> None:
        """Let the first process know that this one is there."""
        self._put(f"here/{self.rank}", socket.gethostname())

    def meet(self) -> None:
        """Wait until all are there; for the first process.

        Raises:
            TrainingError: one does not come.
        """
        seconds = _seconds(*_TO_MEET)
        ends = time.monotonic() + seconds
        for rank in range(1, self.size):
            if self._wait_for(f"here/{rank}", max(0.0, ends - time.monotonic())) is None:
                raise TrainingError(
                    f"Process {rank} of {self.size} did not come within {seconds} seconds.",
                    "Was it started, on its machine, and can that reach this one?",
                )

    # Messages: from the first process to all others, and answers from each of them.

    def post(self, **message: Any) -> None:
        """Tell all others something; for the first process."""
        self._messages += 1
        self._put(f"message/{self._messages}", message)

    def next_message(self, patience: float | None = None) -> dict[str, Any]:
        """Wait for what the first process says next, however long that takes.

        Raises:
            TrainingError: it is silent for so many seconds, or out of reach.
        """
        found: dict[str, Any] | None = self._wait_for(f"message/{self._messages + 1}", patience)
        if found is None:
            raise TrainingError(
                "The first process is silent.",
                "Look at what it printed; start all processes again to go on from the checkpoint.",
            )
        self._messages += 1
        return found

    def answer(self, **answer: Any) -> None:
        """Answer the last message."""
        self._put(f"answer/{self._messages}/{self.rank}", answer)

    def answers(self, patience: float | None = None) -> dict[int, dict[str, Any]]:
        """What the others answer to the last message, by rank; waits for all of them.

        Args:
            patience: seconds after which those that are silent are left out.
        """
        found, ends = {}, None if patience is None else time.monotonic() + patience
        for rank in range(1, self.size):
            left = None if ends is None else max(0.0, ends - time.monotonic())
            answer = self._wait_for(f"answer/{self._messages}/{rank}", left)
            if answer is not None:
                found[rank] = answer
        return found

    def _put(self, key: str, value: Any) -> None:
        with _explained("tell the other processes something"):
            self._store.set(key, json.dumps(value))

    def _wait_for(self, key: str, patience: float | None = None) -> Any:
        ends = None if patience is None else time.monotonic() + patience
        pause = _POLL_SECONDS / 10
        with _explained("reach the other processes"):
            # Not `Store.wait`, in which a signal is only seen when it is over.
            while not self._store.check([key]):
                if ends is not None and time.monotonic() >= ends:
                    return None
                time.sleep(pause)
                pause = min(_POLL_SECONDS * max(1, self.size // 16), pause * 1.5)
            return json.loads(self._store.get(key))

    # Sums: all processes take part in each, in the same order.

    def open(self, device: str) -> None:
        """Begin to compute together."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        self._calls += 1
        if device == "cuda":
            torch.cuda.set_device(self.local_rank)
        with _explained("meet the other processes"):
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
                store=PrefixStore(f"group/{self._calls}", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=_seconds(*_TO_ANSWER)),
            )
        self._is_open = True
        if device == "cpu" and self.local_size == self.size:
            self._memory = self._shared_memory()

    def close(self) -> None:
        """End it."""
        import torch.distributed as dist

        self._kept.clear()
        if self._memory is not None:
            self._memory.leave()
            self._memory = None
        if self._is_open:
            self._is_open = False
            with suppress(RuntimeError):  # another process may have gone
                dist.destroy_process_group()

    def add_up(self, values: Tensor, how: str = "ordered") -> Tensor:
        """The sum over all processes of a tensor (M,), in its place; at all of them the same.

        Args:
            how: ordered, so that the bits depend on nothing but the values: the first process's
                plus the second's and so on; fast, as the library does it.
        """
        import torch
        import torch.distributed as dist

        with self.adding_up():
            if self._memory is not None and values.dtype == torch.float32:
                self._memory.add_up(values.numpy())
            elif self._memory is not None:
                _add_in_order(self._gathered(values), values)
            elif how == "fast":
                dist.all_reduce(values)
            elif self.size == 2 or values.numel() * values.element_size() <= _FEW_BYTES:
                _add_in_order(self._gathered(values), values)
            else:
                self._add_up_by_parts(values)
        return values

    def adding_up(self) -> AbstractContextManager[None]:
        """Inside, what goes wrong between processes becomes a sentence."""
        return _explained("add up with the other processes")

    def communicator(self, how: str) -> SharedMemory | GroupCommunicator:
        """What compiled code exchanges with the other processes in the middle of a step."""
        return self._memory or GroupCommunicator(self, how)

    def gather(self, values: Tensor) -> Tensor:
        """The tensors (M,) of all processes, (size, M), in the order of ranks."""
        with _explained("collect from the other processes"):
            return self._gathered(values).clone()

    def gather_lists(self, values: Sequence[float]) -> list[list[float]]:
        """The numbers of each process, in the order of ranks; each may have another count."""
        import torch

        counts = self.gather(torch.tensor([len(values)]))[:, 0].tolist()
        padded = torch.zeros(max(1, *counts), dtype=torch.float64)
        padded[: len(values)] = torch.tensor(values, dtype=torch.float64)
        rows = self.gather(padded).tolist()
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    def spread(self, content: bytes = b"") -> bytes:
        """The bytes of the first process, at all of them."""
        import numpy as np
        import torch
        import torch.distributed as dist

        with _explained("hand something to the other processes"):
            length = torch.tensor([len(content)])
            dist.broadcast(length, 0)
            if self.leads:
                values = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
            else:
                values = torch.empty(int(length), dtype=torch.uint8)
            if len(values):
                dist.broadcast(values, 0)
        return values.numpy().tobytes()

    def _shared_memory(self) -> SharedMemory | None:
        """Memory that all of them share; None for all where one of them cannot reach it."""
        import torch

        room, offer = shared_memory.made(self.size) or (None, None) if self.leads else (None, None)
        told = json.loads(self.spread(json.dumps(offer).encode()))
        if not self.leads and told is not None:
            room = shared_memory.opened(shared_memory.Offer(*told), self.size)
        joined: SharedMemory | None = None
        processes = self.gather(torch.tensor([0 if room is None else os.getpid()]))[:, 0].tolist()
        if room is not None and all(processes):
            with suppress(OSError, RuntimeError):
                joined = room.joined(self.rank, processes, _seconds(*_TO_ANSWER))
        everybody = bool(self.gather(torch.tensor([joined is not None])).all())
        if room is not None:
            room.close_file()
        return joined if everybody else None

    def _gathered(self, values: Tensor) -> Tensor:
        found = self._room(self.size * values.numel(), values)
        if self._memory is not None:
            self._memory.gather(_bytes_of(values), _bytes_of(found))
        else:
            _all_gather(found, values)
        return found.view(self.size, -1)

    def _add_up_by_parts(self, values: Tensor) -> None:
        """Each process adds up a part of the numbers for all: no more is sent than by a ring."""
        import torch.distributed as dist

        length = -(-values.numel() // self.size)
        sent = self._room(self.size * length, values)
        sent[: values.numel()] = values
        sent[values.numel() :] = 0
        received = self._room(self.size * length, values, 1)
        dist.all_to_all_single(received, sent)
        part = self._room(length, values, 2)
        _add_in_order(received.view(self.size, length), part)
        _all_gather(sent, part)
        values.copy_(sent[: values.numel()])

    def _room(self, count: int, like: Tensor, number: int = 0) -> Tensor:
        """Memory that is used again and again, since fresh pages take longer than the sum."""
        import torch

        key = (count * 4 + number, like.dtype, like.device)
        if key not in self._kept:
            self._kept[key] = torch.empty(count, dtype=like.dtype, device=like.device)
        return self._kept[key]


class GroupCommunicator:
    """Exchanges of compiled code through the library, between machines."""

    def __init__(self, team: Team, how: str) -> None:
        self.rank, self.size = team.rank, team.size
        self._team, self._how = team, how

    def add_up(self, values: Float32Array) -> None:
        """(M,) becomes its sum over all processes."""
        import torch

        self._team.add_up(torch.from_numpy(values), self._how)

    def gather(self, own: Float64Array, out: Float64Array) -> None:
        """`out`, (size * M,), becomes what all processes have, (M,) each."""
        import torch

        torch.from_numpy(out).copy_(self._team.gather(torch.from_numpy(own)).view(-1))


def _bytes_of(values: Tensor) -> UInt8Array:
    """A tensor's own memory."""
    import torch

    return values.view(-1).view(torch.uint8).numpy()


def _all_gather(found: Tensor, values: Tensor) -> None:
    """What all have, one after the other; the function has a new name since torch 2.13."""
    import torch.distributed as dist

    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(found, values)


def _add_in_order(rows: Tensor, result: Tensor) -> None:
    """rows (size, M) -> (M,)."""
    result.copy_(rows[0])
    for row in rows[1:]:
        result.add_(row)


_team: Team | None = None


def team() -> Team | None:
    """The processes that train together; None where this one is alone.

    Raises:
        UsageError: as `member`. TrainingError: they do not meet.
    """
    global _team
    here = member()
    if here is None:
        return None
    if _team is None:
        _team = Team(here, _store(here))
        _team.arrive()
    return _team


def _store(here: Member) -> Store:
    """Where messages lie: at the launcher, or else at the first process."""
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    address, port = (os.environ[name] for name in _MEETING_POINT)
    at_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address,
            _number("MASTER_PORT", port),
            is_master=here.leads and not at_launcher,
            timeout=timedelta(seconds=_seconds(*_TO_MEET)),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"This process did not meet the others at {address}:{port}: {_first_line(error)}",
            "Is that machine up, the port free and not behind a firewall, and the same command "
            "started on every machine?",
        ) from None
    # Those that took the place of others do not hear what was told these.
    return PrefixStore(f"sartor/{restarts()}", store)


def dismiss(exit_code: int) -> None:
    """Let the others end, too, with the same code; for the first process, at its end."""
    try:
        here = member()
        if here is None or not here.leads:
            return
        all_of_us = team()
        assert all_of_us is not None
        all_of_us.post(do="exit", code=exit_code)
        # Where this process keeps the messages, they end with it.
        all_of_us.answers(_SECONDS_TO_LEAVE)
    except (TrainingError, UsageError):
        return


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turn what the library raises into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"This process could not {action}: {_first_line(error)}",
            "Another process has ended or is out of reach; what it said comes first. "
            "The last checkpoint is kept: `sartor resume` goes on from it.",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    # What gloo says begins with a place in its source.
    text = text.rpartition("] ")[2] or text
    return f"{text.partition('. ')[0].rstrip('.')}."
