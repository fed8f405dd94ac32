r"""Locally optimal initialization (LOI) of a LoRA from the first gradient.

For the gradient :math:`G = U \Sigma V^T` of a layer's weight the point

.. math:: X^0 = c\,U_{1:r} V_{r+1:2r}^T

has the property that the projection of G onto the tangent space is the best rank-2r
approximation of G. The singular vectors are computed from products of G with thin
matrices, which are gradients of ordinary backward passes: with B = 0 and :math:`A =
\Omega^T`, the gradient of B is :math:`G \Omega`. With A = 0 and B = Q, the gradient of
A is :math:`Q^T G`.

References:
    "Riemannion", 2025, arXiv:2507.12142, section on locally optimal initialization and
    BackPropRSVD.
    N. Halko, P. Martinsson, J. Tropp, "Finding Structure with Randomness", 2011,
    algorithm 4.4 (randomized SVD with power iterations).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._exceptions import OptionError
from ..geometry import thin_svd
from .gauge import name_seed
from .groups import Source
from .init import startable_pairs
from .pairs import Pair

__all__ = ["Loi", "init_loi_"]


@dataclasses.dataclass(frozen=True)
class Loi:
    """Result of :func:`init_loi_` for one pair.

    Attributes:
        pair: the initialized pair.
        singular_values: first 2r singular values of the layer's gradient, float32.
        offset_up: initial B, ``(out, r)``; empty without an offset.
        offset_down: initial A, ``(r, in)``; empty without an offset.
    """

    pair: Pair
    singular_values: Tensor
    offset_up: Tensor
    offset_down: Tensor


def init_loi_(
    source: Source,
    backward: Callable[[], object],
    *,
    offset: bool = False,
    scale: float | None = None,
    oversampling: int | None = None,
    power: int = 1,
    seed: int = 0,
) -> list[Loi]:
    r"""Initialize every LoRA pair from the gradient of its layer, in place.

    Args:
        source: a model with trainable LoRA layers, named parameters or groups.
        backward: function that computes the loss of one fixed batch (same images, noise
            and timesteps at every call) and calls ``backward()``. It is called 2 (power
            + 1) ceil(k / r) times, where k = 2r + oversampling.
        offset: If False, B is set to the first r left singular vectors and A to 0, so
            that the model is unchanged. If True, the product is set to :math:`X^0`, and
            the caller must compensate for it with a second, frozen adapter with B =
            -``offset_up`` and A = ``offset_down``.
        scale: c. The default is 1 / sqrt(r), the value of the paper for diffusion
            models.
        oversampling: number of additional random directions. The default is r.
        power: number of power iterations q.
        seed: seed of the random directions, which also depend on the name of the layer.

    Returns:
        One record per pair, in order of appearance.

    Raises:
        OptionError: If a gradient is missing or not finite after ``backward``, or 2r
            exceeds a side of a layer and ``offset`` is set.
        PairingError: If no pair is found, or a rank exceeds a side of its layer.

    If ``backward`` raises an error, the factors are restored.
    """
    pairs = startable_pairs(source)
    if offset:
        _check_room(pairs)
    # The probes overwrite the factors; an error must not leave them changed.
    before = [(p.up.detach().clone(), p.down.detach().clone()) for p in pairs]
    try:
        frames = _gradient_frames(pairs, backward, oversampling, power, seed)
    except BaseException:
        with torch.no_grad():
            for pair, (up, down) in zip(pairs, before, strict=True):
                pair.up.copy_(up)
                pair.down.copy_(down)
        raise
    return [
        _start(pair, *frame, offset, scale)
        for pair, frame in zip(pairs, frames, strict=True)
    ]


def _gradient_frames(
    pairs: list[Pair],
    backward: Callable[[], object],
    oversampling: int | None,
    power: int,
    seed: int,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Compute leading singular vectors and values of all gradients (BackPropRSVD)."""
    probe = _Probe(pairs, backward)
    counts = [_directions(pair, oversampling) for pair in pairs]
    right = [_gauss(p, k, seed) for p, k in zip(pairs, counts, strict=True)]
    left = [_orthonormal(y) for y in probe.times(right)]
    for _ in range(power):
        right = [_orthonormal(z) for z in probe.transposed_times(left)]
        left = [_orthonormal(y) for y in probe.times(right)]
    frames = []
    for q, c in zip(left, probe.transposed_times(left), strict=True):
        # G^T Q = P R and R = W Sigma Z^T, so G is approximately (Q Z) Sigma (P W)^T. An
        # SVD of R has k x k entries, and no Gram matrix squares the singular values.
        p, r = torch.linalg.qr(c)
        w, sigma, zh = thin_svd(r)
        frames.append((q @ zh.mT, sigma, (p @ w).mT))
    return frames


