"""Optimizer settings: a union with a model for each method of the catalogue."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, Union

from pydantic import ConfigDict, Field, create_model, field_validator

from .._exceptions import reason_of
from ..methods import (
    CATALOGUE,
    CUSTOM,
    PACKAGED,
    Method,
    Option,
    PackagedMethod,
    find_record,
)
from ._base import StrictModel, Values, broken_rule, setting
from .violation import SettingsError, Violation

__all__ = [
    "OPTIMIZER_MODELS",
    "CustomOptimizer",
    "ForeignOptimizer",
    "OptimizerChoice",
    "OptimizerConfig",
    "PackagedOptimizer",
    "follow_catalogue",
    "optimizer_union",
]


class OptimizerConfig(StrictModel):
    """Common interface of the optimizer settings."""

    if TYPE_CHECKING:
        # Each member narrows it to its own literal, without a default: a lean dump
        # leaves defaults out, and without the tag it could not be parsed again.
        name: str

    @property
    def method(self) -> Method | None:
        """Return the catalogue entry, or None for a custom class."""
        return find_record(self.name)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the optimizer, without the learning rate."""
        return self.model_dump(exclude={"name"})

    def in_effect(self) -> dict[str, Any]:
        """Return the options that have an effect, with the values that are used."""
        entry = self.method
        return entry.in_effect(self.arguments()) if entry else self.arguments()


