"""Detection of the model family of a LoRA file by names and sizes of its layers."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Iterable, Mapping

from ...families.catalogue import DEFAULT, family_names, listed, record_of, records
from .layer_names import MODEL, StemName, canonical, is_t5
from .other_models import (
    NOTES,
    marked,
    variant_of,
    with_other_ratios,
    with_the_same_names,
)

__all__ = ["families_apart", "family_of", "unet_variant"]

_CROSS = re.compile(r"attn2_to_[kv]$")
# Prefix of kohya keys of a text encoder that has no number.
_UNNUMBERED = "lora_te_"

Shapes = Mapping[StemName, tuple[int, int]]
"""Numbers of outputs and inputs by layer name."""


def family_of(shapes: Shapes, metadata: Mapping[str, str]) -> str | None:
    """Detect the family of a LoRA. None if it cannot be determined.

    Metadata are only used to decide between families that have all layers.

    >>> family_of({StemName("", "model", "single_blocks.0.linear1"): (21504, 3072)}, {})
    'flux'
    """
    paths = {
        name: name.path.replace(".", "_") for name in shapes if name.component == MODEL
    }
    noted = _noted(metadata)
    sizes = [(path, *shapes[name]) for name, path in paths.items()]
    label = marked(sizes, noted)
    if label is not None and label not in {record.label for record in records()}:
        return label
    other = with_other_ratios(sizes)
    if other is not None:
        return other
    possible = [
        family
        for family in family_names()
        if all(canonical(name, family) is not None for name in shapes)
    ]
    for family in [f for f in possible if record_of(f).lora_files.blocks]:
        other = with_the_same_names(sizes, record_of(family).lora_files.blocks)
        if other:
            return other
        if other is not None:
            possible.remove(family)
    if noted is not None and (noted in possible or noted not in family_names()):
        return noted
    return _by_place(shapes, paths, possible)


def unet_variant(
    family: str | None, shapes: Shapes, metadata: Mapping[str, str]
) -> str:
    """Return the model of a file with the names of a UNet family, if it is another.

    >>> name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    >>> unet_variant("sd15", {StemName("", "model", name): (320, 1024)}, {})
    'SD 2'
    """
    widths = {r.name: r.text_width for r in records() if r.text_width is not None}
    if family is not None and family not in widths:
        return ""
    sizes = [
        (name.path.replace(".", "_"), *sides)
        for name, sides in shapes.items()
        if name.component == MODEL
    ]
    return variant_of(sizes, metadata, set(widths.values())) if sizes else ""


def families_apart(names: Iterable[StemName]) -> dict[str, int]:
    """Count the layers of families that have no family in common, by label.

    Returns:
        Empty if one family has the names of all layers that any family has.
    """
    own = [
        [family for family in family_names() if canonical(name, family) is not None]
        for name in names
        if name.component == MODEL
    ]
    own = [families for families in own if families]
    if not own or set.intersection(*map(set, own)):
        return {}
    labels = (listed(record_of(x).short_label for x in families) for families in own)
    return dict(collections.Counter(labels))


def _noted(metadata: Mapping[str, str]) -> str | None:
    notes = {record.name: record.lora_files.notes for record in records()} | NOTES
    for entry in ("ss_base_model_version", "modelspec.architecture"):
        text = metadata.get(entry, "").lower()
        for family, beginnings in notes.items():
            if text.startswith(beginnings):
                return family
    return None


def _by_place(
    shapes: Shapes, paths: Mapping[StemName, str], possible: Collection[str]
) -> str | None:
    if not paths:
        return _by_encoder(shapes, possible)
    if len(possible) == 1:
        return next(iter(possible))
    by_width = {record.text_width: record.name for record in records()}
    for name, path in paths.items():
        found = by_width.get(shapes[name][1]) if _CROSS.search(path) else None
        if found in possible:
            return found
    # The default family comes last because its pattern also matches paths of others.
    for family in sorted(possible, key=lambda family: family == DEFAULT):
        place = record_of(family).lora_files.places
        if place is not None and any(re.search(place, p) for p in paths.values()):
            return family
    return None


def _by_encoder(shapes: Shapes, possible: Collection[str]) -> str | None:
    """Detect the family from the names of the text encoders."""
    # As the third encoder, T5 can belong to FLUX.1 in the kohya format or to SD 3.
    if any(name.component == "text_encoder_2" and is_t5(name) for name in shapes):
        for family in possible:
            if record_of(family).t5_tokens is not None:
                return family
    if any(name.component == "text_encoder_2" for name in shapes):
        for family in possible:
            record = record_of(family)
            if "text_encoder_2" in record.text_readers and record.t5_tokens is None:
                return family
    if any(name.prefix == _UNNUMBERED for name in shapes):
        for family in possible:
            if _UNNUMBERED in record_of(family).lora_files.marks:
                return family
    return None
