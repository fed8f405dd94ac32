"""Checks of the keys and values of parameter groups.

Parameter groups are plain dicts. Trainers, schedulers and loaded states write into
them at any time, so they are checked when they are added and at every step.
"""

from __future__ import annotations

import difflib
import logging
import math
import numbers
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from .._exceptions import CheckpointError, OptionError
from ..methods import DECAYS, Method, Option, check_options, decay_excess
from .engine.refusals import check_lr
from .groups import NAME_LISTS, NOTED_LR
from .pairs import Pair

__all__ = ["RESERVED", "GroupChecks", "check_decay_of_pairs", "check_saved_groups"]

log = logging.getLogger("stiefel_lora")

# Switches of torch's optimizers that change the result or the use of a step, with the
# remedy. No method of the catalogue has them.
_UNSUPPORTED = {
    "maximize": "Remove it, and multiply the loss by -1",
    "amsgrad": "Remove it",
    "differentiable": "Remove it, because gradients through a step are not computed",
    "capturable": "Remove it, because a step cannot be captured in a CUDA graph",
}

# Switches of torch's optimizers that only select an implementation.
_IMPLEMENTATION = ("foreach", "fused")

# Keys of wrappers such as ScheduleFreeWrapper, which store numbers in the groups of the
# wrapped optimizer. Unlike those below, options of plugins may have these names.
_OF_WRAPPERS = {"k", "d", "lr_max", "weight_sum", "train_mode", "scheduled_lr"}

_MOST_SEEN = 1_000

RESERVED = {
    *("params", "lr", "initial_lr", "name", "names", "optim_type", "alpha_is_rank"),
    NOTED_LR,
    *("max_lr", "min_lr", "swa_lr", "lr_scale"),
    *("max_momentum", "min_momentum", "base_momentum"),
    *(*_UNSUPPORTED, *_IMPLEMENTATION, *NAME_LISTS),
}
"""Keys that torch and trainers add to parameter groups, besides options."""