class ForeignOptimizer(OptimizerConfig):
    """Common interface of optimizer classes of other packages."""

    @property
    def source(self) -> str:
        """Return the setting that selects the class, for error messages."""
        raise NotImplementedError

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of the class, without the learning rate."""
        raise NotImplementedError

    def load(self) -> type[Any]:
        """Import the class. Its type is not checked.

        Raises:
            InputError: If it cannot be imported.
        """
        raise NotImplementedError


class CustomOptimizer(ForeignOptimizer):
    """Any subclass of torch.optim.Optimizer."""

    name: Literal["custom"] = setting(label="Optimizer")
    """Name of the optimizer."""

    class_path: Annotated[str, Field(alias="class")] = setting(label="Class")
    """Import path of the class, for example torch.optim.RAdam."""

    options: Values = setting(default_factory=dict, label="Options")
    """Keyword arguments for the class, except for the learning rate."""

    @field_validator("class_path")
    @classmethod
    def _has_module(cls, value: str) -> str:
        parts = value.split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise broken_rule(
                Violation(
                    "",
                    f"must be the full name of a class, but got {value!r}",
                    'Use for example "torch.optim.RAdam"',
                )
            )
        return value

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the class, except for the learning rate."""
        return dict(self.options)

    @property
    def source(self) -> str:
        """Return the setting that selects the class, for error messages."""
        return f"optimizer.class={self.class_path!r}"

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of the class, without the learning rate."""
        return self.arguments()

    def load(self) -> type[Any]:
        """Import the class ``class_path``. Its type is not checked.

        Raises:
            SettingsError: If the module does not exist, or has no such class.
        """
        module_name, _, class_name = self.class_path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        # A broken module can raise anything.
        except (Exception, SystemExit) as error:
            raise self._not_imported(error) from error
        try:
            return getattr(module, class_name)
        except AttributeError:
            raise _class_error(
                f"{self.class_path!r}: the module {module_name} has no {class_name}"
            ) from None
        # A module that imports its parts on access can raise anything here, too.
        except Exception as error:
            raise self._not_imported(error) from error

    def _not_imported(self, error: BaseException) -> SettingsError:
        return _class_error(
            f"{self.class_path!r} cannot be imported ({reason_of(error)})",
            "Check the name, or install the package that provides it",
        )


def _class_error(message: str, fix: str = "") -> SettingsError:
    return SettingsError([Violation("optimizer.class", message, fix)])


def _literal(*choices: str) -> Any:
    """Return a Literal type of the given values."""
    literal: Any = Literal
    return literal[choices]


def _option_field(option: Option) -> tuple[Any, Any]:
    """Return the annotation and field of an option, for ``create_model``."""
    annotation: Any = _literal(*option.choices) if option.choices else option.type
    strict = True if annotation in (bool, int, float) else None
    constrained: Any = Annotated[
        annotation,
        Field(
            strict=strict,
            ge=None if option.low_open else option.low,
            gt=option.low if option.low_open else None,
            le=None if option.high_open else option.high,
            lt=option.high if option.high_open else None,
        ),
    ]
    unit = f" Unit: {option.unit}." if option.unit else ""
    return (
        constrained | None if option.optional else constrained,
        setting(
            option.default,
            label=option.label or option.name,
            unset_means=option.unset_means,
            description=option.doc + unit,
        ),
    )


class _OfRecord(OptimizerConfig):
    """Base class for models that are created from catalogue entries.

    Docstrings of fields are disabled, because pydantic would search all imported
    modules for the source of the class, which takes seconds.
    """

    model_config = ConfigDict(use_attribute_docstrings=False)


class PackagedOptimizer(ForeignOptimizer, _OfRecord):
    """Base class for models of optimizers of other packages."""

    record: ClassVar[PackagedMethod]
    """Record of the optimizer."""

    if TYPE_CHECKING:
        # Declared by each model, after its other options.
        options: Values

    @field_validator("options", check_fields=False)
    @classmethod
    def _is_no_option(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            own = cls.record.packed.get(name, (name,))
            known = all(part in cls.model_fields for part in own)
            if known or name == "lr" or name in cls.record.fixed:
                raise broken_rule(_not_here(cls.record, name, own))
        return value

    @property
    def source(self) -> str:
        """Return the setting that selects the class, for error messages."""
        return f"optimizer.name={self.name!r}"

    def in_effect(self) -> dict[str, Any]:
        """Return the options that have an effect, with the values that are used."""
        return self.record.in_effect(self.arguments()) | self.options

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of the class, without the learning rate."""
        known = {
            option.name: getattr(self, option.name) for option in self.record.options
        }
        return self.record.keywords(known) | self.options

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            OptionError: If its package is not installed.
        """
        return self.record.load()


def _not_here(entry: PackagedMethod, name: str, own: tuple[str, ...]) -> Violation:
    if name in entry.fixed:
        problem, fix = f"{name!r} is always {entry.fixed[name]!r} here", "Remove it"
    elif name == "lr":
        problem, fix = "'lr' is not an option", "Use the setting learning_rate"
    else:
        problem = f"{name!r} is set outside of options"
        fix = f"Use {' and '.join(f'optimizer.{part}' for part in own)}"
    return Violation("", problem, fix)


def _model_of(entry: Method) -> type[OptimizerConfig]:
    fields: dict[str, Any] = {
        "name": (_literal(entry.name), Field(description="Name of the optimizer.")),
        **{option.name: _option_field(option) for option in entry.options},
    }
    title = "".join(part.capitalize() for part in entry.name.split("_"))
    packaged = isinstance(entry, PackagedMethod)
    if packaged:
        fields["options"] = (
            Values,
            setting(
                default_factory=dict,
                label="Other options",
                description=f"Other keyword arguments of {entry.class_path}.",
            ),
        )
    model = create_model(
        f"{title}Options",
        __base__=PackagedOptimizer if packaged else _OfRecord,
        __doc__=entry.summary,
        **fields,
    )
    if packaged:
        model.record = entry  # type: ignore[attr-defined]
    return model


OPTIMIZER_MODELS: dict[str, type[OptimizerConfig]] = {
    **{name: _model_of(entry) for name, entry in (CATALOGUE | PACKAGED).items()},
    CUSTOM: CustomOptimizer,
}
"""Models of the union by optimizer name, including loaded plugins."""

_entries = dict(CATALOGUE)


def optimizer_union() -> Any:
    """Return the union of :data:`OPTIMIZER_MODELS` in its current state."""
    union: Any = Union
    return union[tuple(OPTIMIZER_MODELS.values())]


def follow_catalogue() -> bool:
    """Update :data:`OPTIMIZER_MODELS`. Return whether it has changed."""
    if _entries == CATALOGUE:
        return False
    made = {
        name: OPTIMIZER_MODELS[name]
        if _entries.get(name) == entry
        else _model_of(entry)
        for name, entry in CATALOGUE.items()
    }
    _entries.clear()
    _entries.update(CATALOGUE)
    always = {name: OPTIMIZER_MODELS[name] for name in (*PACKAGED, CUSTOM)}
    OPTIMIZER_MODELS.clear()
    OPTIMIZER_MODELS.update(made | always)
    return True


if TYPE_CHECKING:
    OptimizerChoice: TypeAlias = OptimizerConfig
else:
    OptimizerChoice = Annotated[optimizer_union(), Field(discriminator="name")]
