"""One contract for every network that is exported: the same answers in PyTorch, by ONNX Runtime
and from a .pt2, for any number of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sartor.bundle.onnx import BATCHES, check_agreement, measured, onnx_bytes
from sartor.bundle.program import captured, loaded_program, program_bytes
from sartor.bundle.sessions import OnnxSession, Outputs, TorchSession, chosen_threads
from sartor.data.pictures.preprocess import Preprocess
from sartor.device import torch_memory_format
from sartor.errors import BundleError, ExportError
from sartor.evaluation.calibration import log_probabilities_of, scaled
from sartor.evaluation.predictions import gives_probabilities, probabilities_of
from sartor.inference.answering import Answering
from sartor.inference.calibration import Calibration, NoveltyScore
from sartor.inference.views import mean_logits
from sartor.models.backbones import BACKBONES
from sartor.models.efficientnet_lite import EfficientNetLite, Stage
from sartor.models.lazy import materialise
from sartor.models.registry import MODELS, build_model

from .networks import Attending, Comparing, Everyday, OneByOne, Restless, Routed, Singular

CLASSES = ("ä", "b", "c")
COUNT = 70


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, and how it answers."""

    network: str | type[nn.Module] | Callable[[], nn.Module]
    channels: int = 1
    size: tuple[int, int] = (12, 12)
    loss: str = "cross-entropy"
    tta: str = "none"
    temperature: float = 1.0
    memory_format: str = "channels-last"
    novelty: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        if isinstance(self.network, str):
            network = build_model(
                self.network, input_shape=self.shape, num_classes=len(CLASSES), kwargs={}
            )
        else:
            network = materialise(self.network(), self.shape)
        # Batch norms that have seen something: a fresh one hides whether its statistics travel.
        with torch.no_grad():
            network(torch.randn(16, *self.shape))
        layout = torch_memory_format(self.memory_format)
        return network.to(memory_format=layout).eval()  # type: ignore[call-overload,no-any-return]


def shallow_backbone() -> nn.Module:
    """The layers of a backbone in few and narrow stages."""
    stages = (Stage(1, 3, 1, 1, 16), Stage(2, 5, 2, 2, 24), Stage(1, 3, 2, 2, 32))
    stages += (Stage(1, 5, 1, 2, 40), Stage(1, 3, 1, 2, 40))
    return EfficientNetLite(3, stages, len(CLASSES), 0.2)


CASES = {
    "linear": Case(network="linear", loss="bce", tta="flip", temperature=0.4),
    "mlp": Case(network="mlp", loss="mse", tta="shift", size=(5, 9), memory_format="contiguous"),
    "lenet": Case(network="lenet", temperature=2.5, novelty="energy"),
    "convnet": Case(network="convnet", channels=3, tta="flip-shift", size=(13, 8)),
    "resnet8": Case(network="resnet8", channels=3, novelty="mahalanobis", tta="flip"),
    "efficientnet-lite": Case(network=shallow_backbone, channels=3, size=(32, 32)),
    "everyday": Case(
        network=Everyday, loss="bce", novelty="neighbours", memory_format="contiguous"
    ),
    "attending": Case(network=Attending, temperature=0.3),
}


def kinds_of_layers(network: nn.Module) -> set[tuple[str, ...]]:
    """What the layers of a network compute, whatever their number and their widths."""
    kinds = set()
    for module in network.modules():
        settings = ("kernel_size", "stride", "padding", "output_size", "eps", "residual")
        said = [f"{name}={getattr(module, name)}" for name in settings if hasattr(module, name)]
        grouped = getattr(module, "groups", 1) > 1
        kinds.add((type(module).__name__, *said, *(["grouped"] if grouped else [])))
    return kinds


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(CASES)))
def test_other_registered_networks_are_deeper_ones_of_the_same_layers(name: str) -> None:
    like = CASES["efficientnet-lite" if name in BACKBONES else "resnet8"]
    network = build_model(name, input_shape=like.shape, num_classes=len(CLASSES), kwargs={})
    assert kinds_of_layers(network) <= kinds_of_layers(like.build())


