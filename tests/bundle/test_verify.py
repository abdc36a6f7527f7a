"""A bundle proves itself: what was exported passes, whatever was changed since does not."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import sartor
from sartor.bundle import golden as golden_examples
from sartor.bundle import verify
from sartor.bundle.format import Bundle, write_bundle
from sartor.bundle.golden import Golden
from sartor.bundle.sessions import Outputs
from sartor.bundle.verify import Replay, Verification
from sartor.data.pictures.preprocess import Decoded, Preprocess
from sartor.errors import BundleError
from sartor.inference.calibration import Calibration

from .conftest import resealed

KEYS = ["name", "ok", "largest_difference", "detail"]


def failed(found: Verification) -> set[str]:
    return {check.name for check in found.checks if not check.ok}


def detail(found: Verification, name: str) -> str:
    (said,) = (check.detail for check in found.checks if check.name == name)
    return said


@pytest.fixture(scope="module")
def zipped(wild_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resealed(wild_bundle, tmp_path_factory.mktemp("zip") / "bundle.zip")


def test_a_bundle_passes_as_a_folder_and_as_a_file(
    wild_bundle: Path, zipped: Path, command: Callable[..., Any]
) -> None:
    for path in (wild_bundle, zipped):
        answer = command("verify", path, "--trust", "--json")
        assert answer.exit_code == 0
        document = answer.document
        assert list(document) == ["bundle", "ok", "checks"]
        assert document["bundle"] == str(path)
        assert document["ok"] is True
        assert all(list(check) == KEYS for check in document["checks"])
        names = [check["name"] for check in document["checks"]]
        assert names == ["files", "pixels", "torch", "onnx", "program"]
        measured = [check["largest_difference"] for check in document["checks"]]
        assert measured[:2] == [None, 0]
        assert all(difference <= verify.GOAL for difference in measured[2:])


def test_the_table_fits_into_80_columns(wild_bundle: Path, command: Callable[..., Any]) -> None:
    answer = command("verify", wild_bundle)
    assert answer.exit_code == 0
    assert "all 5 checks passed" in answer.out
    table = answer.out.rpartition("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_one_changed_byte_of_any_file_is_found(wild_bundle: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    copy = resealed(wild_bundle, tmp_path / "copy")
    for path in sorted(copy.rglob("*")):
        if path.is_dir():
            continue
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        path.write_bytes(with_another_byte(whole, place, chance))
        assert not passes(copy), f"byte {place} of {path.name}"
        path.write_bytes(whole)
    assert passes(copy)


def test_one_changed_byte_of_a_zip_is_found_wherever_it_is(zipped: Path, tmp_path: Path) -> None:
    chance, whole, copy = random.Random(1), zipped.read_bytes(), tmp_path / "copy.zip"
    directory = whole.rindex(b"PK\x01\x02", 0, len(whole) - 22)
    places = [chance.randrange(len(whole)) for _ in range(12)]
    places += [*range(0, 40, 5), *range(directory, len(whole), 61)]
    for place in places:
        copy.write_bytes(with_another_byte(whole, place, chance))
        assert not passes(copy), f"byte {place}"


def with_another_byte(whole: bytes, place: int, chance: random.Random) -> bytes:
    other = (whole[place] + chance.randrange(1, 256)) % 256
    return whole[:place] + bytes([other]) + whole[place + 1 :]


def passes(bundle: Path) -> bool:
    """Whether the files do; a bundle so damaged that nothing can be checked does not."""
    try:
        return verify.verify(bundle, runtimes=()).ok
    except BundleError:
        return False


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("model_dot_safetensors", {"torch"}),
        ("golden__pixels_dot_safetensors", {"torch", "onnx", "program"}),
    ],
)
def test_numbers_that_were_wrong_from_the_start_are_found(
    name: str, wrong: set[str], wild_bundle: Path, tmp_path: Path
) -> None:
    def nudged(content: bytes) -> bytes:
        arrays = load(content)
        key = next(key for key in arrays if arrays[key].ndim != 1 and key != "images")
        return save(arrays | {key: arrays[key] * np.float32(1.01)})

    bundle = resealed(wild_bundle, tmp_path / "b", **{name: nudged})
    assert failed(sartor.verify(bundle, trust=True)) == wrong


def test_a_picture_that_becomes_other_pixels_is_found(wild_bundle: Path, tmp_path: Path) -> None:
    def nudged(content: bytes) -> bytes:
        arrays = load(content)
        images = arrays["images"].copy()
        images[:, 3, 3, 0] ^= 1
        return save(arrays | {"images": images})

    bundle = resealed(wild_bundle, tmp_path / "b", golden__pixels_dot_safetensors=nudged)
    found = sartor.verify(bundle, trust=True)
    assert "pixels" in failed(found)
    assert "becomes other pixels, by up to 1 levels" in detail(found, "pixels")


def test_another_decoder_of_jpegs_is_told_and_allowed(
    wild_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Preprocess.seen

    def otherwise(self: Preprocess, content: bytes, name: str, **more: Any) -> Decoded:
        found = seen(self, content, name, **more)
        exact = golden_examples.is_exact(content)
        return found if exact else found._replace(pixels=found.pixels ^ 1)

    monkeypatch.setattr(Preprocess, "seen", otherwise)
    found = sartor.verify(wild_bundle, trust=True)
    assert found.ok
    assert "decoded a little differently" in detail(found, "pixels")
    (pixels,) = (check for check in found.checks if check.name == "pixels")
    assert pixels.largest_difference == 1


def test_the_onnx_file_of_another_network_is_found(wild_bundle: Path, tmp_path: Path) -> None:
    for number, other in enumerate((b"not onnx", _stranger())):
        bundle = resealed(wild_bundle, tmp_path / str(number), model_dot_onnx=lambda _, b=other: b)
        found = sartor.verify(bundle, trust=True)
        assert failed(found) == {"onnx"}
        assert "ONNX file" in detail(found, "onnx")


def _stranger() -> bytes:
    """A whole ONNX file that has nothing to do with images."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    opset = [helper.make_opsetid("", 18)]
    content: bytes = helper.make_model(graph, opset_imports=opset).SerializeToString()
    return content


