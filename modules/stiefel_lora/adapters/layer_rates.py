"""Learning rate of every layer, as a multiple of the learning rate of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._exceptions import ConfigError
from .layer_ranks import matching

__all__ = ["rate_factors"]


def rate_factors(
    targets: Sequence[str], patterns: Mapping[str, float]
) -> dict[str, float]:
    """Return the factor of the learning rate of each layer.

    Args:
        targets: names of the layers.
        patterns: pattern -> factor. If several patterns match, the last one is used.

    Raises:
        ConfigError: If a pattern matches no layer.
    """
    found = dict.fromkeys(targets, 1.0)
    for pattern, factor in patterns.items():
        names = matching(pattern, targets)
        if not names:
            raise ConfigError(
                f"learning_rate_pattern: {pattern!r} matches none of the "
                f"{len(targets)} layers that have a LoRA, for example {targets[0]!r}. "
                "Use * to match any text."
            )
        found.update(dict.fromkeys(names, factor))
    return found
