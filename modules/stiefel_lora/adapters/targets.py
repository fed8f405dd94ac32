"""Selection of the layers that get a LoRA, by preset or by custom patterns.

The presets have OneTrainer's names. On SDXL: ``attn-only`` 560 layers, ``attn-mlp`` 722
(attention, feed-forward, proj_in and proj_out), ``full`` all 743 linear layers.
OneTrainer's ``full`` includes the 51 convolutions. The last one has 4 outputs, so every
rank above 4 would be rejected. Custom patterns can select convolutions.

On FLUX.1: ``attn-only`` 266 layers, ``attn-mlp`` 342 (attention, and the feed-forward
layers of the image stream: ``ff.net`` and ``proj_mlp``), ``full`` all 504. As in
OneTrainer, the feed-forward layers of the text stream and ``proj_out`` are only in
``full``.
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
    """Select the layers that get a LoRA, in the order of the model.

    A pattern with ``*``, ``?`` or ``[`` must match the whole name. Any other must be a
    part of it, as in OneTrainer. With ``conv_rank``, a preset includes the convolutions
    of residual blocks and samplers, as in sd-scripts with ``conv_dim``.

    Raises:
        ConfigError: If a pattern matches no layer, no layer is selected, the rank
            exceeds a side of a layer, or ``conv_rank`` is set for a model without
            convolutions.
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
    """Reject layers that are too small for the start from the gradient (LOI).

    Raises:
        ConfigError: If a side of a layer is smaller than 2 x rank.
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
