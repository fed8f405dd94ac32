"""A LoRA file of peft's own spelling as the installed peft loads it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from torch import nn

from ..weights import LoraFactors
from .diffusers_loading import hollow_layer, injected_factors
from .lora_file import LoraFile

__all__ = ["PEFT", "load_by_peft"]

PEFT = f"peft {importlib.metadata.version('peft')}"
"""Name and version."""


def load_by_peft(
    file: LoraFile,
) -> tuple[Mapping[str, LoraFactors], tuple[str, ...]]:
    """Load a file into a model that has its layers alone, without weights.

    The settings are those of an ``adapter_config.json`` with the ranks and alphas of
    the file.

    Returns:
        Key of a layer -> factors as applied, and keys that peft does not expect.
    """
    import peft

    model, names = nn.Module(), {}
    for layer in file.layers:
        path = layer.stem.removeprefix("base_model.model.")
        names[path] = layer
        _add(model, path, layer.factors)
    first = file.layers[0].factors
    config = peft.LoraConfig(
        r=first.rank,
        lora_alpha=first.alpha,  # pyrefly: ignore
        target_modules=sorted(names),
        rank_pattern={f"^{p}": layer.factors.rank for p, layer in names.items()},
        alpha_pattern={f"^{p}": layer.factors.alpha for p, layer in names.items()},
        use_dora=first.is_dora,
    )
    plain = {key.replace(".default.", "."): t for key, t in file.tensors.items()}
    wrapped = peft.PeftModel(model, config, low_cpu_mem_usage=True)  # pyrefly: ignore
    result = peft.set_peft_model_state_dict(wrapped, plain, low_cpu_mem_usage=True)
    found = injected_factors(model, "default")
    named = {names[path].key: factors for path, factors in found.items()}
    return named, tuple(result.unexpected_keys)


def _add(model: nn.Module, path: str, factors: LoraFactors) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        if not hasattr(model, name):
            model.add_module(name, nn.Module())
        model = getattr(model, name)
    conv = factors.down.ndim > 2
    model.add_module(leaf, hollow_layer(factors, conv=conv))
