from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora.files import LoraFactors, compress

F64 = torch.float64


def product(factors: LoraFactors) -> torch.Tensor:
    up, down = factors.up.flatten(1).double(), factors.down.flatten(1).double()
    return factors.scale * up @ down


@st.composite
def factors(draw: st.DrawFn) -> LoraFactors:
    out, into, rank = (draw(st.integers(1, 9)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kernel = draw(st.sampled_from([(), (1, 1), (3, 3)]))
    flat = (1,) * len(kernel)
    up = torch.randn(out, rank, *flat, generator=generator, dtype=F64)
    down = torch.randn(rank, into, *kernel, generator=generator, dtype=F64)
    return LoraFactors(up, down, alpha=draw(st.floats(0.1, 100)))


@given(factors(), st.integers(1, 12))
def test_it_is_the_best_lora_of_that_rank_and_returns_the_error(given_factors, rank):
    whole = product(given_factors)
    found, lost = compress({"unet.a": given_factors}, rank)
    kept = found["unet.a"]
    sigma = torch.linalg.svdvals(whole)
    size = float(sigma.norm())
    assert kept.rank <= min(rank, given_factors.rank, *whole.shape)
    assert kept.alpha == kept.rank
    assert kept.up.shape[2:] == given_factors.up.shape[2:]
    assert kept.down.shape[2:] == given_factors.down.shape[2:]
    best = float(sigma[kept.rank :].norm())
    error = float((product(kept) - whole).norm())
    assert error == pytest.approx(best, abs=1e-12 * size)
    assert lost * size == pytest.approx(best, abs=1e-12 * size)
    up = kept.up.flatten(1)
    assert (up.T @ up - torch.eye(kept.rank, dtype=F64)).abs().max() < 1e-12


def test_zero_stays_zero():
    zero = LoraFactors(torch.zeros(6, 4), torch.zeros(4, 5), alpha=4)
    found, lost = compress({"unet.a": zero}, 2)
    assert lost == 0
    assert not product(found["unet.a"]).any()


def test_the_loss_is_that_of_all_layers_together():
    one = LoraFactors(torch.eye(4), torch.diag(torch.tensor([2.0, 0, 0, 0])), alpha=4)
    two = LoraFactors(torch.eye(4), torch.diag(torch.tensor([2.0, 1, 0, 0])), alpha=4)
    _, lost = compress({"unet.a": one, "unet.b": two}, 1)
    assert lost == pytest.approx(1 / 3)
