from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora.geometry import cross_gram, gram_of


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 400),
    columns=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    batch=st.sampled_from([(), (3,), (2, 2)]),
    seed=st.integers(0, 2**16),
)
def test_it_is_the_product(height, columns, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    one, other = (
        torch.randn(*batch, height, width, generator=generator, dtype=torch.float64)
        for width in columns
    )
    wanted = torch.einsum("...ij,...ik->...jk", one, other)
    torch.testing.assert_close(cross_gram(one, other), wanted, rtol=0, atol=1e-11)
    torch.testing.assert_close(gram_of(one), one.mT @ one, rtol=0, atol=1e-11)


@pytest.mark.parametrize("height", [18432, 20011, 100_000])
@pytest.mark.parametrize("rank", [1, 4, 11, 12])
@pytest.mark.parametrize(
    "layout", ["contiguous", "part of wider rows", "every second column", "transposed"]
)
def test_float32_errors_do_not_grow_with_the_height(height, rank, layout):
    generator = torch.Generator().manual_seed(rank)
    # Of rank 1, where errors make eigenvalues negative.
    column = torch.randn(height, 1, generator=generator)
    matrix = column @ torch.randn(1, rank, generator=generator)
    if layout == "part of wider rows":
        matrix = torch.cat([matrix, matrix], -1)[:, :rank]
    if layout == "every second column":
        matrix = torch.stack([matrix, matrix], -1)[..., 0]
    if layout == "transposed":
        matrix = matrix.mT.contiguous().mT
    exact = matrix.double().mT @ matrix.double()
    error = (gram_of(matrix) - exact).abs().max() / exact.trace()
    # A single row is summed like a vector.
    assert error <= (3e-5 if layout == "transposed" else 5e-7)
