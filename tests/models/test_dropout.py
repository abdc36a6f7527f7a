"""Our dropout against the definition of inverted dropout."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sartor.models import dropout
from sartor.models.dropout import Dropout

SEVERAL_SHAPES = [(1,), (3,), (5, 7), (32, 512), (2, 3, 5, 7), (0,), (4, 0), ()]


def dropped(values: Tensor, p: float, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    result: Tensor = Dropout(p)(values)
    return result


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_the_share_of_zeros_is_p(p: float) -> None:
    count = 1_000_003
    zeros = int((dropped(torch.ones(count), p) == 0).sum())
    deviation = math.sqrt(count * p * (1 - p))
    # 4.9 deviations: one false alarm in a million; and the rounding to 1/65536.
    assert abs(zeros - count * p) < 4.9 * deviation + count / 2**17


def test_every_position_in_a_word_of_64_bits_is_as_likely() -> None:
    zeros = (dropped(torch.ones(400_000), 0.3) == 0).view(-1, 4).sum(dim=0)
    assert (zeros - 30_000).abs().max() < 4.9 * math.sqrt(100_000 * 0.3 * 0.7)


def test_neighbours_are_independent() -> None:
    zeros = (dropped(torch.ones(400_001), 0.5) == 0).double() - 0.5
    for distance in (1, 2, 3, 4, 5, 8):
        products = zeros[:-distance] * zeros[distance:] * 4
        assert abs(products.sum()) < 4.9 * math.sqrt(len(products))


def test_what_stays_is_scaled_so_that_the_expectation_stays() -> None:
    values = torch.rand(4096) + 1
    result = dropped(values, 0.25)
    kept = result != 0
    torch.testing.assert_close(result[kept], values[kept] / 0.75)
    # 0.2 is no multiple of 1/65536: scale and probability are rounded together.
    share = 1 - round(0.2 * 65536) / 65536
    assert dropped(torch.ones(100), 0.2).max().item() == pytest.approx(1 / share, rel=1e-7)


def test_the_gradient_is_the_mask_times_the_scale() -> None:
    values = torch.rand(33, 5, dtype=torch.float64).add(1).requires_grad_()
    result = dropped(values, 0.4)
    (gradient,) = torch.autograd.grad(result.sum(), values)
    torch.testing.assert_close(gradient, (result / values).detach())
    assert torch.autograd.gradcheck(lambda x: dropped(x, 0.4), values)


@pytest.mark.parametrize("shape", SEVERAL_SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    result = dropped(torch.ones(shape, dtype=dtype), 0.5)
    assert result.shape == shape
    assert result.dtype == dtype
    assert ((result == 0) | (result == 2)).all()


def test_the_mask_follows_the_seed_and_not_the_layout() -> None:
    images = torch.rand(4, 3, 5, 7) + 1
    expected = dropped(images, 0.5)
    assert torch.equal(dropped(images, 0.5), expected)
    assert not torch.equal(dropped(images, 0.5, seed=1), expected)
    channels_last = dropped(images.contiguous(memory_format=torch.channels_last), 0.5)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(channels_last, expected)
    strided = torch.rand(7, 5, 3, 4)
    strided.copy_(images.permute(3, 2, 1, 0))
    assert torch.equal(dropped(strided.permute(3, 2, 1, 0), 0.5), expected)


def test_two_calls_draw_two_masks() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.5)
    assert not torch.equal(layer(torch.ones(100)), layer(torch.ones(100)))


def test_evaluation_and_p_of_0_change_nothing_and_draw_nothing() -> None:
    values = torch.rand(10)
    before = torch.random.get_rng_state()
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values
    assert torch.equal(torch.random.get_rng_state(), before)


def test_elsewhere_than_on_the_cpu_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def noted(values: Tensor, p: float, training: bool) -> Tensor:
        calls.append((values.device.type, p, training))
        return values

    monkeypatch.setattr(F, "dropout", noted)
    assert Dropout(0.3)(torch.ones(5, device="meta")).device.type == "meta"
    assert calls == [("meta", 0.3, True)]


def test_a_probability_next_to_1_still_keeps_the_expectation_finite() -> None:
    result = dropped(torch.ones(1_000_000), 1 - 1e-9)
    assert set(result.unique().tolist()) == {0.0, float(dropout._WORDS)}


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
def test_p_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        Dropout(p)


def test_its_repr_shows_p() -> None:
    assert repr(Dropout(0.2)) == "Dropout(p=0.2)"
