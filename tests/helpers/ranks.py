"""What the code under test must find, from dense float64 spectra."""

from __future__ import annotations

import torch

__all__ = ["entropy_rank"]


def entropy_rank(sigma: torch.Tensor) -> float:
    """Effective rank by its definition (Roy & Vetterli, EUSIPCO 2007, Definition 1)."""
    share = sigma.double() / sigma.double().sum()
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))
