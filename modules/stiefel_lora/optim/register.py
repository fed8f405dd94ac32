"""Registration of custom optimizer classes."""

from __future__ import annotations

import copy
import inspect
import keyword
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from .._exceptions import OptionError
from ..methods import Method, Option, add_method
from ..methods._types import AlphaPolicy, Start
from .group_checks import RESERVED
from .lora_optimizer import understanding_betas
from .pair_optimizer import PairOptimizer
from .rule import Rule

__all__ = ["register"]

_Class = TypeVar("_Class", bound=type)
_NAME = re.compile(r"[a-z][a-z0-9_]*")

# sd-scripts handles class names with these endings by its own special cases.
_FOREIGN_ENDINGS = ("8bit", "schedulefree")

# Attributes of pydantic models, from which configurations are built.
_NO_KEYS = {
    *("arguments", "construct", "copy", "dict", "from_orm", "in_effect", "json"),
    "method",
    *("options", "parse_file", "parse_obj", "parse_raw", "schema", "schema_json"),
    *("update_forward_refs", "validate"),
}


def register(
    *,
    label: str,
    summary: str,
    default_lr: float,
    options: Sequence[Option] = (),
    name: str | None = None,
    lr_unit: str = "the method's own",
    alpha_policy: AlphaPolicy = "free",
    start: Start | None = None,
    separable: bool = False,
) -> Callable[[_Class], _Class]:
    """Register a subclass of ``PairOptimizer`` as an optimizer. Used as a decorator.

    The class needs a ``rule``: a :class:`~stiefel_lora.optim.rule.Rule` or a subclass
    of it. Its constructor ``(params, lr, *, <options>)`` is generated. Registering a
    class again replaces it.

    Args:
        label: name in menus and logs.
        summary: one sentence that describes the method.
        default_lr: learning rate for a first run.
        options: keyword arguments of the constructor, in this order.
        name: lowercase name in configurations. By default, it is derived from
            ``label``.
        lr_unit: unit of the learning rate, in a few words.
        alpha_policy: ``"rank"`` if the method controls the scale of the product B A, so
            that LoRA alpha must be equal to the rank.
        start: initialization: ``"stiefel"`` (B orthonormal, A zero), ``"riemannion"``
            (B orthonormal, A tiny) or ``"lora"`` (A random, B zero). By default, it is
            ``"stiefel"`` if the rule has ``orthonormal_up``, otherwise ``"lora"``.
        separable: whether a factor can be updated without the other factor, which a
            fused backward pass requires. If True, the rule must define ``factor_rules``
            or ``adamw_roles``.

    Returns:
        A decorator that returns the class.

    Raises:
        OptionError: If the class, its rule or an option is invalid, or another method
            has the same name or label.
    """
    given = {
        "label": label,
        "summary": summary,
        "lr_unit": lr_unit,
        "name": name,
        "options": options,
        "alpha_policy": alpha_policy,
        "start": start,
        "separable": separable,
    }

    def add(cls: _Class) -> _Class:
        _check_kinds(given)
        rule = _rule_of(cls)
        usual: Start = "stiefel" if rule.orthonormal_up else "lora"
        entry = Method(
            name=_name_of(label) if name is None else name,
            label=label,
            summary=summary,
            target=f"{cls.__module__}:{cls.__qualname__}",
            options=tuple(options),
            default_lr=default_lr,
            lr_unit=lr_unit,
            alpha_policy=alpha_policy,
            start=usual if start is None else start,
            separable=separable,
            implementation=cls,
        )
        _check(entry, cls, rule)
        add_method(entry)
        made: Any = cls
        rule.options = entry.options
        made.rule, made.method = rule, entry.name
        made.__init__ = understanding_betas(_constructor(entry))
        return cls

    return add


def _check_kinds(given: Mapping[str, Any]) -> None:
    """Check the types of the arguments of ``register``.

    Raises:
        OptionError: If an argument has an invalid type. Only the first one is reported.
    """
    for key in ("label", "summary", "lr_unit"):
        if not (isinstance(given[key], str) and given[key].strip()):
            raise OptionError(f"{key}: must be a string, but got {given[key]!r}.")
    name, options = given["name"], given["options"]
    if name is None and not _name_of(given["label"]):
        raise OptionError(
            f"name: no name can be derived from the label {given['label']!r}. Pass "
            "a name, for example name='sign_lora'."
        )
    if not (name is None or isinstance(name, str)):
        raise OptionError(f"name: must be a string, but got {name!r}.")
    whole = isinstance(options, list | tuple)
    if not (whole and all(isinstance(option, Option) for option in options)):
        raise OptionError(
            "options: must be a list or tuple of Option(...). Use "
            "options=(Option(...),), with a comma after a single option."
        )
    for key, known in (("alpha_policy", AlphaPolicy), ("start", Start)):
        if given[key] not in (*get_args(known), *([None] if key == "start" else [])):
            raise OptionError(
                f"{key}: must be one of {', '.join(get_args(known))}, but got "
                f"{given[key]!r}."
            )
    if not isinstance(given["separable"], bool):
        raise OptionError(
            f"separable: must be True or False, but got {given['separable']!r}."
        )


