"""Register an optimizer class from outside the package in the catalogue."""

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
from .groups import RESERVED
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
    *("arguments", "construct", "copy", "dict", "from_orm", "json", "method"),
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
    """Decorate a subclass of ``PairOptimizer`` to add it to the catalogue.

    The class needs a ``rule``: a :class:`~stiefel_lora.optim.rule.Rule` or a subclass
    of it. Its constructor ``(params, lr, *, <options>)`` is generated. Registering a
    class again replaces it.

    Args:
        label: name in menus.
        summary: one sentence that describes the method.
        default_lr: learning rate for a first run.
        options: keyword arguments of the constructor, in this order.
        name: name in configurations, in lower case; derived from the label by default.
        lr_unit: unit of the learning rate, in a few words.
        alpha_policy: ``"rank"`` where the method owns the scale of the product, so that
            LoRA alpha must equal the rank.
        start: ``"stiefel"`` (B orthonormal, A zero), ``"riemannion"`` (A tiny) or
            ``"lora"`` (A random, B zero). By default ``"stiefel"`` if the rule has
            ``orthonormal_up``, otherwise ``"lora"``.
        separable: whether a parameter can be stepped without its partner, as a fused
            backward pass does; such a rule has ``factor_rules`` or ``adamw_roles``.

    Returns:
        A decorator that returns the class.

    Raises:
        OptionError: raised by the decorator: not such a class or rule, an invalid
            option, or a name or label that another method has.
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
    """Check the kinds of register's arguments, before anything is made of them.

    Raises:
        OptionError: the first that is of another kind.
    """
    for key in ("label", "summary", "lr_unit"):
        if not (isinstance(given[key], str) and given[key].strip()):
            raise OptionError(
                f"{key}: must be a text, not {given[key]!r}. Write a few words in "
                "double quotes."
            )
    name, options = given["name"], given["options"]
    if name is None and not _name_of(given["label"]):
        raise OptionError(
            f"name: none can be made of the label {given['label']!r}. Add one, for "
            "example name='sign_lora'."
        )
    if not (name is None or isinstance(name, str)):
        raise OptionError(f"name: must be a text, not {name!r}. Write it in quotes.")
    whole = isinstance(options, list | tuple)
    if not (whole and all(isinstance(option, Option) for option in options)):
        raise OptionError(
            "options: must be a list or tuple of Option(...). Write "
            "options=(Option(...),), with the comma also after a single one."
        )
    for key, known in (("alpha_policy", AlphaPolicy), ("start", Start)):
        if given[key] not in (*get_args(known), *([None] if key == "start" else [])):
            raise OptionError(
                f"{key}: must be one of {', '.join(get_args(known))}, not "
                f"{given[key]!r}. Write one of them or leave it out."
            )
    if not isinstance(given["separable"], bool):
        raise OptionError(
            f"separable: must be True or False, not {given['separable']!r}."
        )


def _rule_of(cls: type) -> Rule:
    if not (isinstance(cls, type) and issubclass(cls, PairOptimizer)):
        raise OptionError(
            f"register: {getattr(cls, '__name__', cls)} is not a subclass of "
            "PairOptimizer. Derive it from stiefel_lora.PairOptimizer; any other "
            'optimizer class trains with {"name": "custom", "class": ...}.'
        )
    rule = getattr(cls, "rule", None)
    if isinstance(rule, type) and issubclass(rule, Rule):
        return rule()
    if isinstance(rule, Rule):
        # A base class's rule keeps the options of that class.
        return copy.copy(rule)
    raise OptionError(
        f"register: {cls.__name__} has no rule. Write class rule(Rule) inside of it, "
        "with a method update(self, batch)."
    )


def _name_of(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def _check(entry: Method, cls: type, rule: Rule) -> None:
    """Check a record that the tests of this package cannot cover.

    Raises:
        OptionError: the first rule that it breaks.
    """
    if not _NAME.fullmatch(entry.name):
        raise OptionError(
            f"name: {entry.name!r} cannot be written in a configuration. Use small "
            "letters, digits and _, beginning with a letter, for example "
            "name='sign_lora'."
        )
    if cls.__name__.lower().endswith(_FOREIGN_ENDINGS):
        raise OptionError(
            f"register: sd-scripts reserves class names that end like {cls.__name__} "
            "for its own optimizers. Rename the class."
        )
    lr = entry.default_lr
    if isinstance(lr, bool) or not (isinstance(lr, int | float) and 0 < lr < 1e3):
        raise OptionError(
            f"default_lr: {entry.default_lr!r} is not a learning rate. Write a number "
            "above 0."
        )
    if "__init__" in cls.__dict__ and not hasattr(cls.__init__, "__signature__"):
        raise OptionError(
            f"register: {cls.__name__} has an __init__, but it is generated from the "
            "options. Remove it, and add an Option for each argument."
        )
    steps = ("update", "factor_rules", "adamw_roles")
    if all(getattr(type(rule), step) is getattr(Rule, step) for step in steps):
        raise OptionError(
            f"register: the rule of {cls.__name__} moves nothing. Give it a method "
            "update(self, batch)."
        )
    if entry.separable and all(
        getattr(type(rule), step) is getattr(Rule, step) for step in steps[1:]
    ):
        raise OptionError(
            f"separable: the rule of {cls.__name__} steps B and A at once in update. "
            "Give it factor_rules or adamw_roles, or leave separable out."
        )
    names = [option.name for option in entry.options]
    for option in entry.options:
        problem = _option_problem(option, names)
        if problem:
            raise OptionError(f"options: {option.name!r} {problem}")


def _option_problem(option: Option, names: list[str]) -> str | None:
    """End of an error about an invalid option, or None."""
    name = option.name
    for key in ("doc", "unit", "label", "unset_means"):
        if not isinstance(getattr(option, key), str):
            return f"has the {key} {getattr(option, key)!r}, which is no text."
    for key in ("low", "high"):
        bound = getattr(option, key)
        if isinstance(bound, bool) or not isinstance(bound, int | float | None):
            return f"has the bound {key}={bound!r}, which is no number."
    if option.low is not None and option.high is not None and option.low > option.high:
        return f"has low={option.low:g} above high={option.high:g}. Exchange them."
    choices = option.choices
    if not isinstance(choices, tuple) or not all(isinstance(c, str) for c in choices):
        return 'has choices that are no tuple of texts. Write choices=("a", "b").'
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or keyword.iskeyword(name)
    ):
        return "is not a valid option name. Use lower-case letters, digits and _."
    if names.count(name) > 1:
        return "is given twice. Write it once."
    if name in RESERVED:
        return "has its own meaning in a parameter group. Choose another name."
    if name in _NO_KEYS or name.startswith("model_"):
        return "cannot be a key of a configuration. Choose another name."
    if option.type not in (float, int, bool, str):
        return (
            "has a type that cannot be derived from its default. Write type=float (or "
            "int, bool, str), and optional=True if None is allowed."
        )
    if option.type is str and not option.choices:
        return "is a text without choices. Write choices=(...)."
    violation = option.violation(option.default)
    if violation:
        return f"has the default {option.default!r}, which {violation}. Change one."
    if isinstance(option.default, float) and not math.isfinite(option.default):
        return "has a default that is not finite. Write a finite one."
    return None


def _constructor(entry: Method) -> Callable[..., None]:
    """Generate ``__init__(self, params, lr, *, <options>)`` from a record."""

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
