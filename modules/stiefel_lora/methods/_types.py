"""Records of a method and of one of its options; standard library only."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from .._exceptions import OptionError
from .._install import install_command

__all__ = ["Method", "Option"]

AlphaPolicy = Literal["rank", "free"]
Start = Literal["stiefel", "riemannion", "lora"]


class _OfDefault:
    """Marker for an option whose type is that of its default."""


@dataclasses.dataclass(frozen=True)
class Option:
    """Keyword argument of an optimizer, with the data for forms and schemas.

    ``Option("momentum", 0.9, low=0, high=1, doc="...")``.

    Attributes:
        type: ``float``, ``int``, ``bool`` or ``str``; by default, the type of
            ``default``. A ``str`` has ``choices``.
        low: inclusive lower bound; ``low_open`` excludes it.
        high: inclusive upper bound; ``high_open`` excludes it.
        optional: with ``default=None``, the method fills in a documented value.
        unit: a word or two for labels.
        label: its name in a form; by default, ``name``.
        unset_means: meaning of None.
        needs: name and value of another option; without it, this one has no effect.
        older: its value in states saved before the option existed; by default, the
            default.
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
        """Return ``doc``, including the value that is used if the option is unset."""
        return (
            f"{self.doc} Unset: {self.unset_means}." if self.unset_means else self.doc
        )

    def violation(self, value: object) -> str | None:
        """Return the rule that ``value`` violates as the end of a message, or None."""
        if value is None:
            return None if self.optional else "must not be empty"
        if self.choices:
            known = ", ".join(self.choices)
            return None if value in self.choices else f"must be one of {known}"
        if self.type is bool:
            return None if isinstance(value, bool) else "must be true or false"
        if self.type is str:
            return None if isinstance(value, str) else "must be a string"
        return self._number_violation(value)

    def _number_violation(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if self.type is int and not isinstance(value, int):
            return "must be an integer"
        below = self.low is not None and (
            value < self.low or (self.low_open and value == self.low)
        )
        above = self.high is not None and (
            value > self.high or (self.high_open and value == self.high)
        )
        # A NaN compares false with everything, so it needs its own test.
        if below or above or value != value or value in (float("inf"), -float("inf")):
            return f"must be in {self.bounds}"
        return None

    @property
    def bounds(self) -> str:
        """Interval of valid numbers as text, for example ``(0, 1]``."""
        left = "(" if self.low is None or self.low_open else "["
        right = ")" if self.high is None or self.high_open else "]"
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{left}{low}, {high}{right}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """Catalogue entry of an optimizer: names, class, options and requirements.

    Attributes:
        alpha_policy: "rank": the method owns the scale of the product, so LoRA alpha
            must equal the rank; "free": any alpha.
        start: "stiefel": B orthonormal and A zero; "riemannion": B orthonormal and A
            tiny; "lora": A random and B zero.
        separable: whether every parameter can be stepped on its own, which a fused
            backward pass needs; except with an option of ``joint``.
        extra: the pip extra that it needs.
        default_lr: learning rate for a first run, in the unit ``lr_unit``.
        implementation: the class itself if ``register`` received one; None for
            built-in methods.
        plugin: entry of ``plugins`` in a configuration that loads it; None for
            built-in methods.
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
        """Import the optimizer class of ``target`` ("module:Class").

        Raises:
            OptionError: If the package that the method requires is not installed.
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
                f"{self.label} requires the package {package}, which is not installed. "
                f"Install it with: {install_command(self.extra)}"
            ) from error

    def steps_alone(self, options: Mapping[str, Any]) -> bool:
        """Return whether single parameters can be stepped with these options.

        Args:
            options: option name -> value. Other keys are ignored, and defaults are used
                for missing ones.
        """
        values = self.defaults() | dict(options)
        return self.separable and not any(
            values[name] == value for name, value in self.joint
        )

    def joint_choice(self, options: Mapping[str, Any]) -> tuple[Option, str] | None:
        """Option that prevents stepping single parameters, and a value that allows it.

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
        """Find options that are set but have no effect with the other ones.

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
