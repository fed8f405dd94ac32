"""Loading of a LoRA file in the format of peft with the installed version of peft."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..weights import LoraFactors
from .diffusers_loading import hollow_layer, injected_factors, without_notes
from .lora_file import LoraFile, LoraLayer
from .open_lora import open_lora
from .peft_folder_names import CONFIG, models_in

__all__ = ["PEFT", "load_by_peft"]

PEFT = f"peft {importlib.metadata.version('peft')}"
"""Name and version of the library."""


def load_by_peft(
    file: LoraFile,
) -> tuple[Mapping[str, LoraFactors], tuple[str, ...]]:
    """Load a LoRA file into models that only have the adapted layers.

    The settings of ``adapter_config.json`` in the folder of the file are used. If it
    does not exist, ranks and alphas of the file are used.

    Returns:
        Applied factors by layer key, and the keys that peft does not expect.
    """
    if not file.path.is_dir():
        own, unused = _load(file)
        return {x.key: own[x.stem] for x in file.layers if x.stem in own}, unused
    found: dict[str, LoraFactors] = {}
    left: list[str] = []
    for name in models_in(file.path):
        own, more = _load(open_lora(file.path / name))
        left += more
        # In a separate file, an encoder's layers have no component prefix.
        start = f"base_model.model.{name}."
        keys = {
            x.stem.replace(start, "base_model.model.", 1): x.key
            for x in file.layers
            if x.stem.startswith(start)
        }
        found |= {keys[stem]: factors for stem, factors in own.items()}
    return found, tuple(left)


def _load(file: LoraFile) -> tuple[dict[str, LoraFactors], tuple[str, ...]]:
    """Load an adapter. Return the factors by the stems of the keys."""
    with without_notes():
        import peft

    model, names = nn.Module(), {}
    for layer in file.layers:
        path = layer.stem.removeprefix("base_model.model.")
        names[path] = layer
        _add(model, path, layer.factors)
    config: Any = _config(names)
    if (file.path.parent / CONFIG).is_file():
        config = peft.LoraConfig.from_pretrained(str(file.path.parent))
    plain = {key.replace(".default.", "."): t for key, t in file.tensors.items()}
    wrapped = peft.PeftModel(model, config, low_cpu_mem_usage=True)  # pyrefly: ignore
    result = peft.set_peft_model_state_dict(wrapped, plain, low_cpu_mem_usage=True)
    found = injected_factors(model, "default")
    named = {names[path].stem: factors for path, factors in found.items()}
    return named, tuple(result.unexpected_keys)


def _config(names: Mapping[str, LoraLayer]) -> Any:
    import peft

    first = next(iter(names.values())).factors
    return peft.LoraConfig(
        r=first.rank,
        lora_alpha=first.alpha,  # pyrefly: ignore
        target_modules=sorted(names),
        rank_pattern={f"^{p}": layer.factors.rank for p, layer in names.items()},
        alpha_pattern={f"^{p}": layer.factors.alpha for p, layer in names.items()},
        use_dora=first.is_dora,
    )


def _add(model: nn.Module, path: str, factors: LoraFactors) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        if not hasattr(model, name):
            model.add_module(name, nn.Module())
        model = getattr(model, name)
    conv = factors.down.ndim > 2
    model.add_module(leaf, hollow_layer(factors, conv=conv))
