"""SVDs of any finite matrix, also where LAPACK's own does not converge.

``linalg.svd: failed to converge`` was reported of Riemannion at rank 64, at a rate
where all singular values of the core are nearly equal. It could not be reproduced with
the versions in constraints.txt, so the tests make LAPACK fail themselves.
"""

from __future__ import annotations

import pytest
import torch

from stiefel_lora.geometry import pseudo_inverse, thin_svd, truncate_factored

F32, F64 = torch.float32, torch.float64
KINDS = ["equal", "clusters", "deficient", "zero", "denormal", "huge", "graded", "any"]
SHAPES = [(8, 8), (16, 5), (5, 16), (33, 33), (1, 1), (64, 64)]


def cores(kind: str, shape: tuple[int, int], count: int, seed: int) -> torch.Tensor:
    """Random matrices with singular values of one kind, ``(count, *shape)``."""
    chance = torch.Generator().manual_seed(seed)
    size = min(shape)
    left, right = (
        torch.linalg.qr(torch.randn(count, n, size, generator=chance, dtype=F64))[0]
        for n in shape
    )
    values = torch.rand(count, size, generator=chance, dtype=F64)
    if kind == "equal":
        values = torch.ones_like(values)
    elif kind == "clusters":
        values = 10.0 ** -(3 * values).round() * (1 + 1e-7 * values)
    elif kind == "deficient":
        values[:, size // 2 :] = 0
    elif kind == "zero":
        values = torch.zeros_like(values)
    elif kind == "denormal":
        values = 1e-41 * values
    elif kind == "huge":
        values = 1e37 * values
    elif kind == "graded":
        values = 10.0 ** (-12 * values)
    return ((left * values.unsqueeze(-2)) @ right.mT).to(F32)


@pytest.fixture(params=["lapack", "float32 fails", "every SVD fails"])
def lapack(request, monkeypatch):
    """LAPACK as it is, without its SVD in float32, and without any SVD."""
    real = torch.linalg.svd

    def svd(matrix, **options):
        if matrix.dtype == F32 or request.param == "every SVD fails":
            raise torch.linalg.LinAlgError("linalg.svd: failed to converge")
        return real(matrix, **options)

    if request.param != "lapack":
        monkeypatch.setattr(torch.linalg, "svd", svd)


@pytest.mark.parametrize("kind", KINDS)
def test_every_finite_matrix_has_its_svd(lapack, kind):
    for seed, shape in enumerate(SHAPES):
        matrix = cores(kind, shape, 50, seed)
        u, sigma, vh = thin_svd(matrix)
        assert {part.dtype for part in (u, sigma, vh)} == {F32}
        largest = sigma[:, 0].double()[:, None, None]
        identity = torch.eye(min(shape), dtype=F64)
        u, sigma, vh = u.double(), sigma.double(), vh.double()
        assert (u.mT @ u - identity).abs().max() <= 1e-5
        assert (vh @ vh.mT - identity).abs().max() <= 1e-5
        back = (u * sigma.unsqueeze(-2)) @ vh
        # Denormal numbers are multiples of 1.4e-45.
        slack = 1e-5 * largest + 50 * 1.4e-45
        assert ((back - matrix.double()).abs() <= slack).all()
        assert (sigma >= 0).all()
        assert (sigma.diff() <= 0).all()
        exact = torch.linalg.svdvals(matrix.double())
        assert ((sigma - exact).abs() <= slack[..., 0]).all()


def test_the_bits_are_those_of_lapack_where_it_converges():
    matrix = cores("any", (9, 6), 5, 0)
    for ours, theirs in zip(
        thin_svd(matrix), torch.linalg.svd(matrix, full_matrices=False), strict=True
    ):
        assert torch.equal(ours, theirs)
    inverse = torch.linalg.pinv(matrix, rtol=1e-6)
    assert torch.equal(pseudo_inverse(matrix, 1e-6), inverse)


def test_pseudo_inverse_without_an_svd_of_lapack(monkeypatch):
    for kind in ("any", "deficient", "zero"):
        matrix = cores(kind, (7, 7), 20, 1)
        wanted = torch.linalg.pinv(matrix.double(), rtol=1e-4)

        def fail(*given, **options):
            raise torch.linalg.LinAlgError("linalg.svd: failed to converge")

        with monkeypatch.context() as patch:
            patch.setattr(torch.linalg, "pinv", fail)
            patch.setattr(torch.linalg, "svd", fail)
            found = pseudo_inverse(matrix, 1e-4).double()
        error = (found - wanted).abs().amax((-2, -1))
        size = wanted.abs().amax((-2, -1))
        # A condition up to 1e4 at float32 rounding of the factors.
        assert (error <= 1e-2 * size.clamp_min(1e-30)).all()


def test_truncation_without_an_svd_of_lapack(lapack):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(2, n, 6, generator=generator) for n in (20, 15))
    u, sigma, v = truncate_factored(p, q, 3)
    exact = torch.linalg.svdvals((p @ q.mT).double())[:, :3]
    torch.testing.assert_close(sigma.double(), exact, rtol=1e-5, atol=0)
    back = (u * sigma.unsqueeze(-2)) @ v.mT
    left = torch.linalg.matrix_norm((p @ q.mT - back).double())
    whole = torch.linalg.svdvals((p @ q.mT).double())[:, 3:].square().sum(-1).sqrt()
    torch.testing.assert_close(left, whole, rtol=1e-4, atol=0)


def test_nan_is_refused(lapack):
    matrix = cores("any", (6, 6), 3, 0)
    matrix[1, 2, 3] = float("nan")
    with pytest.raises(torch.linalg.LinAlgError):
        thin_svd(matrix)