class _Probe:
    """Products of the gradients of all layers with thin matrices."""

    def __init__(self, pairs: Sequence[Pair], backward: Callable[[], object]) -> None:
        self.pairs, self.backward = pairs, backward

    def times(self, right: list[Tensor]) -> list[Tensor]:
        """Compute G Omega for Omega ``(in, k)`` of each pair, in slices of its rank."""
        return self._slices([r.mT for r in right], "down")

    def transposed_times(self, left: list[Tensor]) -> list[Tensor]:
        """Compute G^T Q for Q ``(out, k)`` of each pair."""
        return [part.mT for part in self._slices([q.mT for q in left], "up")]

    def _slices(self, rows: list[Tensor], role: str) -> list[Tensor]:
        """Set one factor to the given rows and the other to 0. Return its gradient."""
        parts: list[list[Tensor]] = [[] for _ in self.pairs]
        # A probe holds r rows, so k directions need several backward passes; layers
        # with fewer directions pad with zeros.
        longest = max(
            -(-len(r) // p.rank) for r, p in zip(rows, self.pairs, strict=True)
        )
        for number in range(longest):
            wide = [
                r[number * p.rank : (number + 1) * p.rank]
                for r, p in zip(rows, self.pairs, strict=True)
            ]
            self._probe(wide, role)
            for pair, part, probed in zip(self.pairs, parts, wide, strict=True):
                part.append(_gradient(pair, role, len(probed)))
        dim = 1 if role == "down" else 0
        return [torch.cat(part, dim) for part in parts]

    def _probe(self, rows: list[Tensor], role: str) -> None:
        for pair, probed in zip(self.pairs, rows, strict=True):
            # With one factor zero the product is zero, so every probe sees the gradient
            # at the unchanged model; the gradient of the zero factor is G times the
            # other one.
            pair.up.grad = pair.down.grad = None
            with torch.no_grad():
                pair.up.zero_()
                pair.down.zero_()
                up, down = pair.matrices
                if role == "down":
                    down[: len(probed)] = probed
                else:
                    up[:, : len(probed)] = probed.mT
        with torch.enable_grad():
            self.backward()


def _gradient(pair: Pair, role: str, count: int) -> Tensor:
    other = pair.up if role == "down" else pair.down
    if other.grad is None:
        raise OptionError(
            f"{pair.name!r} has no gradient after the backward function. The "
            "function must compute the loss of a batch with this adapter active and "
            "call backward()."
        )
    gradient = other.grad.detach().flatten(1).float()
    if not gradient.isfinite().all():
        raise OptionError(
            f"The gradient of {pair.name!r} contains NaN or infinity, which LOI "
            "does not support. Use bfloat16 or float32 (train_dtype in a "
            "configuration)."
        )
    pair.up.grad = pair.down.grad = None
    return gradient[:, :count] if role == "down" else gradient[:count]


@torch.no_grad()
def _start(
    pair: Pair,
    u: Tensor,
    sigma: Tensor,
    vh: Tensor,
    offset: bool,
    scale: float | None,
) -> Loi:
    rank = pair.rank
    up, down = pair.matrices
    up.copy_(u[:, :rank])
    down.zero_()
    empty = u.new_empty(0)
    if not offset:
        return Loi(pair, sigma[: 2 * rank], empty, empty)
    size = rank**-0.5 if scale is None else scale
    down.copy_(size * vh[rank : 2 * rank])
    return Loi(pair, sigma[: 2 * rank], up.detach().clone(), down.detach().clone())


def _check_room(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        up, down = pair.matrices
        side = min(up.shape[0], down.shape[1])
        if 2 * pair.rank > side:
            raise OptionError(
                f"LOI with an offset requires 2 x rank <= {side} in the layer "
                f"{pair.name!r}, but its rank is {pair.rank}. Lower the rank, or "
                "use offset=False."
            )


def _directions(pair: Pair, oversampling: int | None) -> int:
    extra = pair.rank if oversampling is None else oversampling
    up, down = pair.matrices
    return min(2 * pair.rank + extra, up.shape[0], down.shape[1])


def _gauss(pair: Pair, count: int, seed: int) -> Tensor:
    key = name_seed(f"{pair.name}.LOI", seed)
    generator = torch.Generator().manual_seed(key)
    width = pair.matrices[1].shape[1]
    gauss = torch.randn(width, count, generator=generator, dtype=torch.float32)
    return gauss.to(pair.up.device)


def _orthonormal(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix)[0]
