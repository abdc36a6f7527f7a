"""8 bits ship only where they cost next to nothing and save time; both are measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sartor
from sartor.bundle import golden, quantize
from sartor.bundle.format import INT8, ONNX, Bundle
from sartor.bundle.quantize import Material, int8_bytes, int8_session
from sartor.bundle.sessions import OnnxSession
from sartor.errors import ExportError

from .conftest import resealed

Images = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def images(wild_pictures: Path) -> tuple[Images, np.ndarray[Any, np.dtype[np.int64]]]:
    """All 192 pictures as the network takes them, and their labels."""
    data = sartor.load(wild_pictures, image_size=20, channels=3)
    return np.ascontiguousarray(data.images.transpose(0, 2, 3, 1)), data.labels


@pytest.fixture(scope="module")
def content(wild_bundle: Path) -> bytes:
    return Bundle.open(wild_bundle).read(ONNX)


@pytest.fixture(scope="module")
def quantized(content: bytes, images: Any) -> bytes:
    return int8_bytes(content, images[0], reduced=False)


def test_weights_are_signed_bytes_with_a_scale_for_each_channel(quantized: bytes) -> None:
    graph = onnx.load_model_from_string(quantized).graph
    kinds = {one.name: one for one in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    makers = {name: node for node in graph.node for name in node.output}
    for node in convolutions:
        weight, scale, zero = (kinds[name] for name in makers[node.input[1]].input)
        assert weight.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == list(weight.dims[:1])
        assert not onnx.numpy_helper.to_array(zero).any()
        assert makers[node.input[0]].op_type == "DequantizeLinear"
    signed = [one for one in graph.initializer if one.name.endswith("_zero_point")]
    types = {one.data_type for one in signed}
    assert types <= {onnx.TensorProto.INT8, onnx.TensorProto.INT32}


def test_pixels_are_scaled_and_logits_made_in_floats(quantized: bytes) -> None:
    graph = onnx.load_model_from_string(quantized).graph
    makers = {name: node for node in graph.node for name in node.output}
    uses = {name: node for node in graph.node for name in node.input}
    (cast,) = (node for node in graph.node if node.op_type == "Cast")
    assert uses[cast.output[0]].op_type == "Mul"
    last = makers[graph.output[0].name]
    while last.op_type != "Gemm":
        assert last.op_type in ("Softmax", "Div")
        last = makers[last.input[0]]
    weights = {one.name: one.data_type for one in graph.initializer}
    assert weights[last.input[1]] == onnx.TensorProto.FLOAT


def test_it_says_what_the_other_file_says_and_is_the_same_each_time(
    content: bytes, quantized: bytes, images: Any
) -> None:
    said = OnnxSession(content, ONNX).metadata
    assert int8_session(quantized).metadata == said | {"quantized": "int8"}
    assert int8_bytes(content, images[0], reduced=False) == quantized
    assert len(quantized) < len(content)


def test_a_reduced_range_leaves_a_bit(content: bytes, images: Any) -> None:
    reduced = int8_bytes(content, images[0], reduced=True)
    graph = onnx.load_model_from_string(reduced).graph
    weights = [one for one in graph.initializer if one.name.endswith("weight_quantized")]
    assert weights
    largest = max(np.abs(onnx.numpy_helper.to_array(one).astype(int)).max() for one in weights)
    assert 32 < largest <= 64
    assert int8_session(reduced).metadata["quantized"] == "int8 reduced range"


def test_it_answers_nearly_the_same(content: bytes, quantized: bytes, images: Any) -> None:
    wanted = OnnxSession(content, ONNX)(images[0]).probabilities
    found = int8_session(quantized)(images[0]).probabilities
    assert 0 < np.abs(found - wanted).max() < 0.2
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9


def judged(
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    images: Any,
    *,
    copies: int,
    faster: bool,
    spoilt: bool = False,
) -> quantize.Quantization:
    """The verdict, with `copies` of every picture to judge by."""
    slow, fast = {"1": 0.002, "64": 0.1}, {"1": 0.001, "64": 0.05}
    monkeypatch.setattr(
        quantize, "_timed", lambda *_: (slow, fast) if faster else (slow, fast | {"64": 0.2})
    )
    pixels, labels = images
    material = Material(
        training=pixels if not spoilt else np.zeros_like(pixels[:8]),
        validation=np.tile(pixels, (copies, 1, 1, 1)),
        labels=np.tile(labels, copies),
    )
    return quantize.quantize(content, material)[1]


def test_it_is_kept_only_if_accuracy_holds_and_it_is_faster(
    content: bytes, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = OnnxSession(content, ONNX)(images[0]).probabilities.argmax(1)
    same = int8_session(int8_bytes(content, images[0], reduced=False))(images[0]).probabilities
    agreed = (same.argmax(1) == predicted).nonzero()[0]
    easy = images[0][agreed], predicted[agreed]
    kept = judged(monkeypatch, content, easy, copies=8, faster=True)
    assert kept.kept
    assert kept.accuracy == kept.int8_accuracy == 1
    assert kept.difference_interval[0] >= -quantize.MOST_LOSS
    assert "kept." in kept.sentence
    slower = judged(monkeypatch, content, easy, copies=8, faster=False)
    assert not slower.kept
    assert "not faster here" in slower.sentence
    few = judged(monkeypatch, content, easy, copies=1, faster=True)
    assert not few.kept
    assert "points of loss are possible" in few.sentence
    spoilt = judged(monkeypatch, content, easy, copies=8, faster=True, spoilt=True)
    assert not spoilt.kept
    assert spoilt.int8_accuracy < 0.9


def test_both_are_timed_in_turns(images: Any) -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[Images], None]:
        return lambda batch: order.append(f"{name}{len(batch)}")

    quantize._timed(noting("a"), noting("b"), images[0][:3])
    assert {one[1:] for one in order} == {"1", "64"}
    assert {one[0] for one in order} == {"a", "b"}
    first = "".join(one[0] for one in order if one.endswith("64"))
    assert len(set(first.replace("aa", "a").replace("bb", "b"))) == 2


def test_without_validation_images_nothing_is_decided(content: bytes, images: Any) -> None:
    nothing = Material(training=images[0], validation=images[0][:0], labels=images[1][:0])
    with pytest.raises(ExportError, match="Without validation images"):
        quantize.quantize(content, nothing)


def test_what_cannot_be_quantized_is_told(images: Any) -> None:
    with pytest.raises(ExportError, match="cannot be quantized"):
        int8_bytes(b"not onnx", images[0], reduced=False)


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("vendor_id : GenuineIntel\nflags : avx2 avx512f", True),
        ("vendor_id : GenuineIntel\nflags : avx2 avx_vnni", False),
        ("vendor_id : AuthenticAMD\nflags : avx2 avx512_vnni", False),
        ("CPU implementer : 0x41\nFeatures : asimd", False),
    ],
)
def test_the_processor_decides_on_the_range(
    words: str, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _path: words)
    assert quantize.needs_reduced_range() == needed


def test_a_bundle_with_8_bits_is_verified_and_one_of_another_network_is_not(
    wild_bundle: Path, content: bytes, quantized: bytes, tmp_path: Path
) -> None:
    from safetensors.numpy import load, save

    def with_answers(pixels: bytes) -> bytes:
        arrays = load(pixels)
        return save(arrays | {"int8": int8_session(quantized)(arrays["images"]).probabilities})

    bundle = resealed(
        wild_bundle,
        tmp_path / "b",
        more={INT8: quantized},
        golden__pixels_dot_safetensors=with_answers,
    )
    (check,) = (one for one in sartor.verify(bundle).checks if one.name == "int8")
    assert check.ok
    assert check.largest_difference == 0
    by_8_bits = sartor.Predictor(bundle, runtime="int8")
    assert by_8_bits.runtime == "int8"
    pixels = load(Bundle.open(bundle).read(golden.PIXELS))
    np.testing.assert_array_equal(by_8_bits.probabilities(pixels["images"]), pixels["int8"])
    for number, other in enumerate((content, b"not onnx")):
        wrong = resealed(
            bundle, tmp_path / f"w{number}", model_dot_int8_dot_onnx=lambda _, o=other: o
        )
        (check,) = (one for one in sartor.verify(wrong).checks if one.name == "int8")
        assert check.ok == (other == content and (check.largest_difference or 0) <= 0.02)
    silent = resealed(wild_bundle, tmp_path / "silent", more={INT8: quantized})
    (check,) = (one for one in sartor.verify(silent).checks if one.name == "int8")
    assert not check.ok


def test_the_verb_says_and_keeps_both_figures(
    wild_run: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    answer = command("export", wild_run, "--out", tmp_path / "b", "--quantize", "int8", "--json")
    assert answer.exit_code == 0
    found = answer.document["quantized"]
    assert found["kept"] is False
    assert "In 8 bits: not kept" in found["sentence"]
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.record["quantized"] == found
    assert INT8 not in bundle.names
    assert "In 8 bits: not kept" in bundle.read("README.md").decode()
    refused = command(
        "export", wild_run, "--out", tmp_path / "c", "--quantize", "int8", "--no-onnx"
    )
    assert refused.exit_code == 2
