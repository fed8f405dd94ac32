"""Parameter groups for optimizers of other packages, which do not know LoRA pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..methods import decay_of
from .pairs import Pair
from .rule import ROLES, Role

__all__ = ["by_decay"]

_ORDER: tuple[Role | None, ...] = (*ROLES, None)


def by_decay(
    groups: Iterable[Mapping[str, Any]],
    options: Mapping[str, Any],
    pairs: Iterable[Pair],
) -> list[dict[str, Any]]:
    """Split parameter groups into B, A and other parameters, each with a weight decay.

    Args:
        groups: groups with named parameters.
        options: options of the optimizer with ``weight_decay``, ``weight_decay_b`` and
            ``weight_decay_a``.
        pairs: LoRA pairs of all groups.
    """
    roles = {id(getattr(pair, role)): role for pair in pairs for role in ROLES}
    found = []
    for group in groups:
        for role in _ORDER:
            params = [
                (name, parameter)
                for name, parameter in group["params"]
                if roles.get(id(parameter)) == role
            ]
            if params:
                decay = decay_of(role, options)
                found.append({**group, "params": params, "weight_decay": decay})
    return found
