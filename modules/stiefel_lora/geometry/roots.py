r"""Inverse square roots and polar factors, computed with matrix products only.

All functions are batched over leading dimensions and run a fixed number of iterations
on r x r matrices, so that they do not synchronize. Sums of a matrix and a product use a
single kernel (baddbmm), because the launch time dominates for small matrices. Notation:
Gram matrix :math:`K = M^T M`, polar factor :math:`\mathrm{msign}(M) = M (M^T M)^{-1/2}
= U V^T` for :math:`M = U \Sigma V^T`.

References:
    N. J. Higham, "Functions of Matrices", SIAM 2008, section 6.3 (coupled
    Newton-Schulz). N. Amsel, D. Persson, C. Musco, R. M. Gower, "The Polar Express",
    2025, arXiv:2505.16932 (polynomials of the first pass).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gram import gram_of

__all__ = [
    "damped_cholesky",
    "inverse_cholesky",
    "inverse_sqrt",
    "inverse_sqrt_of_retraction",
    "joint_polar_core",
    "polar_core",
    "polar_factor",
    "spectral_norm",
    "spectral_norm_of_gram",
    "trace",
]

# Odd quintics a + b s^2 + c s^4 (times s) that in this order lift every singular value
# of [1e-3, 1] to within 2e-3 of 1 (Polar Express with l = 1e-3).
_LIFT = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
)
# The same for [3e-3, 1], to within 5e-3 of 1, with one polynomial fewer.
_LIFT_JOINT = (
    (8.383673612923165, -24.765905857974534, 18.357081892887596),
    (4.043420433700426, -3.011404993841532, 0.5695121503191821),
    (3.5055706172438947, -2.626653835618101, 0.5257194048203221),
    (2.490115939444255, -1.8342750827526715, 0.4368347068954249),
    (1.9177762487314507, -1.2967501911246457, 0.37970487539858583),
)
# And for [0.3, 1], to within 4e-10 of 1.
_LIFT_NEAR = (
    (3.477677198167603, -5.944945679617078, 3.575789686410876),
    (1.8875395671600854, -1.2638633840877664, 0.37638902019316733),
    (1.875000678226984, -1.2500007536286393, 0.3750000754018491),
)
# The Newton-Schulz quintic: third order, fixed point 1 with derivative 0.
_POLISH = ((1.875, -1.25, 0.375),) * 3


def inverse_sqrt(
    gram: Tensor, iterations: int | None = None, *, center: float | None = None
) -> Tensor:
    """Compute K^(-1/2) of symmetric positive definite K by coupled Newton-Schulz.

    Let q = lambda / lambda_max for an eigenvalue lambda. If q > 1/3, its error is
    squared in each iteration. A smaller q is first multiplied by 9/4 per iteration. 12
    iterations converge to float32 precision for q = 1e-2, and 6 for q = 1/2.

    Args:
        gram: K, ``(*batch, r, r)``.
        iterations: number of iterations. The default is 12, or 14 in float64.
        center: center of an interval that contains all eigenvalues, if known. K is
            divided by it, and the error e = max|1 - lambda / center| becomes (3 e^2 +
            e^3) / 4 in each iteration. If None, K is divided by its largest row sum.

    Returns:
            K^(-1/2), ``(*batch, r, r)``, symmetric up to rounding.
    """
    if iterations is None:
        iterations = 14 if gram.dtype == torch.float64 else 12
    flat = _flat(gram)
    scale: float | Tensor
    if center is None:
        # The largest absolute row sum bounds lambda_max without a factorization.
        scale = flat.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)
    else:
        scale = center
    forward, inverse = flat / scale, _identity(gram).expand_as(flat)
    # Two coupled sequences, to K^(1/2) and K^(-1/2): the uncoupled iteration is
    # unstable. The first product and the last half of an iteration are skipped.
    for left in range(iterations, 0, -1):
        product = forward if left == iterations else inverse @ forward
        inverse = torch.baddbmm(inverse, product, inverse, beta=1.5, alpha=-0.5)
        if left > 1:
            forward = torch.baddbmm(forward, forward, product, beta=1.5, alpha=-0.5)
    return (inverse * scale**-0.5).view(gram.shape)


def polar_core(gram: Tensor) -> Tensor:
    """Compute T = K^(-1/2) with M T = msign(M) from the Gram matrix K = M^T M.

    In float32, the entries of K have errors of 1e-7 tr K. Singular values of M above
    1e-2 ||M||_F are mapped to 1 with an error of at most 4e-3, and those of 1e-3
    ||M||_F with an error of 0.25. Smaller ones are reduced, not amplified. For K = 0, T
    is finite.

    Args:
        gram: ``(*batch, r, r)``, symmetric, not negative beyond rounding.

    Returns:
        ``(*batch, r, r)``, symmetric to rounding.
    """
    # The trace bounds the largest eigenvalue without a factorization, and the
    # polynomials need singular values in [0, 1].
    size = trace(gram) + torch.finfo(gram.dtype).tiny
    polish = _POLISH if gram.dtype == torch.float64 else _POLISH[:1]
    core = _polynomials(_flat(gram / size), _LIFT + polish)
    return core.view(gram.shape) * size.rsqrt()


def joint_polar_core(gram: Tensor) -> Tensor:
    """Compute K^(-1/2) of a 2r x 2r Gram matrix K where it is resolved.

    A faster variant of :func:`polar_core` for matrices that are twice as wide: K is
    divided by its Frobenius norm, which lies between the trace and the largest
    eigenvalue, and one polynomial fewer is used. In float32, singular values of M above
    3e-3 ||M||_2 r^(1/4) are mapped to 1 with an error of at most 5e-3. Smaller ones are
    reduced. For K = 0, the result is finite.

    Args:
        gram: ``(*batch, r, r)``, symmetric, not negative beyond rounding.

    Returns:
        ``(*batch, r, r)``, symmetric to rounding.
    """
    norm, whole = torch.linalg.matrix_norm(gram, keepdim=True), trace(gram)
    # The norm is at least trace / sqrt(r), except where its squares underflow (below
    # 1e-19 in float32). Divided by it, K would be large, and the polynomials diverge.
    least = 0.9 * gram.shape[-1] ** -0.5
    size = torch.where(norm >= least * whole, norm, whole)
    size = size + torch.finfo(gram.dtype).tiny
    polish = _POLISH if gram.dtype == torch.float64 else ()
    core = _polynomials(_flat(gram / size), _LIFT_JOINT + polish)
    return core.view(gram.shape) * size.rsqrt()


def inverse_sqrt_of_retraction(gram: Tensor, steepest: float) -> Tensor:
    """Compute K^(-1/2) of K = I + S with 0 <= S <= steepest^2 <= 9, up to rounding.

    The eigenvalues of K / (1 + steepest^2) are in [0.1, 1]. In this interval, three
    polynomials have an error of at most 4e-10.
    """
    # Directions from joint_polar_core are up to 5e-3 longer than 1, so S may exceed
    # steepest^2 by 1 %.
    bound = 1.02 * (1 + steepest**2)
    polish = _POLISH[:1] if gram.dtype == torch.float64 else ()
    flat = _flat(gram)
    root = _polynomials(flat / bound, _LIFT_NEAR + polish) * bound**-0.5
    # The lift that keeps the polynomials positive makes the root too small by some 1e-6
    # in float32, for K = I too. At every step, A would shrink by that much. One step of
    # Newton's method squares this error. It is added as a correction, since a product
    # with a factor next to 1 would be rounded down.
    error = torch.baddbmm(_identity(flat), flat, root @ root, alpha=-1)
    return torch.baddbmm(root, root, error, alpha=0.5)


def damped_cholesky(gram: Tensor, shift: Tensor) -> Tensor:
    """Factor K + shift I = L L^T. Return L, ``(*batch, r, r)``.

    This function does not synchronize. If K + shift I is indefinite because of rounding
    errors, a hundredth of the trace is added to the shift.

    Args:
        gram: K, symmetric, not negative beyond rounding.
        shift: positive, ``(*batch, 1, 1)``.
    """
    identity = _identity(gram)
    # cholesky_ex returns a failure as a tensor; cholesky would raise and synchronize.
    factor, failed = torch.linalg.cholesky_ex(gram + shift * identity)
    if reads_freely(gram) and not failed.numpy().any():
        return factor
    safe = gram + (shift + 1e-2 * trace(gram)) * identity
    # On a GPU always both, selected by a mask: to factor the second one only on
    # failure, the host would have to read the flag.
    other, _ = torch.linalg.cholesky_ex(safe)
    return torch.where((failed > 0)[..., None, None], other, factor)


def inverse_cholesky(gram: Tensor, shift: Tensor) -> Tensor:
    """Compute L^-1 of K + shift I = L L^T (see :func:`damped_cholesky`).

    For K = M M^T, the rows of L^-1 M are an orthonormal basis of the rows of M, except
    in directions that are small compared to the square root of the shift.
    """
    factor = damped_cholesky(gram, shift)
    identity = _identity(gram).expand_as(factor)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def polar_factor(matrix: Tensor) -> Tensor:
    """Compute msign(M), the nearest matrix with orthonormal columns, without an SVD.

    Two passes over the Gram matrix are used: the first one increases small singular
    values, the second one removes the remaining errors. In float32, singular values
    above 1e-3 ||M||_F are mapped to 1 up to rounding, and those of 1e-4 ||M||_F to at
    least 1/2. Smaller ones are rounding errors of M, and are reduced instead of
    amplified. In float64, with an additional pass, these limits are 1e-6 and 1e-7. For
    M = 0, the result is 0.

    Args:
        matrix: ``(*batch, m, r)`` with m >= r for orthonormal columns. A wide matrix is
            transposed.

    Returns:
        ``(*batch, m, r)``, singular values in [0, 1 + 1e-5].
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        return polar_factor(matrix.mT).mT
    tiny = torch.finfo(matrix.dtype).tiny ** 0.5
    norm = torch.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True)
    found = _flat(matrix / (norm + tiny))
    if matrix.dtype == torch.float64:
        found = found @ _polynomials(gram_of(found), _LIFT)
        # The polynomials accept values up to 1, and end up to 2e-3 above it.
        found = 0.99 * found
    for polynomials in (_LIFT, _POLISH):
        found = found @ _polynomials(gram_of(found), polynomials)
    return found.view(matrix.shape)


def spectral_norm(matrix: Tensor, squarings: int = 10) -> Tensor:
    """Compute the spectral norms of ``(*batch, m, r)``, as ``(*batch, 1, 1)``."""
    return spectral_norm_of_gram(gram_of(matrix), squarings)


def spectral_norm_of_gram(gram: Tensor, squarings: int = 10) -> Tensor:
    """Compute the largest singular value of M from K = M^T M, ``(*batch, r, r)``.

    With Z = (K / tr K)^(2^n), the Rayleigh quotient tr(Z K) / tr(Z) is smaller than the
    largest eigenvalue by a fraction of at most about log(r) / 2^n, 0.4 % at rank 64.

    Returns:
        ``(*batch, 1, 1)``.
    """
    size = trace(gram) + torch.finfo(gram.dtype).tiny
    gram = gram / size
    power = gram
    for _ in range(squarings):
        power = power @ power
        # Otherwise, powers underflow in float32: 0.9^1024 is 1e-47.
        power = power / (trace(power) + torch.finfo(gram.dtype).tiny)
    return (size * trace(power @ gram)).clamp_min(0).sqrt()


def reads_freely(tensor: Tensor) -> bool:
    """Return whether reading a number of the tensor does not synchronize."""
    return tensor.device.type == "cpu"