def score_for(case: Case, network: nn.Module) -> NoveltyScore | None:
    if case.novelty is None:
        return None
    chance = np.random.default_rng(3)
    width = next(one.in_features for one in network.modules() if isinstance(one, nn.Linear))
    arrays = {
        "mahalanobis": {
            "centre": chance.normal(size=width),
            "whitening": chance.normal(size=(width, 5)) / width,
            "means": chance.normal(size=(3, 5)),
        },
        "neighbours": {
            "centre": chance.normal(size=width) / np.sqrt(width),
            "rows": chance.normal(size=(9, width)) / np.sqrt(width),
        },
        "energy": {},
    }[case.novelty]
    layer = next(name for name, one in network.named_modules() if isinstance(one, nn.Linear))
    return NoveltyScore(
        method=case.novelty,
        layer="" if case.novelty == "energy" else layer,
        arrays={name: array.astype(np.float32) for name, array in arrays.items()},
        table=np.arange(5, dtype=np.float32),
        threshold=3.0,
        false_alarms=0.1,
    )


@pytest.mark.parametrize("name", CASES)
def test_all_ways_give_the_same_answers(name: str) -> None:
    case = CASES[name]
    network = case.build()
    preprocess = Preprocess(
        channels=case.channels,
        height=case.size[0],
        width=case.size[1],
        resize="letterbox",
        mean=(0.3, 0.5, 0.7)[: case.channels],
        std=(0.2, 0.3, 0.4)[: case.channels],
    )
    score = score_for(case, network)
    answering = Answering(
        network,
        preprocess=preprocess,
        loss=case.loss,
        tta=case.tta,
        calibration=Calibration(temperature=case.temperature, novelty=score),
        memory_format=torch_memory_format(case.memory_format),
    ).eval()
    images = np.random.default_rng(1).integers(0, 256, (COUNT, *case.size, case.channels), np.uint8)

    in_pytorch = TorchSession(answering, "torch")(images)
    # What `predict` computes of a run, step by step and in float64 at the end.
    batch = preprocess.normalizer("cpu")(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    with torch.inference_mode():
        logits = mean_logits(network, batch, case.tta).numpy()
    expected = probabilities_of(logits, case.loss)
    if gives_probabilities(case.loss):
        log_p = log_probabilities_of(logits, case.loss)
        expected = np.exp(scaled(log_p, case.temperature))
    np.testing.assert_allclose(in_pytorch.probabilities, expected, atol=2e-6)
    np.testing.assert_allclose(in_pytorch.probabilities.sum(1), 1, atol=1e-5)

    program = captured(answering, case.shape)
    content = onnx_bytes(program, classes=CLASSES, preprocess=preprocess)
    agreement = check_agreement(content, lambda start, stop: images[start:stop], in_pytorch)
    assert agreement.largest_difference < 1e-5
    assert (agreement.images, agreement.batches) == (COUNT, (1, 2, 7, 64))
    check_file(content, case, preprocess)

    loaded = TorchSession(loaded_program(program_bytes(program), "program.pt2"), "program")
    assert measured(loaded, lambda start, stop: images[start:stop], in_pytorch).holds
    by_onnx = OnnxSession(content, "model.onnx")(images)
    if case.novelty is None:
        assert by_onnx.novelty is None
    else:
        assert in_pytorch.novelty is not None
        assert np.ptp(in_pytorch.novelty) > 1e-3
        np.testing.assert_allclose(by_onnx.novelty, in_pytorch.novelty, rtol=1e-4, atol=1e-4)


def check_file(content: bytes, case: Case, preprocess: Preprocess) -> None:
    """One file by the standard, that says what it takes and means, and nothing of this machine."""
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (given,) = model.graph.input
    dimensions = given.type.tensor_type.shape.dim
    assert given.name == "images"
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert dimensions[0].dim_param == "N"
    assert [one.dim_value for one in dimensions[1:]] == [*case.size, case.channels]
    wanted = ["probabilities", "novelty"] if case.novelty else ["probabilities"]
    assert [one.name for one in model.graph.output] == wanted
    assert all(one.data_location == onnx.TensorProto.DEFAULT for one in model.graph.initializer)
    metadata = {one.key: one.value for one in model.metadata_props}
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["preprocess"])["height"] == preprocess.height
    assert metadata["sartor_bundle_format"] == "1"
    assert b"/src/" not in content
    assert b"site-packages" not in content


def answering_of(network: nn.Module) -> tuple[Answering, Preprocess]:
    preprocess = Preprocess(
        channels=1, height=8, width=8, resize="letterbox", mean=(0.5,), std=(0.3,)
    )
    torch.manual_seed(0)
    answering = Answering(
        materialise(network, (1, 8, 8)).eval(),
        preprocess=preprocess,
        loss="cross-entropy",
        calibration=Calibration(),
    )
    return answering.eval(), preprocess


