"""A part that is settings alone: the scheduler of a single file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["SettingsPart"]


class SettingsPart:
    """Settings without numbers, kept in memory."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def config(self) -> dict[str, Any]:
        """All of them."""
        return dict(self._config)

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Call ``from_config``."""
        return loader.from_config(self._config)

    def digest_into(self, digest: _Hash) -> None:
        """Feed all of them."""
        digest.update(f"{sorted(self._config.items())}".encode())
