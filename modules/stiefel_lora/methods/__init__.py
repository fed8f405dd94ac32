"""The catalogue of optimizers: one record a method, standard library only.

Config, command line, GUI, docs and host adapters are built from these records; the
constructors are compared with them in a test. Importing this package imports no torch.
"""

from __future__ import annotations

import difflib

from .._exceptions import OptionError
from ._baselines import ADAMW, ADAMW_8BIT, LORA_PLUS, SCALED_ADAMW
from ._common import adam_options
from ._geometric import LORA_RITE, RIEMANNION, STELLA
from ._rates import rate_note, usual_lr
from ._stiefel import STIEFEL_LORA
from ._types import Method, Option

__all__ = [
    "CATALOGUE",
    "Method",
    "Option",
    "adam_options",
    "check_options",
    "method",
    "rate_note",
    "usual_lr",
]

CATALOGUE: dict[str, Method] = {
    entry.name: entry
    for entry in (
        STIEFEL_LORA,
        STELLA,
        LORA_RITE,
        RIEMANNION,
        ADAMW,
        LORA_PLUS,
        SCALED_ADAMW,
        ADAMW_8BIT,
    )
}


def method(name: str) -> Method:
    """Look up a method by its catalogue name.

    Raises:
        OptionError: no method has this name; the sentence names the nearest one.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise OptionError(
        f"There is no optimizer {name!r}; {_suggestion(name, list(CATALOGUE))}"
    )


def check_options(entry: Method, options: dict[str, object]) -> None:
    """Check keyword options of a method: names, types, bounds and what they need.

    Raises:
        OptionError: unknown name (the nearest one is named), value out of bounds, or an
            option that has no effect beside the others.
    """
    known = {option.name: option for option in entry.options}
    for name, value in options.items():
        if name not in known:
            raise OptionError(
                f"{entry.name} has no option {name!r}; {_suggestion(name, list(known))}"
            )
        violation = known[name].violation(value)
        if violation:
            raise OptionError(f"{entry.name}: {name}={value!r} {violation}.")
    for option, name, value in entry.idle(options):
        raise OptionError(
            f"{entry.name}: {option.name}={options[option.name]!r} has no effect with "
            f"{name}={options[name]!r}. Remove it, or set {name}={value!r}."
        )


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it knows {', '.join(known)}."
