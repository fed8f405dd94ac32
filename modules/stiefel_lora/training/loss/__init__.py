"""The denoising loss: noise, noise levels and how images count."""

from __future__ import annotations

__all__: list[str] = []
