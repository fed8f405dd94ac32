"""States that another method, or an earlier version of this one, saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .._exceptions import CheckpointError
from ..methods import CATALOGUE, Method

__all__ = ["check_state", "fill_options"]


def check_state(state_dict: Mapping[str, Any], entry: Method) -> None:
    """Refuse the state of another optimizer.

    Options that are missing are no reason: they may be younger than the state.

    Raises:
        CheckpointError: with the name of the method that saved the state.
    """
    found = _saved_by(state_dict)
    if found is entry:
        return
    keys = _keys(state_dict)
    known = {option.name for option in entry.options}
    if entry.name in ("adamw", "adamw_8bit"):
        known = (known - {"beta1", "beta2"}) | {"betas"}
    if found is None and 2 * len(known & keys) >= len(known):
        return
    saved = f"of {found.label}" if found else "of another optimizer"
    raise CheckpointError(
        f"state_dict: the state is {saved} and cannot be loaded into {entry.label}. "
        "Create the optimizer that saved it, or begin with an empty state."
    )


def fill_options(
    group: dict[str, Any], entry: Method, defaults: Mapping[str, Any]
) -> None:
    """Give a group the options that did not exist yet when it was saved.

    Args:
        group: changed in place.
        entry: the method.
        defaults: options that the optimizer was made with.
    """
    for name, default in entry.defaults().items():
        group.setdefault(name, defaults.get(name, default))


def _saved_by(state_dict: Mapping[str, Any]) -> Method | None:
    """The method whose own options are in the groups; AdamW has ``betas``."""
    keys = _keys(state_dict)
    uses = Counter(o.name for entry in CATALOGUE.values() for o in entry.options)
    for entry in CATALOGUE.values():
        own = {o.name for o in entry.options if uses[o.name] == 1}
        # Not all: some may be younger. Not one: SGD too has ``nesterov``.
        if own and 2 * len(own & keys) >= len(own):
            return entry
    if "betas" not in keys:
        return None
    # Torch's own writes its switches into every group, bitsandbytes' does not.
    return CATALOGUE["adamw" if "amsgrad" in keys else "adamw_8bit"]


def _keys(state_dict: Mapping[str, Any]) -> set[str]:
    return {key for group in state_dict["param_groups"] for key in group}
