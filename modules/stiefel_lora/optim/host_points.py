"""Points of a host that its adapter relies on; parameters carry them to the optimizer.

An adapter cannot tell from inside that a call of its host never comes. So it marks the
parameters that it was shown with what it still waits for, and an optimizer on pairs
that is given one of them refuses: without that call it would train another scale,
another start or other pairs than asked for, without a word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from torch import Tensor

from .._exceptions import ConfigError

__all__ = ["HostPoints", "await_points", "check_host"]

_MARK = "stiefel_lora_host_points"


@dataclasses.dataclass(eq=False)
class HostPoints:
    """What a host does not have, and what it has not called yet."""

    tested: str
    """The host's version that the adapter was tested with."""

    absent: list[str]
    """Names that were looked for in vain."""

    awaited: list[str]
    """Calls that have not come yet."""

    def called(self, point: str) -> None:
        """Note that a call came; it may come more than once."""
        if point in self.awaited:
            self.awaited.remove(point)

    def refusal(self, method: str, missing: Iterable[str]) -> str | None:
        """Say that a method cannot train without ``missing``, or None without any.

        Args:
            method: as the user knows it.
            missing: of the names and calls.
        """
        named = ", ".join(missing)
        if not named:
            return None
        return (
            f"{method} was not started: this version of the trainer lacks {named}, "
            f"which the network module of stiefel_lora needs. Use {self.tested}, with "
            "which it was tested, or the trainer's own network module and optimizer."
        )


def await_points(tensors: Iterable[Tensor], points: HostPoints) -> None:
    """Mark parameters with the points of the host that made them."""
    for tensor in tensors:
        setattr(tensor, _MARK, points)


def check_host(tensors: Iterable[Tensor], method: str) -> None:
    """Refuse parameters whose host lacks a point that its adapter needs.

    Raises:
        ConfigError: with the points and the version that was tested.
    """
    for tensor in tensors:
        points = getattr(tensor, _MARK, None)
        if isinstance(points, HostPoints):
            refusal = points.refusal(method, [*points.absent, *points.awaited])
            if refusal:
                raise ConfigError(refusal)
