"""Selection of layers for LoRA by a preset or by patterns.

The presets have the names of OneTrainer. For SDXL, ``attn-only`` selects 560 layers,
``attn-mlp`` 722 layers (attention, feed-forward, proj_in and proj_out), and ``full``
all 743 linear layers. In OneTrainer, ``full`` includes 51 convolutions, the last of
which has 4 outputs and does not support ranks above 4. Here, convolutions can be
selected by patterns.

For FLUX.1, ``attn-only`` selects 266 layers, ``attn-mlp`` 342 layers (attention, and
the feed-forward layers ``ff.net`` and ``proj_mlp`` of the image stream), and ``full``
all 504 layers. As in OneTrainer, only ``full`` includes the feed-forward layers of the
text stream and ``proj_out``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from torch import nn

from .._exceptions import ConfigError
from ..families.catalogue import record_of
from .layer_ranks import layer_sides, matching, ranks_of

__all__ = ["check_room", "select_layers"]

_CONVOLUTIONS = ("resnets", "samplers")


def select_layers(
    model: nn.Module,
    *,
    family: str,
    preset: str,
    patterns: Sequence[str] = (),
    rank: int,
    rank_pattern: Mapping[str, int] | None = None,
    conv_rank: int | None = None,
) -> list[str]:
    """Select layers for LoRA, in the order of the model.

    A pattern with ``*``, ``?`` or ``[`` must match the whole name of a layer. Other
    patterns must be a part of the name, as in OneTrainer. With ``conv_rank``, a preset
    includes the convolutions of residual blocks and samplers, as in sd-scripts with
    ``conv_dim``.

    Raises:
        ConfigError: If a pattern matches no layer, no layer is selected, the rank
            exceeds the number of inputs or outputs of a layer, or ``conv_rank`` is set
            for a model without convolutions.
    """
    if patterns:
        layers = _layers(model, (nn.Linear, nn.Conv2d))
        chosen = {name for pattern in patterns for name in _matches(pattern, layers)}
    else:
        layers = _layers(model, (nn.Linear,))
        pieces = record_of(family).layer_presets[preset]
        chosen = {n for n in layers if not pieces or any(p in n for p in pieces)}
        if conv_rank is not None:
            layers = _layers(model, (nn.Linear, nn.Conv2d))
            chosen |= _convolutions(layers, family)
    if not chosen:
        raise ConfigError(
            f"layer_filter_preset={preset!r} matches no layer of this model."
        )
    # In the order of the model, so that an error always names the same layer.
    selected = [name for name in layers if name in chosen]
    ranks_of(model, selected, rank=rank, rank_pattern=rank_pattern, conv_rank=conv_rank)
    return selected


def check_room(model: nn.Module, targets: Sequence[str], rank: int) -> None:
    """Check that all layers are large enough for LOI initialization.

    Raises:
        ConfigError: If the number of inputs or outputs of a layer is below 2 x rank.
    """
    for name in targets:
        outputs, inputs = layer_sides(model.get_submodule(name))
        side = min(outputs, inputs)
        if 2 * rank > side:
            raise ConfigError(
                "lora_init='loi' requires layers with at least 2 x lora_rank = "
                f"{2 * rank} rows and columns, but the layer {name} is {outputs} x "
                f"{inputs}. Use a rank of at most {side // 2}, or exclude the layer "
                "with layer_filter."
            )


def _layers(
    model: nn.Module, kinds: tuple[type[nn.Module], ...]
) -> dict[str, nn.Module]:
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, kinds)}


def _convolutions(layers: Mapping[str, nn.Module], family: str) -> set[str]:
    found = {
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Conv2d) and any(p in name for p in _CONVOLUTIONS)
    }
    if not found:
        raise ConfigError(
            f"conv_rank is set, but {family!r} models have no convolutions. Remove it."
        )
    return found


def _matches(pattern: str, layers: dict[str, nn.Module]) -> list[str]:
    found = matching(pattern, list(layers))
    if found:
        return found
    near = difflib.get_close_matches(pattern, layers, n=1, cutoff=0.3)
    example = near[0] if near else next(iter(layers), "none")
    raise ConfigError(
        f"layer_filter: {pattern!r} matches no layer. Layer names look like "
        f"{example!r}. Use * to match any text."
    )
