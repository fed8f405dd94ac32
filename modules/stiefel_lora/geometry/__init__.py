"""Pure functions of tensors with leading batch dimensions; torch and nothing else."""

from __future__ import annotations

from ._precision import full_precision
from .roots import inverse_sqrt, polar_factor
from .spectrum import (
    RankSummary,
    effective_rank,
    product_singular_values,
    spectrum_summary,
)
from .stiefel import (
    orthogonality_error,
    qr_gauge,
    random_orthonormal,
    retract_polar,
    symmetric,
    tangent_project,
)

__all__ = [
    "RankSummary",
    "effective_rank",
    "full_precision",
    "inverse_sqrt",
    "orthogonality_error",
    "polar_factor",
    "product_singular_values",
    "qr_gauge",
    "random_orthonormal",
    "retract_polar",
    "spectrum_summary",
    "symmetric",
    "tangent_project",
]
