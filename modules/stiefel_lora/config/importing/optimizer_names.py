"""Optimizers of other programs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ...methods import CATALOGUE, PACKAGED, PackagedMethod
from ..settings.optimization import DEFAULT_OPTIMIZER
from .key_rules import Result

__all__ = ["FoundOptimizer", "find_optimizer", "took_options"]

_OURS = {
    "adamw": "adamw",
    "adamw8": "adamw_8bit",
    "adamw8bit": "adamw_8bit",
    "stiefellora": DEFAULT_OPTIMIZER,
    **{name.replace("_", ""): name for name in CATALOGUE},
}
# The part of a class path after which the names of its package are used.
_OF_PACKAGE = {
    (entry.package, entry.target.rpartition(":")[2].lower()): name
    for name, entry in PACKAGED.items()
}
_PACKAGED = {
    **{name.replace("_", ""): name for name in PACKAGED},
    **{entry.target.rpartition(":")[2].lower(): n for n, entry in PACKAGED.items()},
    "prodigy8bit": "prodigy",
}
_CLASSES = {
    "adabelief": "pytorch_optimizer.AdaBelief",
    "adagrad": "torch.optim.Adagrad",
    "adagrad8bit": "bitsandbytes.optim.Adagrad8bit",
    "adam": "torch.optim.Adam",
    "adam8bit": "bitsandbytes.optim.Adam8bit",
    "adan": "pytorch_optimizer.Adan",
    "ademamix": "bitsandbytes.optim.AdEMAMix",
    "ademamix8bit": "bitsandbytes.optim.AdEMAMix8bit",
    "adopt": "pytorch_optimizer.ADOPT",
    "dadaptadagrad": "dadaptation.DAdaptAdaGrad",
    "dadaptadam": "dadaptation.DAdaptAdam",
    "dadaptadampreprint": "dadaptation.experimental.DAdaptAdamPreprint",
    "dadaptadan": "dadaptation.DAdaptAdan",
    "dadaptadanip": "dadaptation.experimental.DAdaptAdanIP",
    "dadaptation": "dadaptation.DAdaptAdam",
    "dadaptlion": "dadaptation.DAdaptLion",
    "dadaptsgd": "dadaptation.DAdaptSGD",
    "lion8bit": "bitsandbytes.optim.Lion8bit",
    "pagedadamw": "bitsandbytes.optim.PagedAdamW",
    "pagedadamw32bit": "bitsandbytes.optim.PagedAdamW32bit",
    "pagedadamw8bit": "bitsandbytes.optim.PagedAdamW8bit",
    "pagedlion8bit": "bitsandbytes.optim.PagedLion8bit",
    "rmsprop": "torch.optim.RMSprop",
    "rmsprop8bit": "bitsandbytes.optim.RMSprop8bit",
    "sgd": "torch.optim.SGD",
    "sgd8bit": "bitsandbytes.optim.SGD8bit",
    "sgdnesterov": "torch.optim.SGD",
    "sgdnesterov8bit": "bitsandbytes.optim.SGD8bit",
}
_EXTRA = {
    "sgdnesterov": {"momentum": 0.9, "nesterov": True},
    "sgdnesterov8bit": {"momentum": 0.9, "nesterov": True},
}
_FALLBACK = "adamw"
# The defaults of torch and bitsandbytes, which differ from those here.
_DECAY = {"adamw": 0.01, "adamw_8bit": 0.01}


@dataclasses.dataclass(frozen=True)
class FoundOptimizer:
    """An optimizer and the options that it takes.

    Attributes:
        setting: value of the setting ``optimizer``.
        note: what has changed, or "".
        is_same: whether it is the same method, with the same unit of the learning rate.
        lost: names of options that it does not have.
    """

    setting: dict[str, Any]
    note: str = ""
    is_same: bool = True
    lost: tuple[str, ...] = ()

    @property
    def owns_scale(self) -> bool:
        """True if alpha must be equal to the rank."""
        entry = CATALOGUE.get(self.setting["name"])
        return entry is not None and entry.alpha_policy == "rank"

    @property
    def is_schedule_free(self) -> bool:
        """True if other programs do not use a schedule with it."""
        entry = PACKAGED.get(self.setting["name"])
        return entry is not None and bool(entry.schedule_free)


def find_optimizer(name: str, options: Mapping[str, Any]) -> FoundOptimizer:
    """Return the optimizer for a name of another program.

    Args:
        name: name, in any case, or the import path of a class.
        options: options by the names of torch, such as ``betas``.
    """
    plain = name.lower().replace("_", "").replace("-", "")
    ours = _OURS.get(plain.rpartition(".")[2])
    if "." in name and ours in (_FALLBACK, "adamw_8bit"):
        ours = None
    if ours:
        return _own(ours, options)
    packaged = _packaged_name(name)
    if packaged == "adafactor" and options.get("relative_step", True) is not False:
        return _replaced(f"{name} with relative_step does not use a learning rate")
    if packaged:
        note = "with moments of 32 bits" if plain.endswith("8bit") else ""
        return _of_package(PACKAGED[packaged], options, note)
    path = name if "." in name else _CLASSES.get(plain)
    if path is None:
        return _replaced(f"{name} is not supported")
    package = path.partition(".")[0]
    note = "" if package == "torch" else f"requires the package {package}"
    found = {**_EXTRA.get(plain, {}), **options}
    setting = {"name": "custom", "class": path, **({"options": found} if found else {})}
    return FoundOptimizer(setting, note)


def _packaged_name(name: str) -> str | None:
    """Return the name here of an optimizer of a package that is used by name."""
    path = name.lower().split(".")
    if len(path) > 1:
        return _OF_PACKAGE.get((path[0], path[-1]))
    return _PACKAGED.get(path[0].replace("_", "").replace("-", ""))


def _of_package(
    entry: PackagedMethod, options: Mapping[str, Any], note: str
) -> FoundOptimizer:
    needed = f"requires the package {entry.package}" if entry.extra else ""
    setting: dict[str, Any] = {"name": entry.name}
    if entry.name == "adafactor":
        # The default of the class, which is another one here.
        setting["scale_parameter"] = True
    known = {option.name for option in entry.options}
    for key, value in options.items():
        setting |= _option_of_package(entry, known, key, value)
    others = setting.pop("options", {}) | {
        key: setting.pop(key) for key in [*setting] if key not in {*known, "name"}
    }
    if others:
        setting["options"] = others
    text = "; ".join(part for part in (needed, note) if part)
    return FoundOptimizer(setting, text)


def _option_of_package(
    entry: PackagedMethod, known: set[str], key: str, value: Any
) -> dict[str, Any]:
    """Return the options here for an argument of the class of a package."""
    parts = entry.packed.get(key)
    if parts and isinstance(value, list | tuple) and len(value) == len(parts):
        return dict(zip(parts, value, strict=True))
    if key in known and value is not None:
        unlimited = isinstance(value, float) and math.isinf(value)
        return {} if unlimited else {key: value}
    return {} if key in entry.fixed or value is None else {key: value}


def took_options(found: FoundOptimizer, options: Mapping[str, Any]) -> Result:
    """Return the result of options that an optimizer takes."""
    entry = PACKAGED.get(found.setting["name"])
    if entry is not None:
        known = {option.name for option in entry.options}
        parts: dict[str, Any] = {}
        for key, value in options.items():
            parts |= _option_of_package(entry, known, key, value)
        sets = {
            f"optimizer.{name}" if name in known else f"optimizer.options.{name}": value
            for name, value in parts.items()
        }
        return Result("taken" if parts.keys() == options.keys() else "translated", sets)
    if found.setting["name"] == "custom":
        sets = {f"optimizer.options.{key}": value for key, value in options.items()}
        return Result("taken", sets)
    sets = {}
    for key, value in options.items():
        if key == "betas":
            sets |= {"optimizer.beta1": value[0], "optimizer.beta2": value[1]}
        else:
            sets[f"optimizer.{key}"] = value
    same = [f"optimizer.{key}" for key in options] == list(sets)
    return Result("taken" if same else "translated", sets)


def _own(name: str, options: Mapping[str, Any]) -> FoundOptimizer:
    given = dict(options)
    betas = given.pop("betas", None)
    if isinstance(betas, list | tuple) and len(betas) == 2:
        given |= {"beta1": betas[0], "beta2": betas[1]}
    given = {**({"weight_decay": _DECAY[name]} if name in _DECAY else {}), **given}
    known = {option.name for option in CATALOGUE[name].options}
    kept = {key: value for key, value in given.items() if key in known}
    lost = tuple(key for key in options if key not in known and key != "betas")
    return FoundOptimizer({"name": name, **kept}, lost=lost)


def _replaced(problem: str) -> FoundOptimizer:
    rate = CATALOGUE[_FALLBACK].default_lr
    note = (
        f"{problem}, so {_FALLBACK} with its default learning rate of {rate:g} is used"
    )
    return FoundOptimizer({"name": _FALLBACK}, note, is_same=False)
