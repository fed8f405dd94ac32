"""Check of the tensor names and shapes of a component against its model class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import ModelError
from .float8 import is_scale
from .from_pretrained import build
from .header import Entry
from .layouts import Layout, Tensors

__all__ = ["check_weights", "wanted_of"]

# Settings that are numbers of layers; building a skeleton takes time for each layer.
_DEPTHS = (
    "layers_per_block",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
    "num_layers",
    "num_single_layers",
    "num_hidden_layers",
    "num_decoder_layers",
    "num_attention_blocks",
)

_USUAL_DEPTH = 100

# Layers that a U-Net only has with some settings; otherwise there is no place for them.
_OPTIONAL = frozenset({"add_embedding", "class_embedding", "encoder_hid_proj"})


def check_weights(
    where: object,
    part: str,
    loader: Any,
    config: Mapping[str, Any],
    layout: Layout,
    entries: Mapping[str, Entry],
    *,
    whole: str,
    such: str,
    own_settings: bool = False,
) -> None:
    """Check that a header contains all tensors of a component with the correct shapes.

    Args:
        where: file or folder for error messages.
        part: name of the component.
        loader: class that loads the component.
        config: settings of the component.
        layout: naming scheme of the tensors.
        entries: header, with names without prefix.
        whole: advice that is added to the message if tensors are missing.
        such: description of the expected model for error messages.
        own_settings: whether the settings were saved with the weights. In this case,
            the model must use all weights.

    Raises:
        ModelError: If the weights are incomplete, belong to another model, or do not
            match the settings.
    """
    model = _skeleton(where, part, loader, config, len(entries))
    found = _converted(where, part, layout, entries, model, whole, such)
    wanted = wanted_of(model)
    if own_settings:
        _check_nothing_left(where, part, model, found)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ModelError(
            f"{where} does not contain a complete {part}: {len(missing)} of "
            f"{len(wanted)} tensors are missing, for example {missing[0]}. {whole}."
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise ModelError(
                f"{where} contains a {part} of another architecture: {name} has "
                f"shape {_sides(found[name])}, but {such} has {_sides(tensor)}."
            )


def _check_nothing_left(
    where: object, part: str, model: nn.Module, found: Tensors
) -> None:
    """Check that the model uses all layers of the weights.

    Loaders ignore additional layers without an error. A layer is reported if the model
    has layers of the same kind (``layers.0``, but not ``layers.1``) or an attribute for
    it (``mid_block``). Weights of other models in the same file, such as the image
    encoder of CLIP, are ignored.
    """
    places = {name for name, _ in model.named_children()} | _OPTIONAL
    places |= {name for name in dir(model) if getattr(model, name, "") is None}
    known = {name for name, _ in model.named_modules()}
    left = [
        name
        for name in found
        if name.endswith(".weight")
        and name.partition(".")[0] in places
        and name.rpartition(".")[0] not in known
    ]
    if left:
        raise ModelError(
            f"{where}: the {part} that is described by config.json lacks "
            f"{len(left)} layers of the weights, for example {left[0]}. Download "
            "config.json again."
        )


def wanted_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that a file must contain, by name."""
    return dict(model.named_parameters(remove_duplicate=False))


def _skeleton(
    where: object, part: str, loader: Any, config: Mapping[str, Any], tensors: int
) -> nn.Module:
    for key in _DEPTHS:
        most = max(tensors, _USUAL_DEPTH)
        deep = [depth for depth in _numbers(config.get(key)) if depth > most]
        if deep:
            raise ModelError(
                f"{where}: the config of the {part} has {key}={deep[0]:.3g}, but "
                f"there are {tensors} tensors. Download config.json again."
            )
    try:
        with torch.device("meta"):
            return build(loader, dict(config))
    except Exception as error:
        # The classes check settings themselves, each with its own exceptions.
        raise ModelError(
            f"{where}: {loader.__name__} cannot be created from the config of the "
            f"{part} ({_reason(error)}). Download config.json again."
        ) from error


def _converted(
    where: object,
    part: str,
    layout: Layout,
    entries: Mapping[str, Entry],
    model: nn.Module,
    whole: str,
    such: str,
) -> Tensors:
    try:
        tensors = {
            name: torch.empty(entry.shape, device="meta")
            for name, entry in entries.items()
            if not is_scale(name)
        }
        return layout.convert(tensors, model)
    except KeyError as error:
        # Converters access some names directly.
        raise ModelError(
            f"{where} does not contain a complete {part}: the tensor "
            f"{error.args[0]} is missing. {whole}."
        ) from error
    except Exception as error:
        # Exceptions of converters on unexpected shapes are not documented.
        raise ModelError(
            f"{where} contains a {part} of another architecture: its tensor shapes "
            f"do not match {such} ({_reason(error)})."
        ) from error


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _sides(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