def _rule_of(cls: type) -> Rule:
    if not (isinstance(cls, type) and issubclass(cls, PairOptimizer)):
        raise OptionError(
            f"register: {getattr(cls, '__name__', cls)} is not a subclass of "
            "PairOptimizer. Derive it from stiefel_lora.PairOptimizer. Other "
            "optimizer classes can be used with "
            f'{{"name": "custom", "class": ...}}.'
        )
    rule = getattr(cls, "rule", None)
    if isinstance(rule, type) and issubclass(rule, Rule):
        return rule()
    if isinstance(rule, Rule):
        # A base class's rule keeps the options of that class.
        return copy.copy(rule)
    raise OptionError(
        f"register: {cls.__name__} has no rule. Define class rule(Rule) in it, with "
        "a method update(self, batch)."
    )


def _name_of(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def _check(entry: Method, cls: type, rule: Rule) -> None:
    """Check a registered class and its catalogue entry.

    Raises:
        OptionError: If a check fails. Only the first failed check is reported.
    """
    if not _NAME.fullmatch(entry.name):
        raise OptionError(
            f"name: {entry.name!r} cannot be used in a configuration. Use lowercase "
            "letters, digits and _, starting with a letter, for example "
            "name='sign_lora'."
        )
    if cls.__name__.lower().endswith(_FOREIGN_ENDINGS):
        raise OptionError(
            f"register: class names with the ending of {cls.__name__} are reserved for "
            "the optimizers of sd-scripts. Rename the class."
        )
    lr = entry.default_lr
    if isinstance(lr, bool) or not (isinstance(lr, int | float) and 0 < lr < 1e3):
        raise OptionError(
            f"default_lr: must be a number above 0, but got {entry.default_lr!r}."
        )
    if "__init__" in cls.__dict__ and not hasattr(cls.__init__, "__signature__"):
        raise OptionError(
            f"register: {cls.__name__} defines __init__, which is generated from "
            "the options. Remove it, and add an Option for each argument."
        )
    steps = ("update", "factor_rules", "adamw_roles")
    if all(getattr(type(rule), step) is getattr(Rule, step) for step in steps):
        raise OptionError(
            f"register: the rule of {cls.__name__} does not update any factor. "
            "Define a method update(self, batch)."
        )
    if entry.separable and all(
        getattr(type(rule), step) is getattr(Rule, step) for step in steps[1:]
    ):
        raise OptionError(
            f"separable: the rule of {cls.__name__} updates B and A together in "
            "update. Define factor_rules or adamw_roles, or remove separable."
        )
    names = [option.name for option in entry.options]
    for option in entry.options:
        problem = _option_problem(option, names)
        if problem:
            raise OptionError(f"options: {option.name!r} {problem}")


def _option_problem(option: Option, names: list[str]) -> str | None:
    """Return the problem of an option as the end of an error message, or None."""
    name = option.name
    for key in ("doc", "unit", "label", "unset_means"):
        if not isinstance(getattr(option, key), str):
            return f"has {key}={getattr(option, key)!r}, which is not a string."
    for key in ("low", "high"):
        bound = getattr(option, key)
        if isinstance(bound, bool) or not isinstance(bound, int | float | None):
            return f"has {key}={bound!r}, which is not a number."
    if option.low is not None and option.high is not None and option.low > option.high:
        return f"has low={option.low:g}, which is greater than high={option.high:g}."
    choices = option.choices
    if not isinstance(choices, tuple) or not all(isinstance(c, str) for c in choices):
        return (
            "has choices that are not a tuple of strings. Use for example "
            'choices=("a", "b").'
        )
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or keyword.iskeyword(name)
    ):
        return "is not a valid option name. Use lowercase letters, digits and _."
    if names.count(name) > 1:
        return "is defined twice. Remove one of them."
    if name in RESERVED:
        return "is reserved in parameter groups. Use another name."
    if name in _NO_KEYS or name.startswith("model_"):
        return "cannot be used as a key of a configuration. Use another name."
    if option.type not in (float, int, bool, str):
        return (
            "has a default from which no type can be derived. Pass type=float (or "
            "int, bool, str), and optional=True if None is allowed."
        )
    if option.type is str and not option.choices:
        return "is a string without choices. Pass choices=(...)."
    violation = option.violation(option.default)
    if violation:
        return (
            f"has the default {option.default!r}, which {violation}. Change "
            "one of them."
        )
    if isinstance(option.default, float) and not math.isfinite(option.default):
        return "has a default that is not finite."
    return None


def _constructor(entry: Method) -> Callable[..., None]:
    """Generate ``__init__(self, params, lr, *, <options>)`` from a catalogue entry."""

    def __init__(
        self: PairOptimizer, params: Any, lr: Any = entry.default_lr, **options: Any
    ) -> None:
        PairOptimizer.__init__(self, params, lr, entry.defaults() | options)

    kinds = inspect.Parameter
    made: Any = __init__
    made.__signature__ = inspect.Signature(
        [
            kinds("self", kinds.POSITIONAL_OR_KEYWORD),
            kinds("params", kinds.POSITIONAL_OR_KEYWORD),
            kinds("lr", kinds.POSITIONAL_OR_KEYWORD, default=entry.default_lr),
            *(
                kinds(option.name, kinds.KEYWORD_ONLY, default=option.default)
                for option in entry.options
            ),
        ]
    )
    lines = [f"    {option.name}: {option.text}" for option in entry.options]
    made.__doc__ = "\n".join(
        [
            entry.summary,
            "",
            "Args:",
            "    params: model, named parameters, parameters or groups of them.",
            f"    lr: learning rate; its unit: {entry.lr_unit}.",
            *lines,
        ]
    )
    return __init__
