"""Random points, tangent vectors and shapes that the geometry tests share."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from stiefel_lora.geometry import random_orthonormal, tangent_project

F64 = torch.float64


@st.composite
def tall_shapes(draw: st.DrawFn) -> tuple[int, int]:
    """(rows, columns) with rows >= columns, rank 1 and square included."""
    columns = draw(st.integers(1, 12))
    return columns + draw(st.integers(0, 40)), columns


seeds = st.integers(0, 2**31 - 1)


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def point_and_tangent(
    rows: int, columns: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """B on St(rows, columns) and a tangent vector of spectral norm 1 (or zero)."""
    point = random_orthonormal(rows, columns, seed=seed, dtype=F64)
    vector = tangent_project(point, gaussian(rows, columns, seed=seed + 1))
    norm = torch.linalg.matrix_norm(vector, 2)
    return point, vector / norm if norm > 1e-12 else torch.zeros_like(vector)


def log_slope(errors: list[float], steps: list[float]) -> float:
    """Least-squares slope of log(error) over log(step)."""
    x, y = torch.tensor(steps, dtype=F64).log(), torch.tensor(errors, dtype=F64).log()
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())
