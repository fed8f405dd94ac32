r"""Frobenius norms of updates and of differences between updates.

:math:`\|\sum_j s_j B_j A_j\|_F` is the norm of the product of the concatenated factors,
and :math:`\|B A\|_F^2 = \langle B^T B, A A^T \rangle`. If the terms cancel each other,
Gram matrices are not precise enough, and two thin QR decompositions are used instead.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..weights import LoraFactors

__all__ = [
    "compared",
    "difference",
    "equal_numbers",
    "is_rounding",
    "relative",
    "update_norm",
]

# Gram matrices in float64 resolve a difference down to 1e-8 of the parts, so that from
# here on ten digits of it are right.
_CANCELLED = 1e-3
# Share of the diagonal terms above which float32 is accurate to six digits.
_PLAIN = 0.5
# Range of squared norms in which float32 neither overflows nor underflows.
_RANGE = (1e-20, 1e20)

# Rows of a factor that fit into the cache.
_ROWS = 1024
# Columns from which two blocks are faster than one product.
_BLOCK = 48

_Pair = tuple[Tensor, Tensor]


def update_norm(factors: LoraFactors, *, six_digits: bool = False) -> float:
    """Return the Frobenius norm of (alpha / r) B A.

    Args:
        factors: factors of a layer.
        six_digits: whether a precision of six digits is sufficient, which is possible
            in float32 in half the time.
    """
    up, down = (f.detach().flatten(1) for f in (factors.up, factors.down))
    square = _quick_square(_gram(up), _gram(down.mT)) if six_digits else None
    if square is None:
        square = _inner((up.double(), down.double()), (up.double(), down.double()))
    return abs(factors.scale) * _root(square)


def difference(one: LoraFactors, two: LoraFactors) -> float:
    """Return the Frobenius norm of the difference between two updates of a layer."""
    return compared(one, two)[0]


def compared(one: LoraFactors, two: LoraFactors) -> tuple[float, float]:
    """Return the Frobenius norms of the difference of two updates and of the second."""
    up, down = (f.detach().flatten(1) for f in (one.up, one.down))
    other_up, other_down = (f.detach().flatten(1) for f in (two.up, two.down))
    if equal_numbers(up, other_up):
        # Only A was rounded: six digits of the difference are enough.
        scales = one.scale, two.scale
        gram = _gram(up)
        apart = _gram_of_difference(down.mT, other_down.mT, *scales)
        square = _quick_square(gram, apart) if apart.any() else 0.0
        size = _quick_square(gram, _gram(other_down.mT))
        if square is not None and size is not None:
            return _root(square), abs(two.scale) * _root(size)
        changed = _difference(down, other_down, *scales)
        return _norm((up.double(), changed.double())), update_norm(two)
    wide = up.double(), down.double() * one.scale
    other = other_up.double(), other_down.double() * two.scale
    size = _norm(other)
    if up.shape == other_up.shape:
        # Nearly equal factors: (B - B') A + B' (A - A') has no large parts.
        apart, changed = wide[0] - other[0], wide[1] - other[1]
        return _norm((apart, wide[1]), (other[0], changed)), size
    return _norm(wide, (other[0], -other[1])), size


def equal_numbers(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors have the same shapes and values."""
    if one.shape != two.shape:
        return False
    if one.is_set_to(two):
        # The same memory; NaN, which equals no number, is refused before.
        return True
    if one.dtype == two.dtype and one.dtype.itemsize > 1:
        return torch.equal(one, two)
    # 8 bits cannot be compared with other floats.
    return torch.equal(one.double(), two.double())


def is_rounding(found: LoraFactors, meant: LoraFactors) -> bool:
    """Return whether the factors of a layer are those that are meant, rounded.

    The scale can be multiplied into A, which is then rounded to its dtype. Also True if
    ``meant`` was rounded from ``found`` to a dtype that is not narrower.
    """
    if _is_rounded(found, meant):
        return True
    wide = all(
        torch.finfo(two.dtype).eps <= torch.finfo(one.dtype).eps
        for one, two in ((found.up, meant.up), (found.down, meant.down))
    )
    return wide and _is_rounded(meant, found)


