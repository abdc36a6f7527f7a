"""What each verb takes: dataclasses that tyro turns into flags and help. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Suppress

from ..data.settings import DataSettings, SourceSettings
from ..models.settings import ModelSettings
from ..training.settings import TrainingSettings

SplitName = Literal["test", "val", "train"]
JudgedSplitName = Literal["test", "val"]
CheckpointName = Literal["best", "last"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
AbstainName = Literal["off", "novelty", "set"]
InkName = Literal["mass", "box", "off"]
MapName = Literal["pca", "tsne", "umap"]
LogName = Literal["requests", "errors", "off"]
RuntimeName = Literal["onnx", "int8", "torch"]
MethodName = Literal["occlusion", "integrated-gradients", "grad-cam"]


@dataclass(frozen=True, kw_only=True)
class SourceFlags(SourceSettings):
    """Data"""

    # The source is the verb's target.
    source: Suppress[str] = "digits"


@dataclass(frozen=True, kw_only=True)
class DataFlags(DataSettings):
    """Data"""

    # The source is the verb's target; the fingerprints are measured.
    source: Suppress[str] = "digits"
    fingerprint: Suppress[str] = ""
    split_hash: Suppress[str] = ""
    fixes_sha256: Suppress[str] = ""


@dataclass(frozen=True, kw_only=True)
class CheckDataFlags(DataFlags):
    """Data"""

    # What check finds, it finds in the data as given.
    fixes: Suppress[str | None] = None


@dataclass(frozen=True, kw_only=True)
class ModelFlags(ModelSettings):
    """Model"""

    weights_sha256: Suppress[str | None] = None
    weights_licence: Suppress[str | None] = None


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(TrainingSettings):
    """Training"""

    # Only `resume --epochs` extends a run.
    extensions: Suppress[tuple[str, ...]] = ()
    # Only a training itself changes its engine.
    engine_changes: Suppress[tuple[str, ...]] = ()
