"""Integrations with other trainers: one module per trainer, none of their code."""

from __future__ import annotations

__all__: list[str] = []