def _is_rounded(found: LoraFactors, meant: LoraFactors) -> bool:
    scale = relative(meant.scale, found.scale)
    return _rounds_to(meant.up, 1.0, found.up) and _rounds_to(
        meant.down, scale, found.down
    )


def _rounds_to(exact: Tensor, scale: float, found: Tensor) -> bool:
    if found.shape != exact.shape or not math.isfinite(scale):
        return False
    exact = exact.double() * scale
    info = torch.finfo(found.dtype)
    # Half a unit in the last place, and a little for the rounding of the scale.
    power = torch.frexp(exact).exponent - 1
    unit = torch.ldexp(torch.full_like(exact, info.eps), power)
    bound = unit.clamp_min(info.tiny * info.eps) * 0.501
    return bool(((found.double() - exact).abs() <= bound).all())


def relative(part: float, whole: float) -> float:
    """Return part / whole, with 0 / 0 = 0."""
    if whole == 0:
        return 0.0 if part == 0 else math.inf
    return part / whole


def _difference(one: Tensor, two: Tensor, scale: float, other: float) -> Tensor:
    if scale == other and torch.float64 not in (one.dtype, two.dtype):
        # Nearly equal numbers of at most 32 bits: the difference is exact.
        return (one.float() - two.float()).mul_(scale)
    return one.double() * scale - two.double() * other


def _norm(one: _Pair, two: _Pair | None = None) -> float:
    """Return the norm of a product, or of a sum of two products, in float64."""
    if two is None:
        return _root(_inner(one, one))
    first, second = _inner(one, one), _inner(two, two)
    size = _root(first) + _root(second)
    found = _root(first + second + 2 * _inner(one, two))
    if math.isnan(found) or found > _CANCELLED * size or size == 0:
        return found
    up, down = torch.cat([one[0], two[0]], dim=1), torch.cat([one[1], two[1]])
    left, right = torch.linalg.qr(up).R, torch.linalg.qr(down.mT).R
    return float((left @ right.mT).norm())


def _inner(one: _Pair, two: _Pair) -> float:
    """Return the Frobenius inner product of two products."""
    return float(((one[0].mT @ two[0]) * (one[1] @ two[1].mT)).sum())


def _gram(factor: Tensor) -> Tensor:
    """Return the Gram matrix of the columns in float32."""
    # Rows at a time stay in the cache, and large temporary copies cost page faults.
    parts = (_symmetric(rows.float()) for rows in factor.split(_ROWS))
    return functools.reduce(torch.add, parts)


def _gram_of_difference(one: Tensor, two: Tensor, scale: float, other: float) -> Tensor:
    """Return the Gram matrix of the columns of a difference in float32."""
    pairs = zip(one.split(_ROWS), two.split(_ROWS), strict=True)
    parts = (_symmetric(_difference(*pair, scale, other).float()) for pair in pairs)
    return functools.reduce(torch.add, parts)


def _symmetric(factor: Tensor) -> Tensor:
    """Compute F^T F from the blocks above the diagonal, which is faster."""
    ranks = factor.shape[1]
    if ranks <= _BLOCK:
        return factor.mT @ factor
    first, second = factor[:, : ranks // 2], factor[:, ranks // 2 :]
    across = first.mT @ second
    upper = torch.cat([_symmetric(first), across], dim=1)
    return torch.cat([upper, torch.cat([across.mT, _symmetric(second)], dim=1)])


def _quick_square(left: Tensor, right: Tensor) -> float | None:
    """Compute a squared norm in float32. None if the precision may be insufficient.

    Args:
        left: Gram matrix of the columns of B.
        right: Gram matrix of the rows of A.
    """
    square = float((left * right).sum(dtype=torch.float64))
    # Square of the norm if no two columns of B overlapped.
    alone = float((left.diagonal().double() * right.diagonal().double()).sum())
    enough = square > _PLAIN * alone and _RANGE[0] < square < _RANGE[1]
    return square if enough else None


def _root(square: float) -> float:
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan
