"""Matrix functions and Stiefel geometry on batched tensors. Requires only torch."""

from __future__ import annotations

from ._precision import full_precision
from .factorizations import pseudo_inverse, thin_svd
from .fixed_rank import factored_msign, project_factored, truncate_factored
from .gram import cross_gram, gram_of
from .roots import (
    damped_cholesky,
    inverse_cholesky,
    inverse_sqrt,
    inverse_sqrt_of_retraction,
    joint_polar_core,
    polar_core,
    polar_factor,
    spectral_norm,
    spectral_norm_of_gram,
    trace,
)
from .spectrum import (
    RankSummary,
    effective_rank,
    gram_matrices,
    product_singular_values,
    product_spectrum,
    spectrum_summary,
)
from .stiefel import (
    canonical_gradient,
    exponential_map,
    nearest_orthonormal,
    orthogonality_error,
    qr_gauge,
    random_orthonormal,
    retract_polar,
    retract_qr,
    symmetric,
    tangent_project,
)

__all__ = [
    "RankSummary",
    "canonical_gradient",
    "cross_gram",
    "damped_cholesky",
    "effective_rank",
    "exponential_map",
    "factored_msign",
    "full_precision",
    "gram_matrices",
    "gram_of",
    "inverse_cholesky",
    "inverse_sqrt",
    "inverse_sqrt_of_retraction",
    "joint_polar_core",
    "nearest_orthonormal",
    "orthogonality_error",
    "polar_core",
    "polar_factor",
    "product_singular_values",
    "product_spectrum",
    "project_factored",
    "pseudo_inverse",
    "qr_gauge",
    "random_orthonormal",
    "retract_polar",
    "retract_qr",
    "spectral_norm",
    "spectral_norm_of_gram",
    "spectrum_summary",
    "symmetric",
    "tangent_project",
    "thin_svd",
    "trace",
    "truncate_factored",
]