def test_equal_networks_give_equal_bytes() -> None:
    contents = []
    for _ in range(2):
        torch.manual_seed(0)
        answering, preprocess = answering_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
        program = captured(answering, (1, 8, 8))
        contents.append(
            (onnx_bytes(program, classes=CLASSES, preprocess=preprocess), program_bytes(program))
        )
    assert contents[0] == contents[1]


def test_a_layer_that_cannot_be_captured_is_named_with_the_reason(
    capfd: pytest.CaptureFixture[str],
) -> None:
    answering, _ = answering_of(Routed())
    with pytest.raises(ExportError) as error:
        captured(answering, (1, 8, 8))
    assert capfd.readouterr() == ("", "")
    assert "its layer body.1.1 (Doubting)" in error.value.message
    assert "data-dependent" in error.value.message
    assert "\n" not in error.value.message
    assert "--no-onnx" in error.value.hint


def test_a_loop_over_the_images_is_not_laid_to_a_layer_in_it() -> None:
    answering, _ = answering_of(OneByOne())
    with pytest.raises(ExportError, match=r"capture OneByOne: .*number of images") as error:
        captured(answering, (1, 8, 8))
    assert "TORCH_LOGS" not in error.value.message


def test_an_operation_without_a_counterpart_is_named() -> None:
    answering, preprocess = answering_of(Singular())
    program = captured(answering, (1, 8, 8))
    with pytest.raises(ExportError, match="linalg_svd") as error:
        onnx_bytes(program, classes=CLASSES, preprocess=preprocess)
    assert "--no-onnx" in error.value.hint


@pytest.mark.parametrize("kind", [Restless, Comparing])
def test_a_file_that_answers_differently_may_not_exist(kind: type[nn.Module]) -> None:
    answering, preprocess = answering_of(kind())
    images = np.random.default_rng(1).integers(0, 256, (COUNT, 8, 8, 1), np.uint8)
    reference = TorchSession(answering, "torch")(images)
    content = onnx_bytes(captured(answering, (1, 8, 8)), classes=CLASSES, preprocess=preprocess)
    with pytest.raises(ExportError, match=r"another first class.*It was deleted") as error:
        check_agreement(content, lambda start, stop: images[start:stop], reference)
    assert "random when it classifies" in error.value.hint


def outputs_of(rows: Any) -> Any:
    return Outputs(np.array(rows, np.float32), None)


@pytest.mark.parametrize(
    ("rows", "disagreeing", "holds"),
    [
        ([[0.6, 0.4], [0.500001, 0.499999]], 0, True),
        ([[0.6, 0.4], [0.499999, 0.500001]], 0, True),  # a tie may go either way
        ([[0.60005, 0.39995], [0.5, 0.5]], 0, True),
        ([[0.6002, 0.3998], [0.5, 0.5]], 0, False),
        ([[0.4, 0.6], [0.5, 0.5]], 1, False),
        ([[np.nan, np.nan], [0.5, 0.5]], 0, False),
    ],
)
def test_the_gate(rows: list[list[float]], disagreeing: int, holds: bool) -> None:
    reference = outputs_of([[0.6, 0.4], [0.500001, 0.499999]])
    answers = np.array(rows, np.float32)
    places = np.arange(2)

    def session(images: Any) -> Any:
        return outputs_of(answers[images])

    found = measured(session, lambda start, stop: places[start:stop], reference)
    assert found.holds == holds
    assert found.disagreeing == disagreeing * len(BATCHES)
    assert found.ties == 1


@pytest.mark.parametrize(
    ("size", "wish", "expected"),
    [
        (10, "", (1, 4)),
        (10**8, "", (4, 4)),
        (10**8, "3", (3, 3)),
        (10, "9", (1, 4)),
        (10, "0", (1, 4)),
    ],
)
def test_threads(
    size: int, wish: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sartor.bundle.sessions.available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert chosen_threads(size) == expected


def test_an_onnx_file_that_is_not_ours() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 2]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "other", values[:1], values[1:])
    opset = [onnx.helper.make_opsetid("", 20)]
    content = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    with pytest.raises(BundleError, match="not one of a bundle"):
        OnnxSession(content, "other.onnx")
    with pytest.raises(BundleError, match="not an ONNX file that ONNX Runtime can read"):
        OnnxSession(b"\x08\x07not a model", "text.onnx")
