"""Detection of models that are similar to supported models, but are not supported.

They are recognized by names and shapes of the denoiser or by its settings. The records
of the families contain the similar models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .._exceptions import ModelError
from ..families.catalogue import records

if TYPE_CHECKING:
    from .facts import FamilyFacts
    from .header import Entry

__all__ = ["check_relative"]

_FIRST = ("input_blocks.0.0", "conv_in", "img_in", "x_embedder")
_LAST = ("out.2", "conv_out", "final_layer.linear", "proj_out")
# Names of the size embedding of a U-Net that has image sizes as input.
_SIZES = ("label_emb.", "add_embedding.")
# Models that resemble none of the families.
_STRANGERS = {"joint_blocks.": "Stable Diffusion 3"}


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """Sizes of the inputs and outputs of a denoiser. None if unknown."""

    channels: int | None = None
    predicted: int | None = None
    context: int | None = None
    reads_sizes: bool = False
    stranger: str | None = None
    """Name of another model that was detected."""


def check_relative(
    where: object,
    facts: FamilyFacts,
    entries: Mapping[str, Entry],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Check that a denoiser is not that of a similar, unsupported model.

    Args:
        where: file or folder for the error message.
        facts: properties of the configured family.
        entries: header of the denoiser or a complete model.
        config: settings of the denoiser, if there are any.

    Raises:
        ModelError: If the model is not supported. The message contains its name.
    """
    by_table = _inputs_of_table(entries, facts.files[facts.denoiser].prefixes)
    name = _name(by_table) or _name(_inputs_of_config(config or {}))
    if name is None:
        return
    raise ModelError(
        f"{where} is {name}, but model_type is {facts.name!r}. Training a LoRA for "
        f"it is not supported. Use a text-to-image {facts.label} model."
    )


def _inputs_of_table(entries: Mapping[str, Entry], prefixes: Iterable[str]) -> _Inputs:
    for prefix in (*prefixes, ""):
        own = {n[len(prefix) :]: e for n, e in entries.items() if n.startswith(prefix)}
        found = _inputs(own)
        if found != _Inputs():
            return found
    return _Inputs()


def _inputs_of_config(config: Mapping[str, Any]) -> _Inputs:
    channels, predicted = config.get("in_channels"), config.get("out_channels")
    context = config.get("cross_attention_dim")
    return _Inputs(
        channels if isinstance(channels, int) else None,
        predicted if isinstance(predicted, int) else None,
        context if isinstance(context, int) else None,
        config.get("addition_embed_type") == "text_time",
    )


def _inputs(own: Mapping[str, Entry]) -> _Inputs:
    strangers = dict(_STRANGERS)
    for record in records():
        strangers.update(record.strangers)
    attention = next((n for n in own if n.endswith("attn2.to_k.weight")), "")
    return _Inputs(
        _side(own, (f"{name}.weight" for name in _FIRST), 1),
        _side(own, (f"{name}.weight" for name in _LAST), 0),
        _side(own, [attention], 1),
        any(name.startswith(_SIZES) for name in own),
        next((strangers[s] for s in strangers if any(map(_starts(s), own))), None),
    )


def _starts(start: str) -> Any:
    return lambda name: name.startswith(start)


def _side(own: Mapping[str, Entry], names: Iterable[str], side: int) -> int | None:
    shapes = [own[name].shape for name in names if name in own]
    return shapes[0][side] if shapes and len(shapes[0]) > 1 else None


def _name(found: _Inputs) -> str | None:
    if found.stranger:
        return found.stranger
    relatives = [relative for record in records() for relative in record.relatives]
    for relative in relatives:
        fits = found.reads_sizes or not relative.reads_sizes
        if relative.context is not None and relative.context == found.context and fits:
            return relative.name
    channels, predicted = found.channels, found.predicted
    if channels is None or predicted is None or channels == predicted:
        return None
    kinds = (r.name for r in relatives if r.channels == channels)
    kind = next(kinds, "a model with additional inputs")
    return f"{kind} ({channels} input channels, {predicted} output channels)"
