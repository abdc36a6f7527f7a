"""From a bundle to a network that answers, in the way that is asked for or the fastest there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import files
from ..errors import BundleError, MissingExtraError, UsageError, unknown
from ..models.custom import reason_of
from ..runs.trust import is_our_content
from .format import INT8, ONNX, PROGRAM, SOURCE, WEIGHTS, Bundle
from .sessions import AnsweringSession, OnnxSession, Session, TorchSession

if TYPE_CHECKING:
    from torch import nn

    from ..inference.answering import Answering

BY_ONNX, IN_8_BITS, TORCH, BY_PROGRAM = "onnx", "int8", "torch", "program"
RUNTIMES = (BY_ONNX, IN_8_BITS, TORCH, BY_PROGRAM)


def session_of(
    bundle: Bundle,
    runtime: str | None = None,
    *,
    threads: int | None = None,
    trust: bool = False,
) -> Session:
    """A bundle's network, ready to answer.

    Args:
        runtime: onnx, int8 (model.int8.onnx), torch (the network in PyTorch) or program
            (program.pt2); by default onnx where the file and the library are there.
        threads: of ONNX Runtime; by default as `sessions.chosen_threads`. PyTorch's are a setting
            of the process.
        trust: let code of the bundle run, whoever exported it: its Python file, its program.pt2.

    Raises:
        UsageError: there is no such runtime, or code that nobody vouches for.
        BundleError: the bundle does not hold what that takes, or it is damaged.
        MissingExtraError: onnxruntime is not installed.
    """
    if runtime is None:
        return _fastest(bundle, threads, trust)
    if runtime not in RUNTIMES:
        raise UsageError(
            unknown("runtime", runtime, RUNTIMES).capitalize() + ".", "Name a known one."
        )
    if runtime == BY_ONNX:
        return onnx_session_of(bundle, threads)
    if runtime == IN_8_BITS:
        return onnx_session_of(bundle, threads, INT8)
    if runtime == BY_PROGRAM:
        return TorchSession(program_of(bundle, trust=trust), BY_PROGRAM)
    if bundle.architecture.own and SOURCE not in bundle.names:
        return TorchSession(program_of(bundle, trust=trust), TORCH)
    return AnsweringSession(answering_of(bundle, trust=trust))


def onnx_session_of(bundle: Bundle, threads: int | None = None, file: str = ONNX) -> OnnxSession:
    """model.onnx of a bundle, or model.int8.onnx, which has the bundle's shapes and classes.

    Raises:
        BundleError: there is none, or it is another network's. MissingExtraError.
    """
    if file not in bundle.names:
        raise BundleError(
            f"The bundle {bundle.path} has no {file}: it was exported without.",
            f"Use it with runtime {'torch' if file == ONNX else 'onnx'}, or export the run again.",
        )
    session = OnnxSession(bundle.read(file), f"{file} of {bundle.path}", threads=threads)
    session.runtime = IN_8_BITS if file == INT8 else BY_ONNX
    channels, height, width = bundle.architecture.input_shape
    if session.input_shape != (height, width, channels) or session.classes != bundle.classes:
        raise BundleError(
            f"{file} of {bundle.path} is that of another network: it has other classes, or takes "
            "images of another size.",
            "Export the run again: sartor export RUN --out NAME",
        )
    return session


def answering_of(bundle: Bundle, *, trust: bool = False) -> Answering:
    """The network in PyTorch, with its weights and all that makes an answer of them.

    Raises:
        BundleError: it is not a registered network and brings no source, or the weights do not
            fit. UsageError: its source is code that nobody vouches for.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ..device import torch_memory_format
    from ..inference.answering import Answering

    network = _untrained(bundle, trust)
    try:
        network.load_state_dict(load(bundle.read(WEIGHTS)))
    except (RuntimeError, SafetensorError) as error:
        raise BundleError(
            f"The weights of {bundle.path} do not fit its network: {reason_of(error)}.",
            "Use the version of sartor that its bundle.json names, or export the run again.",
        ) from error
    memory_format = torch_memory_format(bundle.architecture.memory_format)
    return Answering(
        network.to(memory_format=memory_format),  # type: ignore[call-overload]
        preprocess=bundle.preprocess,
        loss=bundle.architecture.loss,
        tta=bundle.architecture.tta,
        calibration=bundle.calibration,
        memory_format=memory_format,
    ).eval()


def program_of(bundle: Bundle, *, trust: bool = False) -> nn.Module:
    """program.pt2 of a bundle.

    Raises:
        BundleError: there is none, or it cannot be read. UsageError: nobody vouches for it.
    """
    from .program import loaded_program

    if PROGRAM not in bundle.names:
        raise BundleError(
            f"The bundle {bundle.path} has no {PROGRAM}, and its network "
            f"{bundle.architecture.model} is none of sartor's."
            if bundle.architecture.own
            else f"The bundle {bundle.path} has no {PROGRAM}.",
            _without_source(bundle),
        )
    refuse_code(bundle, PROGRAM, trust)
    return loaded_program(bundle.read(PROGRAM), f"{PROGRAM} of {bundle.path}")


def refuse_code(bundle: Bundle, name: str, trust: bool) -> None:
    """Raise where using a file of a bundle could run code of somebody else's.

    Raises:
        UsageError: it could.
    """
    if not (trust or is_our_content(bundle.sha256)):
        raise UsageError(
            f"Reading {name} of {bundle.path} can run code that the bundle brings, and no export "
            "of yours made it.",
            "If you trust where it comes from, add --trust (in Python: trust=True).",
        )


def _without_source(bundle: Bundle) -> str:
    """What to do where PyTorch lacks the source of a network."""
    again = "xport the run again with --program or --with-source."
    return f"Use model.onnx (runtime onnx), or e{again}" if ONNX in bundle.names else f"E{again}"


def _fastest(bundle: Bundle, threads: int | None, trust: bool) -> Session:
    if ONNX in bundle.names:
        try:
            return onnx_session_of(bundle, threads)
        except MissingExtraError:
            if bundle.architecture.own:
                raise
    return session_of(bundle, TORCH, trust=trust)


def _untrained(bundle: Bundle, trust: bool) -> nn.Module:
    import tempfile
    from pathlib import Path

    import torch

    from ..models.registry import MODELS, build_model, refuse_larger

    architecture = bundle.architecture
    name = architecture.model
    if not architecture.own and name not in MODELS:
        raise BundleError(
            f"The network {name} of {bundle.path} is not one that this version of sartor has.",
            "Update sartor (pip install -U sartor), or use model.onnx.",
        )
    if architecture.own and SOURCE not in bundle.names:
        raise BundleError(
            f"The network {name} of {bundle.path} is its maker's own, and its source is not part "
            "of the bundle.",
            _without_source(bundle),
        )
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        if architecture.own:
            refuse_code(bundle, SOURCE, trust)
            path = Path(folder) / SOURCE
            files.write_bytes(path, bundle.read(SOURCE))
            name = f"{path}:{name}"
        refuse_larger(
            name,
            input_shape=architecture.input_shape,
            num_classes=architecture.num_classes,
            kwargs=architecture.model_kwargs,
            most=len(bundle.read(WEIGHTS)),
            where=str(bundle.path),
        )
        return build_model(
            name,
            input_shape=architecture.input_shape,
            num_classes=architecture.num_classes,
            kwargs=architecture.model_kwargs,
        ).eval()
