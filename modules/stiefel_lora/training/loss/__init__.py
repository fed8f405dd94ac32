"""Denoising loss: noise, timesteps and loss weights."""

from __future__ import annotations

__all__: list[str] = []
