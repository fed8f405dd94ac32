"""LoRA layers of peft with float32 factors and seeded initialization.

peft initializes factors in the dtype of the base model with the global random number
generator. They are initialized again in float32 on the CPU, so that they depend only on
the seed and the order of the layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from .._exceptions import CheckpointError
from .._late_bitsandbytes import without_bitsandbytes
from ..methods import Method
from ..optim.init import STARTS
from ..optim.pairs import Pair, find_pairs
from .dora_layers import prepare_dora
from .offset import add_offset

# peft annotates alpha as int but computes with any number.
_lora_config: Any = LoraConfig
_ADDED = re.compile(r"\.lora_(A|B|magnitude_vector)\.")

__all__ = [
    "add_lora",
    "alpha_of",
    "factors_of",
    "load_factors",
    "lora_parameters",
    "pairs_of",
]


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    method: Method | None,
    seed: int,
    init: str = "auto",
    use_dora: bool = False,
    ranks: Mapping[str, int] | None = None,
) -> list[str]:
    """Freeze ``model`` and add a trainable LoRA to the named layers.

    Args:
        model: a diffusers model.
        rank: default rank r of the layers.
        alpha: LoRA alpha. The product B A is multiplied by alpha / r.
        targets: full names of linear or convolution layers.
        method: method that determines the initialization. With ``start="stiefel"``, B
            is orthonormal and A is zero. With ``start="riemannion"``, B is orthonormal
            and A is tiny (1e-7). Otherwise, and if None, A is uniform in +-1/sqrt(in)
            and B is zero.
        seed: seed of the initialization.
        init: with ``"stella"``, both factors are random orthonormal matrices instead,
            which changes the output of the model. With ``"loi"``, a frozen adapter is
            added, see :func:`~stiefel_lora.adapters.offset.set_offset`.
        use_dora: whether to train row magnitudes in addition to the LoRA.
        ranks: ranks of layers whose rank is not r. Their scale is also alpha / r.

    Returns:
        Names of the adapted layers, in the order of the model.
    """
    model.requires_grad_(False)
    adaptable: Any = model
    settings = {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": _whole_names(targets),
        **_patterns(rank, alpha, ranks or {}),
    }
    with without_bitsandbytes():
        adaptable.add_adapter(_lora_config(**settings, use_dora=use_dora))
        if init == "loi":
            add_offset(model, _lora_config(**settings))
    for parameter in model.parameters():
        if parameter.requires_grad:
            # In the dtype of a bfloat16 base, steps of less than 0.2 % of an entry
            # would be lost.
            parameter.data = parameter.data.float()
    pairs = pairs_of(model)
    assert {pair.name for pair in pairs} == set(targets), "peft adapted other layers"
    start = "lora" if method is None else method.start
    start = init if init == "stella" else start
    STARTS[start](model, seed=seed)
    if use_dora:
        prepare_dora(model, pairs)
    return [pair.name for pair in pairs]


def _whole_names(targets: Sequence[str]) -> str:
    """Build a pattern that only matches whole names.

    With a list of names, peft would also select all layers whose name ends with one of
    them, such as ``proj_out`` of FLUX.
    """
    return "|".join(re.escape(name) for name in targets)


def _patterns(rank: int, alpha: float, ranks: Mapping[str, int]) -> dict[str, Any]:
    own = {f"^{re.escape(n)}": r for n, r in ranks.items() if r != rank}
    alphas = {name: alpha * value / rank for name, value in own.items()}
    return {"rank_pattern": own, "alpha_pattern": alphas}


def pairs_of(model: nn.Module) -> list[Pair]:
    """Return B and A of every adapted layer, in the order of the model."""
    return find_pairs(model).pairs


def alpha_of(model: nn.Module, pair: Pair) -> float:
    """Return the effective alpha of a layer: its scale times the rank."""
    layer: Any = model.get_submodule(pair.name)
    return float(layer.scaling["default"]) * pair.rank


def factors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of the LoRA by name, on the CPU, as stored in a checkpoint."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in lora_parameters(model).items()
    }


@torch.no_grad()
def load_factors(model: nn.Module, factors: Mapping[str, Tensor]) -> None:
    """Load the tensors returned by :func:`factors_of`.

    Raises:
        CheckpointError: If names or shapes differ from those of this model.
    """
    own = lora_parameters(model)
    if own.keys() != factors.keys():
        odd = sorted(own.keys() ^ factors.keys())[0]
        raise CheckpointError(
            "The LoRA in the checkpoint has different layers than the LoRA of this "
            f"run. For example, the layer {odd} exists in only one of them."
        )
    for name, parameter in own.items():
        if parameter.shape != factors[name].shape:
            raise CheckpointError(
                f"{name} has shape {tuple(factors[name].shape)} in the checkpoint, "
                f"but {tuple(parameter.shape)} in this run."
            )
        parameter.copy_(factors[name])


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return all parameters that peft added, trained or frozen, by name."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if _ADDED.search(name)
    }
