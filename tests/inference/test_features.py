"""Features: computed once, kept, found again, and computed again where they were damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sartor.inference.features import BLOCK, Features, hashes_of


class Tiny(nn.Module):
    """Four features of an image, and how often they were asked for."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Linear(3 * 4 * 4, 4)
            self.head = nn.Linear(4, 2)
        self.asked = 0

    def features(self, images: Tensor) -> Tensor:
        self.asked += 1
        return self.body(images.flatten(1)).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def images_of(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=generator)


def features_of(
    images: Tensor, network: nn.Module, *, mirrored: bool = False, runtime: str = "torch"
) -> Features:
    return Features(
        network=network,
        name="tiny",
        images=images,
        floats=lambda batch: batch.float() / 255,
        normalization=((0.0,), (1.0,)),
        device="cpu",
        amp_dtype="float32",
        pixels_sha256=hashes_of(images.numpy()),
        mirrored=mirrored,
        runtime=runtime,
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
    return tmp_path


def filled(features: Features) -> Features:
    list(features.computed(lambda _: None))
    return features


def everything(features: Features) -> np.ndarray:
    return features.of(np.arange(len(features.images)))


def by_hand(images: Tensor, network: Tiny) -> np.ndarray:
    with torch.no_grad():
        return network.features(images.float() / 255).numpy()


def array_in(home: Path) -> Path:
    return next(home.glob("features/*/features.f32"))


class TestFeatures:
    def test_they_are_what_the_network_gives(self) -> None:
        images, network = images_of(BLOCK + 5), Tiny()
        found = everything(filled(features_of(images, network)))
        np.testing.assert_allclose(found, by_hand(images, network), rtol=1e-5, atol=1e-6)

    def test_once_computed_the_network_is_not_asked_again(self) -> None:
        images, network = images_of(BLOCK + 5), Tiny()
        first = everything(filled(features_of(images, network)))
        again = Tiny()
        assert np.array_equal(everything(filled(features_of(images, again))), first)
        assert network.asked == 2
        assert again.asked == 0

    def test_other_order_and_fewer_images_find_theirs(self) -> None:
        images, network = images_of(BLOCK), Tiny()
        first = everything(filled(features_of(images, network)))
        rows = torch.tensor([7, 3, 3, 20])
        fewer = filled(features_of(images[rows], Tiny()))
        assert fewer.network.asked == 0
        assert np.array_equal(everything(fewer), first[rows.numpy()])

    def test_added_images_are_all_that_is_computed(self) -> None:
        images = images_of(2 * BLOCK)
        filled(features_of(images[:BLOCK], Tiny()))
        more = features_of(images, Tiny())
        assert more.missing().tolist() == list(range(BLOCK, 2 * BLOCK))

    def test_an_images_features_do_not_depend_on_the_others(self, home: Path) -> None:
        images = images_of(BLOCK)
        together = everything(filled(features_of(images, Tiny())))
        array_in(home).unlink()
        alone = everything(filled(features_of(images[5:6], Tiny())))
        assert np.array_equal(alone[0], together[5])

    def test_other_weights_are_other_features(self) -> None:
        images = images_of(4)
        filled(features_of(images, Tiny()))
        assert len(features_of(images, Tiny(seed=1)).missing()) == 4

    def test_a_new_head_is_not_other_weights(self) -> None:
        images, network = images_of(4), Tiny()
        filled(features_of(images, network))
        with torch.no_grad():
            network.head.weight.zero_()
        assert not len(features_of(images, network).missing())

    def test_mirrored_views_are_an_array_of_their_own(self) -> None:
        images, network = images_of(4), Tiny()
        filled(features_of(images, network))
        mirrored = everything(filled(features_of(images, network, mirrored=True)))
        expected = by_hand(images.flip(3), network)
        np.testing.assert_allclose(mirrored, expected, rtol=1e-5, atol=1e-6)

    def test_stopped_in_the_middle_it_goes_on_there(self) -> None:
        images, network = images_of(3 * BLOCK), Tiny()
        work = features_of(images, network).computed(lambda _: None)
        assert next(work).done == BLOCK
        work.close()
        rest = Tiny()
        found = everything(filled(features_of(images, rest)))
        assert rest.asked == 2
        np.testing.assert_allclose(found, by_hand(images, network), rtol=1e-5, atol=1e-6)

    def test_a_changed_byte_is_noticed_and_computed_again(self, home: Path) -> None:
        images, network = images_of(2 * BLOCK), Tiny()
        first = everything(filled(features_of(images, network)))
        path = array_in(home)
        content = bytearray(path.read_bytes())
        content[3] ^= 1
        path.write_bytes(bytes(content))
        damaged = features_of(images, Tiny())
        assert len(damaged.missing()) == BLOCK
        assert np.array_equal(everything(filled(damaged)), first)

    def test_a_torn_last_line_costs_only_its_block(self, home: Path) -> None:
        images = images_of(2 * BLOCK)
        first = everything(filled(features_of(images, Tiny())))
        index = next(home.glob("features/*/index.jsonl"))
        index.write_bytes(index.read_bytes()[:-20])
        torn = features_of(images, Tiny())
        assert len(torn.missing()) == BLOCK
        assert np.array_equal(everything(filled(torn)), first)
        assert not len(features_of(images, Tiny()).missing())


class Convolutional(nn.Module):
    """A backbone that ONNX Runtime knows."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Conv2d(3, 6, 3)
            self.head = nn.Linear(6, 2)

    def features(self, images: Tensor) -> Tensor:
        return self.body(images).relu().mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class TestRuntime:
    def test_both_give_the_same_features_in_arrays_of_their_own(self, home: Path) -> None:
        images = images_of(BLOCK + 5)
        one, other = (
            everything(filled(features_of(images, Convolutional(), runtime=runtime)))
            for runtime in ("onnx", "torch")
        )
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        assert len(list(home.glob("features/*/features.f32"))) == 2

    @pytest.mark.parametrize("faster", ["onnx", "torch"])
    def test_the_faster_one_is_taken_said_and_kept(
        self, monkeypatch: pytest.MonkeyPatch, faster: str
    ) -> None:
        import sartor.inference.features as module

        measured: list[object] = []

        def in_turns(ways: dict[str, object]) -> tuple[dict[str, float], dict[str, object]]:
            measured.append(ways)
            found = {name: way() for name, way in ways.items()}  # type: ignore[operator]
            return {name: 0.1 if name == faster else 1.0 for name in ways}, found

        monkeypatch.setattr(module, "_in_turns", in_turns)
        said: list[str] = []
        images = images_of(3 * BLOCK)
        first = features_of(images, Convolutional(), runtime="auto")
        list(first.computed(said.append))
        assert first.runtime == faster
        name = {"onnx": "ONNX Runtime", "torch": "PyTorch"}[faster]
        assert any(f"features by {name}: 80 pictures/s" in text for text in said)
        more = features_of(images_of(4 * BLOCK, seed=1), Convolutional(), runtime="auto")
        assert more.runtime == faster
        mirrored = features_of(images, Convolutional(), runtime="auto", mirrored=True)
        list(mirrored.computed(said.append))
        assert mirrored.runtime == faster
        assert len(measured) == 1

    def test_what_is_there_already_decides_where_nothing_was_measured(self) -> None:
        images = images_of(2 * BLOCK)
        filled(features_of(images[: BLOCK + 9], Convolutional(), runtime="torch"))
        assert features_of(images, Convolutional(), runtime="auto").runtime == "torch"
        assert features_of(images_of(9, seed=5), Convolutional(), runtime="auto").runtime == "auto"

    def test_a_few_images_are_not_measured(self) -> None:
        said: list[str] = []
        features = features_of(images_of(9), Convolutional(), runtime="auto")
        list(features.computed(said.append))
        assert features.runtime == "torch"
        assert said == []

    def test_a_network_that_it_does_not_know_is_computed_by_pytorch(self) -> None:
        class Sorting(Convolutional):
            def features(self, images: Tensor) -> Tensor:
                return self.body(images).flatten(2).sort().values[..., -1]

        features = features_of(images_of(3 * BLOCK), Sorting(), runtime="auto")
        assert everything(filled(features)).shape == (3 * BLOCK, 6)
        assert features.runtime == "torch"

    def test_other_features_are_not_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from sartor.inference.onnx_graph import Session

        call = Session.__call__
        monkeypatch.setattr(Session, "__call__", lambda self, images: call(self, images) * 1.01)
        said: list[str] = []
        features = features_of(images_of(3 * BLOCK), Convolutional(), runtime="auto")
        list(features.computed(said.append))
        assert features.runtime == "torch"
        assert (
            "features by ONNX Runtime differ from those by PyTorch, so PyTorch computes them"
            in said
        )
