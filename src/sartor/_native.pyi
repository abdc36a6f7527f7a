"""What `native/module.cpp` gives to Python; not there where the module was not built."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

def build() -> dict[str, Any]: ...
def checksum(content: npt.NDArray[Any]) -> int: ...
def count_draws(words: npt.NDArray[Any], counts: npt.NDArray[Any]) -> None: ...
def risks(
    counts: npt.NDArray[Any],
    order: npt.NDArray[Any],
    wrong: npt.NDArray[Any],
    ends: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None: ...

class Network:
    def __init__(
        self,
        layers: Sequence[Mapping[str, Any]],
        input_shape: tuple[int, int, int],
        outputs: int,
        threads: int,
        isa: str | None,
    ) -> None: ...
    @property
    def features(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    def refresh(self) -> None: ...
    def forward(
        self,
        images: npt.NDArray[Any],
        out: npt.NDArray[Any],
        features: npt.NDArray[Any] | None = None,
    ) -> None: ...
    def forward_bytes(
        self,
        images: npt.NDArray[Any],
        rows: npt.NDArray[Any],
        scale: npt.NDArray[Any],
        shift: npt.NDArray[Any],
        out: npt.NDArray[Any],
        features: npt.NDArray[Any] | None = None,
    ) -> None: ...

class SharedMemory:
    def __init__(
        self, memory: npt.NDArray[Any], rank: int, processes: Sequence[int], seconds: float
    ) -> None: ...
    @staticmethod
    def bytes(size: int) -> int: ...
    def gather(self, own: npt.NDArray[Any], out: npt.NDArray[Any]) -> None: ...
    def add_up(self, values: npt.NDArray[Any]) -> None: ...
    def leave(self) -> None: ...

class Trainer:
    def __init__(
        self,
        network: Network,
        loss: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        parts: int,
        clip: float,
        communicator: Any = None,
    ) -> None: ...
    def refresh(self) -> None: ...
    def steps_of_bytes(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        rows: npt.NDArray[Any],
        scale: npt.NDArray[Any],
        shift: npt.NDArray[Any],
        batch: int,
        rates: npt.NDArray[Any],
        seeds: npt.NDArray[Any],
        losses: npt.NDArray[Any],
        weights: npt.NDArray[Any],
        correct: npt.NDArray[Any],
    ) -> None: ...
    def steps_of_floats(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        batch: int,
        rates: npt.NDArray[Any],
        seeds: npt.NDArray[Any],
        losses: npt.NDArray[Any],
        weights: npt.NDArray[Any],
        correct: npt.NDArray[Any],
    ) -> None: ...
