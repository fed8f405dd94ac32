from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from manifold_cases import F64, gaussian, seeds

from helpers.ranks import entropy_rank
from stiefel_lora.geometry import (
    effective_rank,
    gram_matrices,
    product_singular_values,
    product_spectrum,
    random_orthonormal,
    spectrum,
    spectrum_summary,
)


@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12), seeds)
def test_singular_values_equal_those_of_the_dense_product(out, width, rank, seed):
    up, down = gaussian(out, rank, seed=seed), gaussian(rank, width, seed=seed + 1)
    dense = torch.linalg.svdvals(up @ down)[:rank]
    found = product_singular_values(up.float(), down.float())
    torch.testing.assert_close(
        found[: len(dense)], dense, atol=1e-6 * float(dense[0]), rtol=0
    )
    assert (found[len(dense) :] <= 1e-6 * dense[0]).all()


@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 8), seeds)
def test_effective_rank_equals_its_dense_definition(out, width, rank, seed):
    up, down = gaussian(out, rank, seed=seed), gaussian(rank, width, seed=seed + 1)
    values = torch.linalg.svdvals(up @ down)[:rank]
    assert float(effective_rank(up.float(), down.float())) == pytest.approx(
        entropy_rank(values), rel=1e-6
    )


@given(st.integers(1, 10), seeds)
def test_orthonormal_b_has_the_spectrum_of_a(rank, seed):
    up = random_orthonormal(40, rank, seed=seed, dtype=F64)
    down = gaussian(rank, 30, seed=seed)
    torch.testing.assert_close(
        product_singular_values(up, down),
        torch.linalg.svdvals(down),
        atol=1e-12,
        rtol=1e-12,
    )


@pytest.mark.parametrize("digits", [2, 4, 6])
def test_a_collapsed_spectrum_is_resolved(digits):
    values = torch.logspace(0, -digits, 16, dtype=F64)
    up = random_orthonormal(300, 16, seed=0, dtype=F64) * values
    down = random_orthonormal(200, 16, seed=1, dtype=F64).mT
    found = product_singular_values(up.float(), down.float())
    # float32 storage of the factors moves a value by up to 6e-8 sigma_1.
    assert ((found - values).abs() < 6e-8).all()


def test_known_spectra():
    flat = spectrum_summary(torch.ones(16, dtype=F64))
    assert float(flat.effective) == pytest.approx(16)
    assert float(flat.stable) == pytest.approx(16)
    assert int(flat.k95) == 16
    spike = spectrum_summary(torch.tensor([1.0, 0.0, 0.0], dtype=F64))
    assert (float(spike.effective), float(spike.stable), int(spike.k95)) == (1, 1, 1)
    two = spectrum_summary(torch.tensor([3.0, 1.0], dtype=F64))
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert float(two.effective) == pytest.approx(expected)
    assert float(two.stable) == pytest.approx(10 / 9)


def test_orthonormal_b_does_not_make_the_product_full_rank():
    # The trap of reporting the rank of B: B is perfect and the product is rank one.
    up = random_orthonormal(60, 12, seed=0)
    down = gaussian(12, 1, seed=1).float() @ gaussian(1, 50, seed=2).float()
    identity = torch.eye(12)
    assert float(effective_rank(up, identity)) == pytest.approx(12, abs=1e-4)
    assert float(effective_rank(up, down)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("which", ["up", "down"])
def test_a_zero_product_has_rank_zero(which):
    up, down = torch.ones(6, 2), torch.ones(2, 5)
    (up if which == "up" else down).zero_()
    assert float(effective_rank(up, down)) == 0


def test_a_batch_equals_its_items():
    up, down = gaussian(3, 20, 4, seed=0), gaussian(3, 4, 10, seed=1)
    together = product_singular_values(up, down)
    for i in range(3):
        torch.testing.assert_close(together[i], product_singular_values(up[i], down[i]))


def test_convolution_factors_are_flattened():
    up, down = gaussian(8, 3, seed=0), gaussian(3, 4 * 9, seed=1)
    as_convolution = effective_rank(up.view(8, 3, 1, 1), down.view(3, 4, 3, 3))
    torch.testing.assert_close(as_convolution, effective_rank(up, down))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("digits", [4, 8, 12])
def test_lengths_that_undo_one_another_cost_no_digits(digits, turned):
    """Columns of B span 10^-digits, and the rows of A make up for it."""
    b, a = gaussian(40, 8, seed=1).float(), gaussian(8, 30, seed=2).float()
    plain = effective_rank(b, a)
    lengths = torch.logspace(0, -digits, 8)
    if turned:
        lengths = lengths.flip(0)
    scaled = effective_rank(b * lengths, a / lengths[:, None])
    assert scaled.item() == pytest.approx(plain.item(), rel=1e-5)


def test_a_bad_item_leaves_the_batch_alone():
    b, a = gaussian(3, 10, 4, seed=1), gaussian(3, 4, 9, seed=2)
    good = effective_rank(b, a)
    b[1, 0, 0] = math.nan
    found = effective_rank(b, a)
    assert found.isnan().tolist() == [False, True, False]
    assert torch.equal(found[[0, 2]], good[[0, 2]])


def columns(smallest: float, seed: int = 0) -> torch.Tensor:
    """Columns whose unit Gram matrix is singular to ``smallest``."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(500, 8, generator=generator, dtype=torch.float64)
    found[:, 1] = found[:, 0] + smallest * found[:, 1]
    # Lengths differ by 1e4, which float32 holds.
    return found * torch.logspace(-4, 0, 8, dtype=torch.float64)


@pytest.mark.parametrize("smallest", [1.0, 0.3, 1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_gram_matrices_resolve_what_float32_factors_hold(smallest, scale):
    up, down = (scale * columns(smallest, seed) for seed in (0, 1))
    up, down = up.float(), down.float()
    grams = (gram_matrices([side[None], side[None]]) for side in (up, down))
    found = product_spectrum(*grams)
    exact = product_singular_values(up, down.mT).expand(2, -1)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)


def test_only_columns_that_are_nearly_parallel_need_float64(monkeypatch):
    wide = []
    monkeypatch.setattr(spectrum, "_gram", lambda tall: wide.append(tall) or 0.0)
    sides = [columns(smallest).float()[None] for smallest in (1.0, 0.5, 1e-2, 1e-4)]
    gram_matrices(sides)
    assert len(wide) == 2
    wide.clear()
    empty, broken = torch.zeros(1, 9, 3), torch.full((1, 9, 3), float("nan"))
    gram_matrices([empty, broken])
    assert len(wide) == 2
