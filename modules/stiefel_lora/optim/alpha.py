"""Handling of LoRA alpha in the layers of a model.

Methods with orthonormal factors control the scale of the product, so that a scale
alpha / r would only rescale the learning rate. For these methods, alpha is set to the
rank. For other methods, a log message reports an alpha that differs from the rank,
because it multiplies their updates. PEFT layers store the scale as ``scaling``. They
are recognized by attribute names, and peft is not imported.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import OptionError
from .._wording import counted
from ..methods import Method
from ._peft_layers import ADALORA, LoraPart, lora_parts, memory_of
from .groups import Source

__all__ = ["ALPHA_IS_RANK", "alpha_note", "fold_alpha_", "settle_alpha"]

log = logging.getLogger("stiefel_lora")

ALPHA_IS_RANK = "alpha_is_rank"
"""Key in a parameter group that is set if a trainer has already handled alpha."""

# PEFT subtracts the initial adapter from the base weights. For these, the difference
# depends on alpha, so another alpha in the saved config would change the base on
# loading.
_BASE_DEPENDS_ON_ALPHA = ("olora",)
_CHANGES_BASE = ("pissa", "corda", "lora_ga")

# For scales that alpha alone does not determine, such as alpha / sqrt(rank).
_SET_SCALE = "Set use_rslora to False and alpha to the rank"
_SCALE_IS_SET = "use_rslora set to False, alpha to the rank"


@dataclasses.dataclass(eq=False)
class _Adapter:
    """Trained adapter of a model, with the dictionary that may contain its config."""

    name: str
    configs: MutableMapping[str, Any]
    parts: list[LoraPart]

    @property
    def config(self) -> Any:
        """PEFT config of the adapter, or None if it is not accessible."""
        return self.configs.get(self.name)

    @property
    def rescaled(self) -> list[LoraPart]:
        return [part for part in self.parts if part.scale != 1.0]

    @property
    def scaled_otherwise(self) -> bool:
        return any(part.scaled_otherwise for part in self.rescaled)


def settle_alpha(
    entry: Method, source: Source, groups: Sequence[Mapping[str, Any]]
) -> None:
    """Set alpha to the rank if the method requires it, else log a note about alpha.

    Args:
        entry: catalogue entry of the method.
        source: the ``params`` argument of the optimizer. Only a module exposes its
            alpha.
        groups: parameter groups of ``source``.

    Raises:
        OptionError: If a scale cannot be merged into a factor.
    """
    if entry.alpha_policy == "rank":
        if isinstance(source, nn.Module):
            fold_alpha_(source)
        elif not all(group.get(ALPHA_IS_RANK) for group in groups):
            _warn_of_hidden_alpha()
    elif isinstance(source, nn.Module):
        parts = lora_parts(source)
        trained = [p for p in parts if p.trained and p.odd != ADALORA]
        other = any(part.scaled_otherwise for part in trained)
        note = alpha_note(entry, [part.scale for part in trained], other=other)
        if note:
            log.warning(note)
    elif not any(ALPHA_IS_RANK in group for group in groups):
        _warn_of_hidden_scale(entry.label, entry.default_lr)


def alpha_note(
    entry: Method, scales: Iterable[float], *, other: bool = False
) -> str | None:
    """Return a note about alpha for a method that does not change it, or None.

    Args:
        entry: catalogue entry of the method.
        scales: scale of the product B A in every trained layer.
        other: whether any layer has a scale other than alpha / rank.

    Returns:
                The note, or None if the method sets alpha to the rank or every scale is
                1.
    """
    known = list(scales)
    low, high = min(known, default=1.0), max(known, default=1.0)
    if entry.alpha_policy == "rank" or low == high == 1.0:
        return None
    if low != high:
        shown, fix = f"{low:g} to {high:g}", "Set alpha to the rank."
    else:
        shown = f"{low:g}"
        remedy = f" or multiply the learning rate by {1 / low:g}" if low > 0 else ""
        fix = f"Set alpha to the rank{remedy}."
    name, meant = "alpha / rank", "at alpha = rank"
    if other:
        name, meant = "the scale of the product", "at a scale of 1"
        fix = fix.replace("Set alpha to the rank", _SET_SCALE)
    return (
        f"alpha: {name} is {shown} in {len(known)} layers, and {entry.label} does "
        f"not change it. The update of the product B A is {shown} times as large as "
        f"{meant}, which the default learning rate of {entry.default_lr:g} assumes. "
        f"{fix}"
    )


@functools.cache
def _warn_of_hidden_scale(label: str, rate: float) -> None:
    log.warning(
        "The LoRA alpha cannot be read from parameters alone, and %s does not "
        "change it. The update of the product B A is scaled by alpha / rank, but the "
        "default learning rate of %g assumes alpha = rank. Set alpha to the rank in "
        "your trainer.",
        *(label, rate),
    )


@functools.cache
def _warn_of_hidden_alpha() -> None:
    log.warning(
        "The LoRA alpha cannot be read from parameters alone. Set alpha to the rank "
        "in your trainer, because this optimizer controls the scale of the product."
    )


@torch.no_grad()
def fold_alpha_(model: nn.Module) -> int:
    """Fold the PEFT scale of every trained adapter into its factors, in place.

    Alpha is set to the rank in layers and configs. The output of the model is unchanged
    up to rounding, also after ``save_pretrained`` and loading. Frozen adapters are not
    changed.

    Returns:
        Number of layers whose alpha was not their rank.

    Raises:
        OptionError: If a scale cannot be merged into a factor. No factor is changed in
            this case.
    """
    adapters = list(_trained_adapters(model))
    for adapter in adapters:
        _check_foldable(adapter)
    scaled: dict[tuple[int, int], float] = {}
    for adapter in adapters:
        _check_shared(adapter, scaled)
    done: set[tuple[int, int]] = set()
    folded = sum(len(adapter.rescaled) for adapter in adapters)
    otherwise = any(adapter.scaled_otherwise for adapter in adapters)
    for adapter in adapters:
        for part in adapter.parts:
            _fold(part, done)
        if adapter.config is not None:
            adapter.configs[adapter.name] = _rewritten(adapter.config)
    if folded:
        layers = counted(folded, "layer", "layers")
        log.warning(
            "%s in %s. The scale was folded into A and %s. The model output "
            "is unchanged.",
            *(
                ("The scale of the LoRA was not 1", layers, _SCALE_IS_SET)
                if otherwise
                else ("LoRA alpha was not the rank", layers, "alpha set to the rank")
            ),
        )
        _warn_of_converted_starts(adapters)
    return folded


def _trained_adapters(model: nn.Module) -> Iterator[_Adapter]:
    """List the adapters with a trained factor, except for AdaLoRA."""
    seen: set[tuple[int, str]] = set()
    for root, configs in _roots(model):
        found: dict[str, list[LoraPart]] = {}
        for part in lora_parts(root):
            key = (id(part.layer), part.adapter)
            if key not in seen and part.odd != ADALORA:
                seen.add(key)
                found.setdefault(part.adapter, []).append(part)
        for name, parts in found.items():
            if any(part.trained for part in parts):
                yield _Adapter(name, configs, parts)


def _roots(model: nn.Module) -> Iterator[tuple[nn.Module, MutableMapping[str, Any]]]:
    """List the modules with adapter configs, without duplicates, the model last."""
    seen: set[int] = set()
    for module in model.modules():
        configs = getattr(module, "peft_config", None)
        if isinstance(configs, MutableMapping) and id(configs) not in seen:
            seen.add(id(configs))
            yield module, configs
    yield model, {}


def _check_foldable(adapter: _Adapter) -> None:
    rescaled = adapter.rescaled
    if not rescaled:
        return
    if any(part.scale == 0.0 for part in rescaled):
        raise OptionError(
            f"lora_alpha: the scale of adapter {adapter.name!r} is 0, so its layers "
            "have no effect and receive no gradient. Set lora_alpha to r."
        )
    ours = [p for p in rescaled if type(p.layer).__module__.startswith("peft.")]
    if adapter.config is None and ours:
        raise OptionError(
            f"lora_alpha: the scale is not 1 in {len(ours)} layers of adapter "
            f"{adapter.name!r}, and the config that is saved with them is not part "
            "of the module that was passed. Pass the whole model, or set lora_alpha "
            "to r (and use_rslora to False)."
        )
    start = getattr(adapter.config, "init_lora_weights", None)
    if start in _BASE_DEPENDS_ON_ALPHA:
        raise OptionError(
            "lora_alpha: the base weights depend on lora_alpha because "
            f"init_lora_weights is {start!r}, so it cannot be changed after "
            "initialization. Set lora_alpha to r (and use_rslora to False) in the "
            "LoraConfig."
        )


def _check_shared(adapter: _Adapter, scaled: dict[tuple[int, int], float]) -> None:
    """Reject a factor that is used with two scales."""
    for part in adapter.parts:
        key = memory_of(_carrier(part))
        if scaled.setdefault(key, part.scale) != part.scale:
            raise OptionError(
                f"lora_alpha: layers of adapter {adapter.name!r} share a factor, "
                f"but have different scales ({scaled[key]:g} and {part.scale:g}). "
                "Set lora_alpha to r for all of them."
            )


def _carrier(part: LoraPart) -> Tensor:
    """Return the factor that is multiplied by the scale.

    This is A, so that an orthonormal B stays orthonormal. It is B in layers whose
    output is not linear in A (with added noise, or limited column norms).
    """
    return part.up if part.odd or part.embedding else part.down


def _fold(part: LoraPart, done: set[tuple[int, int]]) -> None:
    layer, adapter, scale = part.layer, part.adapter, part.scale
    factors = [_carrier(part)] + ([] if part.bias is None else [part.bias])
    for factor in factors:
        if scale != 1.0 and memory_of(factor) not in done:
            done.add(memory_of(factor))
            factor.mul_(scale)
    scaling = layer.scaling[adapter]
    if isinstance(scaling, Tensor):
        # Compiled layers read it by reference (peft's hot swap of adapters).
        scaling.fill_(1.0)
    else:
        layer.scaling[adapter] = 1.0
    layer.lora_alpha[adapter] = layer.r[adapter]
    if adapter in (getattr(layer, "use_rslora", None) or {}):
        layer.use_rslora[adapter] = False


def _rewritten(config: Any) -> Any:
    """Return a copy of a PEFT config that gives every layer a scale of 1.

    The object itself may be in use by other models and adapters.
    """
    config = copy.copy(config)
    config.lora_alpha = config.r
    config.alpha_pattern = dict(config.rank_pattern or {})
    if getattr(config, "use_rslora", False):
        config.use_rslora = False
    return config


def _warn_of_converted_starts(adapters: Iterable[_Adapter]) -> None:
    starts = {str(getattr(a.config, "init_lora_weights", "")) for a in adapters}
    for start in sorted(starts):
        if start.startswith(_CHANGES_BASE):
            log.warning(
                "init_lora_weights=%r: save the initial adapter for "
                "path_initial_model_for_weight_conversion after creating the "
                "optimizer, because an adapter that was saved earlier has the old "
                "alpha.",
                start,
            )