def trace(matrix: Tensor) -> Tensor:
    """Compute the trace of a matrix ``(*batch, r, r)``, as ``(*batch, 1, 1)``."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


def _flat(matrix: Tensor) -> Tensor:
    """Reshape to one batch dimension, as baddbmm requires."""
    return matrix.reshape(-1, *matrix.shape[-2:])


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _polynomials(
    gram: Tensor, polynomials: tuple[tuple[float, float, float], ...]
) -> Tensor:
    """Return the product of the matrices p(K) for a sequence of polynomials s p(s^2).

    To apply X <- X p(X^T X) repeatedly, only K = X^T X is needed: K <- p(K) K p(K).
    With p(K) = a I + Q, a product with p(K) is a multiple of the operand plus a product
    with Q.
    """
    identity = _identity(gram)
    # Rounding can make a zero eigenvalue of K negative, and the polynomials would
    # amplify it; the shift keeps it positive.
    gram = gram + 4 * torch.finfo(gram.dtype).eps * identity
    total = identity.expand_as(gram)
    for place, (a, b, c) in enumerate(polynomials, start=1):
        q = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        total = a * identity + q if place == 1 else _times(total, a, q)
        if place < len(polynomials):
            half = _times(gram, a, q)
            gram = torch.baddbmm(half, q, half, beta=a)
    return total


def _times(matrix: Tensor, a: float, q: Tensor) -> Tensor:
    """Compute M (a I + Q)."""
    return torch.baddbmm(matrix, matrix, q, beta=a)
