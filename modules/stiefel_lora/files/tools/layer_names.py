"""Parsing of layer names in keys of all formats.

Key formats have different prefixes, use dots or underscores, and the names of the
original checkpoint or of diffusers. For SDXL, SD 1.5 and FLUX.1, all names are
converted to canonical names with the tables of ``files.keys_*``. For other families,
the path in the file is used, and dots and underscores are treated as equal.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from ...families.catalogue import family_names, record_of
from ..encoder_names import clip_layers, t5_layers
from ..kohya_names import fusing_of, key_table
from .key_lists import target_of

__all__ = [
    "MODEL",
    "StemName",
    "canonical",
    "canonical_key",
    "encoder_name",
    "is_encoder_without_name",
    "is_t5",
    "parse_stem",
]

MODEL = "model"
"""Name of the component for a denoiser (UNet or transformer)."""

_PEFT_ROOT = "base_model.model."
# The first matching prefix is used.
_PREFIXES = {
    "model.diffusion_model.": MODEL,
    "diffusion_model.": MODEL,
    "unet.": MODEL,
    "transformer.": MODEL,
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
    "text_encoders.t5xxl.transformer.": "text_encoder_3",
    "clip_l.": "text_encoder",
    "clip_g.": "text_encoder_2",
    "t5xxl.": "text_encoder_3",
    "t5.": "text_encoder_3",
    "lora_unet_": MODEL,
    "lora_transformer_": MODEL,
    "lycoris_": MODEL,
}
# Numbered text encoders of diffusers and kohya, and those with a name in ComfyUI.
_ENCODER = re.compile(
    r"text_encoder(?:_(?P<dotted>\d+))?\.|lora_te(?P<kohya>\d*)_"
    r"|(?P<named>text_encoders\.[^.]+)\.(?:transformer\.)?"
)
_PROCESSOR = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}
_XLABS = {
    "qkv_lora1": "img_attn.qkv",
    "qkv_lora2": "txt_attn.qkv",
    "proj_lora1": "img_attn.proj",
    "proj_lora2": "txt_attn.proj",
    "qkv_lora": "linear1",
    "proj_lora": "linear2",
}
_DENOISERS = ("unet", "transformer")
_CLIP_LEAVES = {f"to_{x}": f"{x}_proj" for x in ("q", "k", "v", "out")}


@dataclasses.dataclass(frozen=True)
class StemName:
    """Parsed name of a layer."""

    prefix: str
    """Prefix of the name in the file."""

    component: str
    path: str
    """Module path, with dots or underscores as in the file."""

    model: str = ""
    """``unet`` or ``transformer`` if the file names the denoiser so, else ""."""

    @property
    def key(self) -> str:
        """Key that is the same for names with dots and underscores."""
        return f"{self.component}:{self.path.replace('.', '_')}"


def parse_stem(stem: str, folder: str = "") -> StemName:
    """Parse a stem into prefix, component and path.

    Args:
        stem: stem of a key.
        folder: name of the folder of a model, such as ``text_encoder``, to which a stem
            without the name of a model belongs.

    >>> parse_stem("lora_te1_text_model_encoder_layers_0_mlp_fc1").component
    'text_encoder'
    """
    prefix, component, path = "", MODEL, stem
    changed = True
    while changed:
        changed = False
        for text in (_PEFT_ROOT, *_PREFIXES):
            known = text == _PEFT_ROOT or prefix in ("", _PEFT_ROOT)
            if known and path.startswith(text):
                prefix, path = prefix + text, path.removeprefix(text)
                component = _PREFIXES.get(text, component)
                changed = True
                break
    if component == MODEL and (found := _ENCODER.match(path)):
        prefix, path = prefix + found[0], path.removeprefix(found[0])
        component = found["named"] or _numbered(found["dotted"] or found["kohya"])
    path = _without_processor(path)
    model = prefix.removeprefix(_PEFT_ROOT).rstrip(".")
    if folder and not model:
        component = folder if folder.startswith("text_encoder") else MODEL
        model = folder
    if component != MODEL:
        path = _encoder_path(path)
    return StemName(prefix, component, path, model if model in _DENOISERS else "")


def _numbered(number: str | None) -> str:
    return "text_encoder" if number in ("", "1", None) else f"text_encoder_{number}"


def canonical(name: StemName, family: str) -> str | None:
    """Return the canonical name of a layer of SDXL, SD 1.5 or FLUX.1, else None.

    The name of a fused layer of FLUX.1 is ``transformer.<path in the original>``.
    """
    if family not in family_names():
        return None
    component, path = name.component, name.path.replace(".", "_")
    has_t5 = record_of(family).t5_tokens is not None
    if has_t5 and component == "text_encoder_3" and is_t5(name):
        # sd-scripts numbers T5 as the third encoder, OneTrainer and diffusers as the
        # second.
        component = "text_encoder_2"
    return _names_by_key(family).get(f"{component}:{path}")


def encoder_name(name: StemName) -> str:
    """Return the name of a layer of a text encoder of a family without a table.

    The encoder keeps its number or name in the file. Paths of CLIP and T5 get dots.
    """
    path = _encoder_paths().get(name.path.replace(".", "_"), name.path)
    return f"{name.component}.{path}"


def is_encoder_without_name(name: StemName) -> bool:
    """Return whether a layer has a name of CLIP or T5, but not of its encoder."""
    if name.component != MODEL or name.model:
        return False
    return _encoder_path(name.path).replace(".", "_") in _encoder_paths()


def is_t5(name: StemName) -> bool:
    """Return whether a layer of a text encoder has a name of T5."""
    return name.path.replace(".", "_").startswith("encoder_block_")


def canonical_key(canonical_name: str) -> str:
    """Return the key of :class:`StemName` for a canonical name."""
    component, _, path = canonical_name.partition(".")
    own = MODEL if component in ("unet", "transformer") else component
    return f"{own}:{path.replace('.', '_')}"


def _without_processor(path: str) -> str:
    """Convert paths of attention processors (old versions of diffusers, XLabs)."""
    before, middle, leaf = path.partition(".processor.")
    if not middle:
        return path
    if leaf in _XLABS:
        return f"{before}.{_XLABS[leaf]}"
    return f"{before}.{_PROCESSOR.get(leaf, leaf)}"


def _encoder_path(path: str) -> str:
    if path.startswith("encoder.layers."):
        path = f"text_model.{path}"
    elif path.startswith("encoder_layers_"):
        path = f"text_model_{path}"
    before, dot, leaf = path.rpartition(".")
    return f"{before}{dot}{_CLIP_LEAVES.get(leaf, leaf)}"


@functools.cache
def _encoder_paths() -> dict[str, str]:
    """Return the paths of the layers of CLIP and T5 by their form in kohya."""
    paths = (*clip_layers(), *t5_layers())
    return {path.replace(".", "_"): path for path in paths}


@functools.cache
def _names_by_key(family: str) -> dict[str, str]:
    """Return the canonical names of all layers of a family by :class:`StemName` key."""
    table = {}
    for name, stem in key_table(family).kohya_names().items():
        table[canonical_key(name)] = name
        # The same layer by the checkpoint's own name, as kohya's stem has it.
        if stem.startswith("lora_unet_"):
            table[f"{MODEL}:{stem.removeprefix('lora_unet_')}"] = name
        # kohya uses diffusers' names for some, ComfyUI those of the checkpoint.
        original = target_of("comfyui", family, stem)
        if original is not None and original.startswith("diffusion_model."):
            path = original.removeprefix("diffusion_model.").replace(".", "_")
            table[f"{MODEL}:{path}"] = name
    fusing = fusing_of(family)
    for path in fusing.diffusers_paths() if fusing else ():
        name = f"{record_of(family).denoiser}.{path}"
        table[canonical_key(name)] = name
    return table
