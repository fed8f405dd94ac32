"""What the catalogue says of a method and of one option; standard library only."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from .._exceptions import OptionError

__all__ = ["Method", "Option"]

AlphaPolicy = Literal["rank", "free"]
Start = Literal["stiefel", "riemannion", "lora"]


class _OfDefault:
    """The type of an option that has the type of its default."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One keyword argument of an optimizer, with what a form or a schema needs.

    ``Option("momentum", 0.9, low=0, high=1, doc="...")``. ``type`` is ``float``,
    ``int``, ``bool`` or ``str``; without it, that of the default. A ``str`` has
    ``choices``.
    ``low`` and ``high`` are inclusive bounds, ``low_open`` excludes the lower one,
    ``high_open`` the upper one. ``default=None`` with ``optional=True`` means that the
    method fills in a documented value. ``unit`` is a word or two for labels.
    ``label`` is its name in a form, without one ``name``; ``unset_means`` is what None
    stands for. ``needs`` is the value of another option beside which this one has an
    effect. ``older`` is the value that states have which were saved before the option
    existed; without it, the default.
    """

    name: str
    default: float | int | bool | str | None
    _: dataclasses.KW_ONLY
    doc: str
    type: type = _OfDefault
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    unit: str = ""
    label: str = ""
    unset_means: str = ""
    needs: tuple[str, str] | None = None
    older: float | int | bool | str | None = None

    def __post_init__(self) -> None:
        if self.type is _OfDefault:
            object.__setattr__(self, "type", type(self.default))

    @property
    def text(self) -> str:
        """``doc``, and the value that the method fills in."""
        return (
            f"{self.doc} Unset: {self.unset_means}." if self.unset_means else self.doc
        )

    def violation(self, value: object) -> str | None:
        """Say which rule ``value`` breaks, as the end of a sentence, or None."""
        if value is None:
            return None if self.optional else "must not be empty"
        if self.choices:
            known = ", ".join(self.choices)
            return None if value in self.choices else f"must be one of {known}"
        if self.type is bool:
            return None if isinstance(value, bool) else "must be true or false"
        if self.type is str:
            return None if isinstance(value, str) else "must be a text"
        return self._number_violation(value)

    def _number_violation(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if self.type is int and not isinstance(value, int):
            return "must be a whole number"
        below = self.low is not None and (
            value < self.low or (self.low_open and value == self.low)
        )
        above = self.high is not None and (
            value > self.high or (self.high_open and value == self.high)
        )
        # A NaN compares false with everything, so it needs a test of its own.
        if below or above or value != value or value in (float("inf"), -float("inf")):
            return f"must be in {self.bounds}"
        return None

    @property
    def bounds(self) -> str:
        """The interval of valid numbers as text, for example ``(0, 1]``."""
        left = "(" if self.low is None or self.low_open else "["
        right = ")" if self.high is None or self.high_open else "]"
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{left}{low}, {high}{right}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One optimizer: what users call it, where its class is, what it can be told.

    ``alpha_policy="rank"``: the method owns the scale of the product, so LoRA alpha
    must equal the rank. ``start="stiefel"``: B starts orthonormal and A at zero;
    ``"riemannion"``: B orthonormal and A tiny; ``"lora"``: A random and B zero.
    ``separable``: every parameter can be stepped on its own, so fused backward passes
    are allowed, except with an option of ``joint``. ``extra``: the pip extra it needs.
    ``default_lr`` is where a first run should begin, ``lr_unit`` says in what unit.
    ``implementation`` is the class itself where ``register`` was given one, and
    ``plugin`` what to write into ``plugins`` of a configuration to load it; both are
    None for built-in methods.
    """

    name: str
    label: str
    summary: str
    target: str
    options: tuple[Option, ...]
    default_lr: float
    lr_unit: str
    alpha_policy: AlphaPolicy = "free"
    start: Start = "lora"
    separable: bool = False
    joint: tuple[tuple[str, str], ...] = ()
    extra: str | None = None
    implementation: type[Any] | None = None
    plugin: str | None = None

    def load(self) -> type[Any]:
        """Import the optimizer class that ``target`` ("module:Class") names.

        Raises:
            OptionError: the package that the method needs is not installed.
        """
        if self.implementation is not None:
            return self.implementation
        module, _, name = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if self.extra is None or package == "stiefel_lora":
                raise
            raise OptionError(
                f"{self.label} needs {package}, which is not installed; run "
                f"pip install 'stiefel-lora[{self.extra}]'."
            ) from error

    def steps_alone(self, options: Mapping[str, Any]) -> bool:
        """Whether single parameters can be stepped with these options.

        Args:
            options: option name -> value; more keys may be there, and those that are
                missing have their defaults.
        """
        values = self.defaults() | dict(options)
        return self.separable and not any(
            values[name] == value for name, value in self.joint
        )

    def joint_choice(self, options: Mapping[str, Any]) -> tuple[Option, str] | None:
        """The option that keeps parameters from being stepped alone, and its way out.

        Returns:
            The option, and a value with which :meth:`steps_alone` is true; None where
            no option decides.
        """
        if not self.separable or self.steps_alone(options):
            return None
        values = self.defaults() | dict(options)
        name, joint = next(pair for pair in self.joint if values[pair[0]] == pair[1])
        option = next(option for option in self.options if option.name == name)
        return option, next(value for value in option.choices if value != joint)

    def idle(self, options: Mapping[str, Any]) -> Iterator[tuple[Option, str, str]]:
        """Options that are not at their default and have no effect beside the others.

        Yields:
            The option, and name and value of the other option that it needs.
        """
        values = self.defaults() | dict(options)
        for option in self.options:
            if option.needs is None or values[option.name] == option.default:
                continue
            name, value = option.needs
            if values[name] != value:
                yield option, name, value

    def defaults(self) -> dict[str, Any]:
        """Option name -> default."""
        return {option.name: option.default for option in self.options}
