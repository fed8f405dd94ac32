"""The denoising loss: noise, timesteps and weights of images."""

from __future__ import annotations

__all__: list[str] = []
