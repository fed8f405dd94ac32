"""Base class for all optimizers of this package."""

from __future__ import annotations

import functools
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .._exceptions import OptionError, PairingError
from ..methods import Method, check_options, method, suggestion
from .group_checks import GroupChecks
from .pairs import Odd, Pair, find_pairs

__all__ = ["LoraOptimizer", "understanding_betas", "without_betas"]

# print(optimizer) fits on a screen of 24 lines and 80 columns.
_MOST_GROUPS = 6
_MOST_LETTERS = 400
_WIDTH = 76


class LoraOptimizer(torch.optim.Optimizer):
    """Base class for all optimizers of this package.

    Constructors accept ``betas=(beta1, beta2)`` instead of ``beta1`` and ``beta2``.
    """

    method: str
    _odd: list[Odd]

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "__init__" in cls.__dict__:
            made: Any = cls
            made.__init__ = understanding_betas(cls.__init__)

    @property
    def entry(self) -> Method:
        """Catalogue entry of the method."""
        return method(self.method)

    @property
    def pairs(self) -> list[Pair]:
        """LoRA pairs among the parameters, in order of appearance.

        Raises:
            PairingError: If parameters without names can be paired in several ways.
        """
        return find_pairs(self.param_groups, getattr(self, "_odd", ())).pairs

    def _check_new_group(self, group: dict[str, Any]) -> None:
        """Check a parameter group before it is added."""
        self._group_checks.check_new(self.entry, group, self.defaults)

    def _check_groups(self) -> bool:
        """Check parameter groups before a step. Return whether any of them changed."""
        return self._group_checks.check(self.entry, self.param_groups, self.defaults)

    @functools.cached_property
    def _group_checks(self) -> GroupChecks:
        # Created on first use: torch's constructor adds groups, and a copy of an
        # optimizer has only groups and state.
        return GroupChecks()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ({self.entry.label}): {self._inventory()}"]
        lines += [f"options: {_shown(self._options())}"] if self._options() else []
        lines += self._group_lines()
        folded = (textwrap.wrap(line, _WIDTH, subsequent_indent="  ") for line in lines)
        return "\n  ".join(itertools.chain.from_iterable(folded))

    def _inventory(self) -> str:
        tensors = [p for group in self.param_groups for p in group["params"]]
        try:
            pairs = self.pairs
        except PairingError:
            return f"{len(tensors)} parameters, whose LoRA pairs need names to be found"
        ranks = sorted({pair.rank for pair in pairs})
        of_rank = ""
        if ranks:
            shown = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
            of_rank = f" of rank {shown}"
        others = len(tensors) - 2 * len(pairs)
        kinds = "pair" if len(pairs) == 1 else "pairs"
        rest = "parameter" if others == 1 else "parameters"
        return f"{len(pairs)} LoRA {kinds}{of_rank}, {others} other {rest}"

    def _options(self) -> dict[str, Any]:
        """Return the options that are the same in all groups."""
        first, *others = map(self._used, self.param_groups)
        return {
            name: value
            for name, value in first.items()
            if all(repr(value) == repr(other.get(name)) for other in others)
        }

    def _used(self, group: dict[str, Any]) -> dict[str, Any]:
        """Return the options that have an effect in a group, with the values in use."""
        known = self.entry.defaults()
        used = self.entry.in_effect({n: group[n] for n in known if n in group})
        return {n: used.get(n, group[n]) for n in (*used, "betas") if n in group}

    def _group_lines(self) -> Iterator[str]:
        shared = self._options()
        for number, group in enumerate(self.param_groups[:_MOST_GROUPS]):
            name = f" {group['name']!r}" if group.get("name") else ""
            used = self._used(group)
            own = {n: used[n] for n in used if n not in shared}
            values = {"lr": group["lr"]} | own
            count = len(group["params"])
            kinds = "parameter" if count == 1 else "parameters"
            yield f"group {number}{name}: {count} {kinds}, {_shown(values)}"
        more = len(self.param_groups) - _MOST_GROUPS
        if more > 0:
            yield f"and {more} more {'group' if more == 1 else 'groups'}"


def understanding_betas(init: Callable[..., None]) -> Callable[..., None]:
    """Make a constructor accept ``betas``, as that of torch's AdamW does.

    Unknown options raise OptionError instead of TypeError.
    """
    _, *parameters = inspect.signature(init).parameters.values()
    known = [part.name for part in parameters if part.kind is not part.VAR_POSITIONAL]
    takes_any = any(part.kind is part.VAR_KEYWORD for part in parameters)

    @functools.wraps(init)
    def __init__(self: LoraOptimizer, *args: Any, **options: Any) -> None:
        if "betas" in options:
            options = without_betas(self.entry, options)
        for name in options:
            if name not in known and not takes_any:
                raise OptionError(
                    f"{type(self).__name__} has no option {name!r}. "
                    f"{suggestion(name, known)}"
                )
        init(self, *args, **options)

    return __init__


def without_betas(entry: Method, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with ``beta1`` and ``beta2`` in place of ``betas``.

    Raises:
        OptionError: If the method has no such options, both forms are passed, or betas
            are not two numbers.
    """
    if "betas" not in options:
        return options
    own = {"beta1", "beta2"} & set(entry.defaults())
    betas = options["betas"]
    rest = {name: value for name, value in options.items() if name != "betas"}
    if len(own) < 2:
        known = ", ".join(entry.defaults()) or "none"
        raise OptionError(
            f"{entry.name}: betas={betas!r} is not supported, because this method "
            "has no beta1 and beta2. Remove betas. The available options are "
            f"{known}."
        )
    if own & set(rest):
        raise OptionError(
            f"{entry.name}: betas={betas!r} and {sorted(own & set(rest))[0]} are "
            "mutually exclusive. Pass only beta1 and beta2."
        )
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise OptionError(
            f"{entry.name}: betas must be two numbers, but got {betas!r}. Pass "
            "betas=(0.9, 0.999), or beta1=0.9, beta2=0.999."
        )
    given = {"beta1": betas[0], "beta2": betas[1]}
    check_options(entry, given)
    return rest | given


def _shown(values: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={_value(value)}" for name, value in values.items())
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _value(value: Any) -> str:
    if isinstance(value, Tensor):
        # Reading a rate on an accelerator would synchronize.
        return (
            f"a tensor on {value.device}"
            if value.device.type != "cpu"
            else (f"{value.item():g}")
        )
    return f"{value:g}" if isinstance(value, float) else repr(value)
