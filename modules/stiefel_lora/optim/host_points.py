"""Entry points of a host on which its adapter relies, attached to parameters.

An adapter cannot detect that its host never makes a certain call. So it marks the
parameters that it receives with the calls it still waits for, and an optimizer on pairs
rejects such parameters: without that call it would silently train with another scale,
another initialization or other pairs than requested.
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
    """Entry points that a host lacks, and calls that it has not made yet."""

    tested: str
    """Version of the host that the adapter was tested with."""

    absent: list[str]
    """Names that the host does not have."""

    awaited: list[str]
    """Calls that have not been made yet."""

    def called(self, point: str) -> None:
        """Record a call. It may occur more than once."""
        if point in self.awaited:
            self.awaited.remove(point)

    def refusal(self, method: str, missing: Iterable[str]) -> str | None:
        """Return an error for a method that needs ``missing``, or None if empty.

        Args:
            method: name of the method for users.
            missing: names and calls that are missing.
        """
        named = ", ".join(missing)
        if not named:
            return None
        return (
            f"{method} is not available: this version of the trainer lacks {named}, "
            "which the network module of stiefel_lora requires. Use the tested "
            f"version ({self.tested}), or the network module and optimizer of the "
            "trainer."
        )


def await_points(tensors: Iterable[Tensor], points: HostPoints) -> None:
    """Mark parameters with the points of the host that made them."""
    for tensor in tensors:
        setattr(tensor, _MARK, points)


def check_host(tensors: Iterable[Tensor], method: str) -> None:
    """Reject parameters whose host lacks an entry point that its adapter needs.

    Raises:
        ConfigError: If entry points are missing. The message contains them and the
            tested version.
    """
    for tensor in tensors:
        points = getattr(tensor, _MARK, None)
        if isinstance(points, HostPoints):
            refusal = points.refusal(method, [*points.absent, *points.awaited])
            if refusal:
                raise ConfigError(refusal)
