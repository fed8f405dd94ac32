"""Check that a trainer calls every function that an integration depends on.

An integration cannot detect that a trainer never calls one of its functions. Therefore
it attaches the list of expected calls to the parameters that it creates. Optimizers for
LoRA pairs reject parameters with missing calls, because training would silently use
another scale, another initialization or other pairs than requested.
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
    """Functions that a trainer lacks, and calls that it has not made yet."""

    tested: str
    """Version of the trainer that the integration was tested with."""

    absent: list[str]
    """Names of functions that the trainer does not have."""

    awaited: list[str]
    """Names of expected calls that have not been made yet."""

    def called(self, point: str) -> None:
        """Record a call of the trainer. Repeated calls are allowed."""
        if point in self.awaited:
            self.awaited.remove(point)

    def refusal(self, method: str, missing: Iterable[str]) -> str | None:
        """Return the error for missing calls, or None if ``missing`` is empty.

        Args:
            method: displayed name of the method.
            missing: names of functions and calls that are missing.
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
    """Attach the expected calls of a trainer to its parameters."""
    for tensor in tensors:
        setattr(tensor, _MARK, points)


def check_host(tensors: Iterable[Tensor], method: str) -> None:
    """Check that the trainer has made all calls that its integration needs.

    Raises:
        ConfigError: If functions or calls are missing. The message contains their names
            and the tested version of the trainer.
    """
    for tensor in tensors:
        points = getattr(tensor, _MARK, None)
        if isinstance(points, HostPoints):
            refusal = points.refusal(method, [*points.absent, *points.awaited])
            if refusal:
                raise ConfigError(refusal)
