"""Records of a method and its options."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

from .._exceptions import OptionError, reason_of
from .._install import install_command

__all__ = ["Method", "Option", "PackagedMethod"]

AlphaPolicy = Literal["rank", "free"]
Start = Literal["stiefel", "riemannion", "lora"]


class _OfDefault:
    """Marker for an option whose type is the type of its default."""


@dataclasses.dataclass(frozen=True)
class Option:
    """Option of an optimizer, with the data for forms and schemas.

    Example: ``Option("momentum", 0.9, low=0, high=1, doc="...")``.

    Attributes:
        type: ``float``, ``int``, ``bool`` or ``str``; by default, the type of
            ``default``. A ``str`` has ``choices``.
        low: inclusive lower bound; ``low_open`` excludes it.
        high: inclusive upper bound; ``high_open`` excludes it.
        optional: whether None is allowed. The method then uses another value, described
            in ``unset_means``.
        unit: unit of the value, displayed in forms.
        label: displayed name. The default is ``name``.
        unset_means: value that is used for None, as text.
        unset_as: name of the option whose value is used for None.
        unset_by: name of the option that selects the value used for None, and this
            value by its values.
        needs: name and value of another option that is required for this option to have
            an effect.
        older: value for states that were saved before the option existed. The default
            is ``default``.
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
    unset_as: str = ""
    unset_by: tuple[str, Mapping[str, float]] | None = None
    needs: tuple[str, str] | None = None
    older: float | int | bool | str | None = None

    def __post_init__(self) -> None:
        if self.type is _OfDefault:
            object.__setattr__(self, "type", type(self.default))

    @property
    def text(self) -> str:
        """Return ``doc`` and the value that is used if the option is not set."""
        return (
            f"{self.doc} Unset: {self.unset_means}." if self.unset_means else self.doc
        )

    def violation(self, value: object) -> str | None:
        """Return the reason why a value is invalid as the end of a message, or None."""
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
        """Return the interval of valid numbers as text, for example ``(0, 1]``."""
        left = "(" if self.low is None or self.low_open else "["
        right = ")" if self.high is None or self.high_open else "]"
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{left}{low}, {high}{right}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """Catalogue entry of an optimizer: names, class, options and requirements.

    Attributes:
        alpha_policy: "rank" if LoRA alpha must be equal to the rank, because the method
            controls the scale of the product B A. "free" if any alpha is allowed.
        start: initialization: "stiefel" (B orthonormal, A zero), "riemannion" (B
            orthonormal, A tiny) or "lora" (A random, B zero).
        separable: whether every parameter can be updated independently, which a fused
            backward pass requires. Options in ``joint`` are exceptions.
        extra: pip extra that the method requires.
        default_lr: default learning rate, in the unit ``lr_unit``.
        implementation: optimizer class of a registered method. None for built-in
            methods.
        plugin: entry of ``plugins`` in a configuration that loads the method. None for
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
        """Return whether parameters can be updated independently with these options.

        Args:
            options: values of options by name. Other keys are ignored. Defaults are
                used for missing options.
        """
        values = self.defaults() | dict(options)
        return self.separable and not any(
            values[name] == value for name, value in self.joint
        )

    def joint_choice(self, options: Mapping[str, Any]) -> tuple[Option, str] | None:
        """Find the option that prevents independent updates.

        Returns:
            The option, and a value with which :meth:`steps_alone` is true. None if no
            option has this effect.
        """
        if not self.separable or self.steps_alone(options):
            return None
        values = self.defaults() | dict(options)
        name, joint = next(pair for pair in self.joint if values[pair[0]] == pair[1])
        option = next(option for option in self.options if option.name == name)
        return option, next(value for value in option.choices if value != joint)

    def idle(self, options: Mapping[str, Any]) -> Iterator[tuple[Option, str, str]]:
        """Find options that have no effect because of the values of other options.

        Yields:
            The option, and name and value of the other option that it requires.
        """
        values = self.defaults() | dict(options)
        for option in self.without_effect(options):
            if values[option.name] != option.default:
                yield option, *cast("tuple[str, str]", option.needs)

    def without_effect(self, options: Mapping[str, Any]) -> list[Option]:
        """Return the options without an effect, also those at their defaults."""
        values = self.defaults() | dict(options)
        return [
            option
            for option in self.options
            if option.needs is not None and values[option.needs[0]] != option.needs[1]
        ]

    def in_effect(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that have an effect, with the values that are used.

        Args:
            options: values of options by name. Defaults are used for missing options.
        """
        values = self.defaults() | dict(options)
        for option in self.options:
            if values[option.name] is None and option.unset_by is not None:
                name, known = option.unset_by
                values[option.name] = known[values[name]]
        idle = self.without_effect(options)
        idle += [o for o in self.options if o.unset_as and values[o.name] is None]
        return {o.name: values[o.name] for o in self.options if o not in idle}

    def defaults(self) -> dict[str, Any]:
        """Return the defaults of all options by name."""
        return {option.name: option.default for option in self.options}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackagedMethod(Method):
    """Optimizer class of another package, used by a short name.

    Attributes:
        packed: arguments of the class that consist of several options, such as
            ``betas`` of beta1 and beta2.
        fixed: arguments of the class that are always the same.
        has_estimate: whether the optimizer estimates the learning rate itself, and the
            setting is a factor of the estimate.
        one_rate: whether all parameter groups must have the same learning rate.
        schedule_free: name of the option that enables averaging instead of a schedule,
            True if it is always enabled.
    """

    packed: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    has_estimate: bool = False
    one_rate: bool = False
    schedule_free: str | bool = False

    @property
    def package(self) -> str:
        """Return the module that must be installed."""
        return self.target.partition(":")[0].partition(".")[0]

    def load(self) -> type[Any]:
        """Import the class of ``target``.

        Raises:
            OptionError: If its package is not installed, cannot be imported, or has no
                such class.
        """
        try:
            return super().load()
        except OptionError:
            raise
        # A broken package can raise anything.
        except (Exception, SystemExit) as error:
            name = self.target.rpartition(":")[2]
            no_class = isinstance(error, AttributeError) and name in str(error)
            problem = f"has no {name}" if no_class else reason_of(error)
            version = "another version of it" if no_class else "it again"
            raise OptionError(
                f"{self.label}: the package {self.package} cannot be used ({problem}). "
                f"Install {version} with: {install_command(self.extra or 'train')}"
            ) from error

    @property
    def class_path(self) -> str:
        """Return the import path of the class."""
        return self.target.replace(":", ".")

    def keywords(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of the class for options by their names here.

        Args:
            options: values of options by name. None means the default of the class.
        """
        values = {name: value for name, value in options.items() if value is not None}
        # These are set per parameter group.
        for option in self.options:
            if option.unset_as:
                values.pop(option.name, None)
        for name, parts in self.packed.items():
            values[name] = tuple(values.pop(part) for part in parts)
        return {**self.fixed, **values}

    def is_schedule_free(self, options: Mapping[str, Any]) -> bool:
        """Return whether the optimizer averages weights instead of using a schedule."""
        name = self.schedule_free
        return name if isinstance(name, bool) else bool(options.get(name))