class GroupChecks:
    """Checks of the parameter groups of one optimizer.

    A group is checked again if a value was replaced since the last check. Values are
    compared by identity, which takes a few microseconds per group and does not read
    tensors.
    """

    def __init__(self) -> None:
        self._watched: tuple[str, ...] = ()
        self._seen: dict[int, tuple[Any, ...]] = {}
        self._noted: set[str] = set()

    def check_new(
        self, entry: Method, group: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> None:
        """Check a group that is added to the optimizer.

        Args:
            entry: catalogue entry of the method.
            group: the group as given.
            defaults: options of the optimizer, used if the group does not set them.

        Raises:
            OptionError: If an option is out of bounds or misspelled, a switch is not
                supported, or a group has ``betas``.
        """
        known = {option.name for option in entry.options}
        given = {key: group[key] for key in group if key in known}
        check_options(entry, given, {k: v for k, v in defaults.items() if k in known})
        check_lr(group.get("lr", 0.0))
        problem = _decay_problem(entry, {**defaults, **group})
        if problem is not None:
            raise OptionError(f"{problem}.")
        _check_switches(entry, group)
        for key in group:
            if key == "betas":
                raise OptionError(
                    f"{entry.name}: betas={group[key]!r} in a parameter group has no "
                    "effect. Set beta1 and beta2."
                )
            near = _near(known, key)
            if near:
                raise OptionError(
                    f"{entry.name} has no option {key!r} for parameter groups. Did you "
                    f"mean {near!r}?"
                )
        self._note(entry, group, known)

    def check(
        self,
        entry: Method,
        groups: Sequence[dict[str, Any]],
        defaults: Mapping[str, Any],
    ) -> bool:
        """Check groups before a step. Return whether any of them changed.

        Keys that are neither options nor known from torch and trainers are logged once.

        Raises:
            OptionError: If an option or a learning rate is out of bounds, or a switch
                is not supported.
        """
        changed = False
        if not self._watched:
            names = [option.name for option in entry.options]
            self._watched = (*names, "betas", *_UNSUPPORTED, *_IMPLEMENTATION)
        for group in groups:
            # Always, since the value of a tensor changes in place.
            check_lr(group["lr"])
            # A new key is the last one.
            now = (len(group), next(reversed(group)), *map(group.get, self._watched))
            last = self._seen.get(id(group), ())
            if len(now) != len(last) or not all(map(operator.is_, now, last)):
                changed = True
                _check_values(entry, group, defaults)
                _check_switches(entry, group)
                self._note(entry, group, set(_keys(entry, defaults)))
                self._keep(group, now)
            # Always, since schedules change the learning rate.
            self._note_decay(entry, group)
        return changed

    def _keep(self, group: Mapping[str, Any], values: tuple[Any, ...]) -> None:
        """Store the checked values, unless they can change in place."""
        if any(isinstance(value, Tensor | list) for value in values):
            return
        # Loading a state and some trainers replace the group dicts.
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[id(group)] = values

    def _note_decay(self, entry: Method, group: Mapping[str, Any]) -> None:
        """Log a weight decay that became too large, once.

        Not an error: a schedule or a trainer changed it in the middle of a training.
        """
        problem = None
        if "weight_decay" not in self._noted:
            problem = _decay_problem(entry, group)
        if problem is not None:
            self._noted.add("weight_decay")
            log.warning("%s.", problem)

    def _note(self, entry: Method, group: Mapping[str, Any], known: set[str]) -> None:
        """Log keys without an effect once."""
        silent = known | RESERVED | _OF_WRAPPERS
        for key in group:
            chosen = key in _IMPLEMENTATION and group[key] is not None
            if key in self._noted or (key in silent and not chosen):
                continue
            self._noted.add(key)
            if chosen:
                log.warning(
                    "%s: %s=%r in a parameter group has no effect, because the "
                    "implementation is selected by the device.",
                    *(entry.name, key, group[key]),
                )
                continue
            near = _near(known, key)
            log.warning(
                "%s: %r in a parameter group is not an option and is ignored.%s",
                *(entry.name, key, f" Did you mean {near!r}?" if near else ""),
            )


def check_saved_groups(
    entry: Method,
    groups: Iterable[dict[str, Any]],
    defaults: Mapping[str, Any],
) -> None:
    """Check the values in the parameter groups of a state before it is loaded.

    Args:
        entry: catalogue entry of the method.
        groups: parameter groups of the state, with all options.
        defaults: options of the optimizer.

    Raises:
        CheckpointError: If an option or a learning rate is out of bounds, or a switch
            is not supported.
    """
    for group in groups:
        try:
            check_lr(group.get("lr", math.nan))
            _check_values(entry, group, defaults)
            _check_switches(entry, group)
        except OptionError as error:
            raise CheckpointError(
                f"state_dict: the state has an invalid value and was not loaded. "
                f"{error}"
            ) from error


def _check_values(
    entry: Method, group: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    for option, value in _values(entry, group, defaults):
        plain = _plain(value)
        # A number on an accelerator is not read, which would synchronize.
        if isinstance(plain, Tensor) and plain.numel() == 1 and option.type is float:
            continue
        violation = option.violation(plain)
        if violation:
            raise OptionError(
                f"{entry.name}: {option.name}={value!r} in a parameter group "
                f"{violation}."
            )


def _values(
    entry: Method, group: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[tuple[Option, Any]]:
    """Yield the options and their values in a group."""
    given = group
    if "betas" in defaults:
        betas = group.get("betas")
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise OptionError(
                f"{entry.name}: betas={betas!r} in a parameter group must be two "
                "numbers."
            )
        given = {**group, "beta1": betas[0], "beta2": betas[1]}
    for option in entry.options:
        yield option, given.get(option.name)


def _keys(entry: Method, defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that the groups of an optimizer have."""
    yield from defaults
    for option in entry.options:
        # The groups of torch's AdamW have betas in their place.
        if "betas" not in defaults or option.name not in ("beta1", "beta2"):
            yield option.name


def check_decay_of_pairs(
    entry: Method, pairs: Iterable[Pair], owners: Mapping[int, Mapping[str, Any]]
) -> None:
    """Check weight decays that depend on the rank of a layer.

    Args:
        entry: catalogue entry of the method.
        pairs: pairs of the optimizer.
        owners: parameter groups by the id of a factor.

    Raises:
        OptionError: If a step would change the sign of A.
    """
    lowest: dict[int, Pair] = {}
    for pair in pairs:
        known = lowest.setdefault(id(owners[id(pair.up)]), pair)
        if pair.rank < known.rank:
            lowest[id(owners[id(pair.up)])] = pair
    for pair in lowest.values():
        problem = _decay_problem(entry, owners[id(pair.up)], pair.rank)
        if problem is not None:
            raise OptionError(f"{problem}.")


def _decay_problem(
    entry: Method, group: Mapping[str, Any], rank: int | None = None
) -> str | None:
    """Return the problem of a weight decay that changes the sign of weights, or None.

    Numbers on an accelerator are not read.
    """
    given = {o.name: _plain(group[o.name]) for o in entry.options if o.name in group}
    for name in DECAYS & given.keys():
        if not isinstance(given[name], int | float):
            given[name] = 0.0
    lr = _plain(group.get("lr"))
    if not isinstance(lr, int | float) or not any(map(given.get, DECAYS)):
        return None
    found = decay_excess(entry, lr, given, rank)
    if found is None:
        return None
    return f"{entry.name}: {found.option}={found.message}"


def _plain(value: Any) -> Any:
    """Return a number of numpy or a tensor on the CPU as a number of Python."""
    if isinstance(value, Tensor):
        readable = value.numel() == 1 and value.device.type == "cpu"
        return value.item() if readable else value
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _check_switches(entry: Method, group: Mapping[str, Any]) -> None:
    for key, remedy in _UNSUPPORTED.items():
        if group.get(key):
            raise OptionError(
                f"{entry.name}: {key}={group[key]!r} in a parameter group is not "
                f"supported. {remedy}."
            )


def _near(known: set[str], key: object) -> str | None:
    """Return the known key that an unknown one probably means, or None."""
    if key in known | RESERVED | _OF_WRAPPERS:
        return None
    near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.75)
    return near[0] if near else None