def test_code_that_nobody_vouches_for_does_not_run(
    wild_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sartor.verify(wild_bundle).ok
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
    found = sartor.verify(wild_bundle)
    assert failed(found) == {"program"}
    assert "--trust" in detail(found, "program")


def test_what_could_not_be_checked_has_not_passed(
    wild_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = sartor.verify(wild_bundle)
    assert failed(found) == {"onnx"}
    assert "Not checked" in detail(found, "onnx")


def test_what_nothing_can_run_has_not_passed(wild_bundle: Path, tmp_path: Path) -> None:
    lacking = resealed(wild_bundle, tmp_path / "a", model_dot_onnx=None, program_dot_pt2=None)
    assert sartor.verify(lacking).ok, "sartor has its network"
    opened = Bundle.open(lacking)
    said = {k: v for k, v in opened.record.items() if k not in ("format", "files", "sha256")}
    said["architecture"] = {**said["architecture"], "model": "Mine", "own": True}
    content = {name: opened.read(name) for name in opened.names}
    write_bundle(tmp_path / "b", said, content)
    found = sartor.verify(tmp_path / "b")
    assert failed(found) == {"answers"}
    assert "--with-source" in detail(found, "answers")
    with pytest.raises(BundleError) as error:
        sartor.Predictor(tmp_path / "b")
    assert "model.onnx" not in error.value.hint


def test_a_bundle_without_examples_proves_nothing(wild_bundle: Path, tmp_path: Path) -> None:
    lacking = resealed(wild_bundle, tmp_path / "a", golden__golden_dot_json=None)
    assert failed(sartor.verify(lacking)) == {"golden"}
    empty = resealed(wild_bundle, tmp_path / "b", golden__golden_dot_json=lambda _: b"[]")
    assert failed(sartor.verify(empty)) == {"golden"}


def test_other_paths_are_asked_with_the_same_pictures(wild_bundle: Path) -> None:
    asked: list[Replay] = []

    def path(replay: Replay) -> verify.Check:
        asked.append(replay)
        return verify.compared("mine", replay, Outputs(replay.golden.probabilities, None))

    found = verify.verify(wild_bundle, runtimes=(), paths=[path])
    assert [check.name for check in found.checks] == ["files", "pixels", "mine"]
    np.testing.assert_array_equal(asked[0].images, asked[0].golden.images)


def _judged(rows: Any, golden_rows: Any, sets: list[list[str]], threshold: float) -> verify.Check:
    count = len(rows)
    golden = Golden(
        names=tuple(map(str, range(count))),
        labels=("a",) * count,
        answers=tuple({"set": one} for one in sets),
        images=np.zeros((count, 1, 1, 1), np.uint8),
        probabilities=np.array(golden_rows, np.float32),
        novelty=None,
    )
    calibration = Calibration(coverage=0.9, set_threshold=threshold)
    bundle: Any = SimpleNamespace(classes=("a", "b"), calibration=calibration)
    replay = Replay(
        bundle=bundle, golden=golden, contents={}, images=golden.images, exact=[True] * count
    )
    return verify.compared("x", replay, Outputs(np.array(rows, np.float32), None))


def test_sets_count_and_rounding_at_the_threshold_does_not() -> None:
    rows = [[0.7, 0.3]]
    assert _judged(rows, rows, [["a"]], 0.5).ok
    assert _judged(rows, rows, [["a", "b"]], 0.8).ok
    check = _judged(rows, rows, [["a", "b"]], 0.5)
    assert not check.ok
    assert "The set of classes differs for 1 picture." in check.detail
    for sets in ([["a"]], [["a", "b"]]):
        assert _judged(rows, rows, sets, 0.70001).ok
    assert not _judged([[np.nan, 0.3]], rows, [["a"]], 0.5).ok
    assert not _judged([[0.7, 0.3, 0]], rows, [["a"]], 0.5).ok


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path, _: path / "nowhere", "no bundle at"),
        (lambda path, _: _file(path / "x.png", b"\x89PNG"), "not a whole .zip file"),
        (lambda path, _: _file(path / "x.zip", b"PK\x03\x04 truncated"), "not a whole .zip file"),
        (lambda path, _: path, "not a bundle"),
        (lambda path, _: _file(path / "model.onnx", b"x"), "a single file, not a bundle"),
        (lambda path, whole: _cut(path / "cut.zip", whole), "only a part of one"),
    ],
)
def test_what_is_not_a_bundle_is_refused_in_two_sentences(
    make: Callable[[Path, Path], Path],
    said: str,
    zipped: Path,
    tmp_path: Path,
    command: Callable[..., Any],
) -> None:
    answer = command("verify", make(tmp_path, zipped))
    assert answer.exit_code == 1
    assert said in answer.err
    assert answer.err.count("\n") == 2


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _cut(path: Path, whole: Path) -> Path:
    return _file(path, whole.read_bytes()[:-1000])


def test_a_drift_is_an_exit_code_and_a_line(
    wild_bundle: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    bundle = resealed(wild_bundle, tmp_path / "b")
    (bundle / "golden" / "pictures" / "unknown.png").write_bytes(b"x")
    (bundle / "README.md").unlink()
    answer = command("verify", bundle)
    assert answer.exit_code == 1
    assert "README.md" in answer.out
    assert "unknown.png" in answer.out
    assert "1 of 5 checks failed" in answer.out
    assert command("verify", bundle, "--json").document["ok"] is False


def test_an_address_that_is_none_is_wrong_usage(
    wild_bundle: Path, command: Callable[..., Any]
) -> None:
    assert command("verify", wild_bundle, "--url", "localhost").exit_code == 2
