"""Suffixes of tensor keys in all key formats.

A key is ``<stem><suffix>``, for example ``lora_unet_middle_block_1_proj_in`` +
``.lora_down.weight``. The stem is the name of the layer, and the suffix identifies the
part of the adapter.
"""

from __future__ import annotations

import dataclasses
import re

__all__ = [
    "LORA_PARTS",
    "OTHER_KINDS",
    "Key",
    "adapter_in",
    "is_of_peft",
    "parse_key",
    "with_adapter",
]

# PEFT's suffixes may contain the name of the adapter: .lora_A.default.weight.
_ADAPTER = r"(?:\.(?P<adapter>(?!(?:weight|bias)$)[^.]+))?"
# Part -> its suffixes. Longer ones come first where one contains another.
_PARTS = {
    "down": (
        rf"\.lora_A{_ADAPTER}(?:\.weight)?",
        r"\.lora_down(?:\.weight)?",
        r"\.lora(?:_linear_layer)?\.down\.weight",
        r"_lora\.down\.weight",
    ),
    "up": (
        rf"\.lora_B{_ADAPTER}(?:\.weight)?",
        r"\.lora_up(?:\.weight)?",
        r"\.lora(?:_linear_layer)?\.up\.weight",
        r"_lora\.up\.weight",
    ),
    "mid": (r"\.lora_mid(?:\.weight)?",),
    "alpha": (r"\.(?:lora_)?alpha", r"(?:\.|_)lora\.alpha"),
    "dora_scale": (r"\.dora_scale",),
    "magnitude": (
        rf"\.lora_magnitude_vector{_ADAPTER}(?:\.weight)?",
        r"\.magnitude",
    ),
    "LoHa": (r"\.hada_(?:w[12]_[ab]|t[12])(?:\.[^.]+)?",),
    "LoKr": (r"\.lokr_(?:w[12](?:_[ab])?|t2)(?:\.[^.]+)?",),
    "OFT": (r"\.oft_(?:R|blocks|diag|s)(?:\.[^.]+)*", r"\.(?:oft|boft)_[^.]+"),
    "GLoRA": (r"\.[ab][12]\.weight",),
    "IA3": (r"\.on_input", r"\.ia3_l(?:\.[^.]+)?"),
    "full difference": (r"\.diff(?:_b)?", r"\.set_weight"),
    "norm": (r"\.[wb]_norm",),
    "bias": (r"\.lora_B(?:\.[^.]+)?\.bias", r"\.lora_up\.bias"),
    "weight shape": (r"\.reshape_weight",),
    "embedding": (r"\.lora_embedding_[AB](?:\.[^.]+)?",),
}
# XLabs appends the number of the stream: qkv_lora1.down.weight.
_XLABS = re.compile(r"(?P<stem>.+\.(?:qkv|proj)_lora[12]?)\.(?P<part>down|up)\.weight")
# Embeddings in files of OneTrainer: bundle_emb.<placeholder>.<encoder>.
_BUNDLE = "bundle_emb."
LORA_PARTS = ("down", "up", "mid", "alpha", "dora_scale", "magnitude")
"""Parts of a LoRA or DoRA layer."""

OTHER_KINDS = tuple(part for part in _PARTS if part not in LORA_PARTS)
"""Kinds of adapters other than LoRA."""


@dataclasses.dataclass(frozen=True)
class Key:
    """Parsed tensor key."""

    stem: str
    """Name of the layer in the file."""

    part: str
    """Part of the adapter: ``down``, ``up``, ``mid``, ``alpha``, ``dora_scale``,
    ``magnitude`` or one of ``OTHER_KINDS``.
    """

    suffix: str
    adapter: str = ""
    """Name of the PEFT adapter in the suffix."""

    form: int = dataclasses.field(default=0, repr=False)
    """Number of the naming of the factors: the same for ``lora_A`` and ``lora_B``."""


def parse_key(key: str) -> Key | None:
    """Parse a key. Return None if it is not part of an adapter.

    >>> parse_key("unet.conv_in.lora_A.default.weight")
    Key(stem='unet.conv_in', part='down', suffix='.lora_A.default.weight', \
adapter='default')
    """
    if key.startswith(_BUNDLE):
        stem, dot, last = key.rpartition(".")
        return Key(stem, "embedding", dot + last)
    if ".processor." in key and (found := _XLABS.fullmatch(key)):
        stem = found["stem"]
        return Key(stem, found["part"], key.removeprefix(stem))
    for part, form, pattern in _PATTERNS:
        if found := pattern.fullmatch(key):
            adapter = found.groupdict().get("adapter") or ""
            return Key(found["stem"], part, found["suffix"], adapter, form)
    return None


def adapter_in(suffix: str) -> str:
    """Return the name of the peft adapter in a suffix, or ""."""
    found = _PEFT_SUFFIX.fullmatch(suffix)
    return (found["adapter"] or "") if found else ""


def is_of_peft(suffix: str) -> bool:
    """Return whether a suffix is one of peft, such as ``.lora_A.weight``."""
    return _PEFT_SUFFIX.fullmatch(suffix) is not None


def with_adapter(suffix: str, adapter: str) -> str:
    """Replace the name of the peft adapter in a suffix, or remove it.

    >>> with_adapter(".lora_A.style.weight", "default")
    '.lora_A.default.weight'
    """
    found = _PEFT_SUFFIX.fullmatch(suffix)
    if found is None:
        return suffix
    return f"{found['part']}{'.' if adapter else ''}{adapter}{found['end']}"


_PEFT_SUFFIX = re.compile(
    rf"(?P<part>\.lora_(?:A|B|magnitude_vector)){_ADAPTER}(?P<end>(?:\.weight)?)"
)
_PATTERNS = [
    (part, form, re.compile(rf"(?P<stem>.+?)(?P<suffix>{ending})"))
    for part, endings in _PARTS.items()
    for form, ending in enumerate(endings)
]
