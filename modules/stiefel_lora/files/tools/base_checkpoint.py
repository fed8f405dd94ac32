"""Reading of base model checkpoints tensor by tensor.

Single files of SDXL, SD 1.5 and FLUX.1 in the original format are supported, and files
or folders of a UNet, a transformer or a pipeline in the diffusers format.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..._exceptions import ModelError
from ...families.catalogue import family_names, listed, record_of, records
from ..kohya_names import fusing_of
from ..streamed import Spec
from ..tensors import read_one
from .checkpoint_files import checkpoint_files
from .key_lists import rows_of, target_of
from .respell import kohya_names

__all__ = ["Checkpoint", "Place"]

_PREFIXES = {
    "diffusion_model.": ("model.diffusion_model.", "diffusion_model.", ""),
    "clip_l.transformer.": (
        "conditioner.embedders.0.transformer.",
        "cond_stage_model.transformer.",
        "text_encoders.clip_l.transformer.",
    ),
    "clip_g.transformer.": ("conditioner.embedders.1.transformer.",),
    "t5xxl.transformer.": ("text_encoders.t5xxl.transformer.",),
}
# OpenCLIP's names of bigG; q, k and v are thirds of one matrix.
_OPEN_CLIP = "conditioner.embedders.1.model.transformer.resblocks"
_BIG_G = re.compile(r"clip_g\.transformer\.text_model\.encoder\.layers\.(\d+)\.(.+)")
_LEAVES = {
    "self_attn.q_proj": ("attn.in_proj_weight", 0),
    "self_attn.k_proj": ("attn.in_proj_weight", 1),
    "self_attn.v_proj": ("attn.in_proj_weight", 2),
    "self_attn.out_proj": ("attn.out_proj.weight", None),
    "mlp.fc1": ("mlp.c_fc.weight", None),
    "mlp.fc2": ("mlp.c_proj.weight", None),
}
_SCALES = ("scale_weight", "weight_scale")


@dataclasses.dataclass(frozen=True)
class Place:
    """Location of the weight of a layer: a tensor, or a part of its rows."""

    key: str
    third: int | None = None


class Checkpoint:
    """Checkpoint of a base model. Weights are read on demand.

    Args:
        path: path of a safetensors file, or of a folder in the diffusers format.

    Raises:
        ModelError: If the file is missing, or is not a checkpoint of a known family.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.files = checkpoint_files(self.path)
        except ModelError:
            raise
        except (OSError, RecursionError, SafetensorError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelError(
                f"{path} cannot be read as a checkpoint: {reason}. Use a "
                ".safetensors file of a base model."
            ) from error
        self.metadata = self.files[0].metadata
        self._table = {
            file.prefix + key: (file.path, place)
            for file in self.files
            for key, place in file.table.items()
        }
        self.specs = {
            key: Spec(place.dtype, place.shape)
            for key, (_, place) in self._table.items()
        }
        self.family, self.places, self.fused = self._recognized()

    def tensor(self, key: str) -> Tensor:
        """Read a tensor in its stored dtype."""
        return read_one(*self._table[key])

    def weight(self, name: str) -> Tensor | None:
        """Read the weight of a layer in float32. None if it does not exist."""
        place = self.places.get(name)
        if place is None:
            return self._part(name) if self.fused else self._whole(name)
        self.check_numbers(place.key)
        whole = self.tensor(place.key).float() * self.scale(place.key)
        return whole if place.third is None else whole.chunk(3)[place.third]

    def lengths(self, name: str) -> Tensor:
        """Read the norms of the rows of the weight of a layer, (out,).

        Raises:
            ModelError: If the weight does not exist.
        """
        weight = self.weight(name)
        if weight is None:
            raise ModelError(
                f"{self.path} has no weight for {name}. Use the base model that the "
                "LoRA was trained on."
            )
        return weight.flatten(1).norm(dim=1)

    def _whole(self, name: str) -> Tensor | None:
        """Build a weight of the original format from the layers of diffusers."""
        fusing, start = fusing_of(self.family), f"{record_of(self.family).denoiser}."
        if fusing is None or not name.startswith(start):
            return None
        found: Tensor | None = fusing.original_weight(
            name.removeprefix(start),
            lambda path: (
                self.weight(start + path) if start + path in self.places else None
            ),
        )
        return found

    def _part(self, name: str) -> Tensor | None:
        """Read the rows of a fused weight that belong to a layer of diffusers."""
        target = target_of("comfyui", self.family, name)
        place = None if target is None else self._original(target)
        if place is None:
            return None
        self.check_numbers(place.key)
        whole = self.tensor(place.key).float() * self.scale(place.key)
        rows = rows_of(self.family, name)
        if rows is None:
            return whole
        _, first, count, units, swap = rows
        if swap:
            return torch.cat(whole.chunk(2)[::-1])
        unit = whole.shape[0] // units
        return whole[unit * first : unit * (first + count)]

    def scale(self, key: str) -> float:
        """Return the scale of a scaled 8-bit tensor. 1 for all other tensors."""
        layer, _, leaf = key.rpartition(".")
        for scale in _SCALES:
            if leaf == "weight" and f"{layer}.{scale}" in self.specs:
                return float(self.tensor(f"{layer}.{scale}").float())
        return 1.0

    def check_numbers(self, key: str) -> None:
        """Check that a weight has a floating-point dtype and at most one scale.

        Raises:
            ModelError: If it contains integers, or has a scale for each row or block.
        """
        dtype = self.specs[key].dtype
        if not dtype.is_floating_point:
            raise ModelError(
                f"{self.path}: {key} has dtype {str(dtype).removeprefix('torch.')}, "
                "but a floating-point dtype is required. Use the checkpoint before "
                "quantization."
            )
        for scale in _SCALES:
            name = f"{key.removesuffix('weight')}{scale}"
            count = math.prod(self.specs[name].shape) if name in self.specs else 1
            if key.endswith(".weight") and count != 1:
                raise ModelError(
                    f"{self.path}: {name} contains {count} scales, but only one scale "
                    "for each weight is supported. Use the checkpoint before "
                    "quantization."
                )

    def _recognized(self) -> tuple[str, Mapping[str, Place], bool]:
        """Detect the family, the location of its layers, and whether layers are fused.

        The family with the most matching names is used.
        """
        found = [
            (family, self._places(family, own), own)
            for family in family_names()
            for own in (False, True)
        ]
        family, places, own = max(found, key=lambda entry: len(entry[1]))
        if not places:
            example = next(iter(self.specs), "nothing")
            known = listed(record.short_label for record in records())
            raise ModelError(
                f"{self.path} is not a checkpoint of {known}. It contains, for "
                f"example, {example!r}. Use a file or folder of one of these models."
            )
        fused = fusing_of(family) is not None and not own
        return self._family_by_width(family), places, fused

    def _family_by_width(self, family: str) -> str:
        """Distinguish families with the same names by the width of text tokens."""
        if record_of(family).text_width is None:
            return family
        widths = {record.text_width: record.name for record in records()}
        for key, spec in self.specs.items():
            if key.endswith("attn2.to_k.weight"):
                return widths.get(spec.shape[1], family)
        return family

    def _places(self, family: str, own: bool) -> dict[str, Place]:
        if not own:
            names = kohya_names(family).items()
            pairs = ((name, target_of("comfyui", family, stem)) for name, stem in names)
            found = ((name, self._original(to)) for name, to in pairs if to)
            return {name: place for name, place in found if place is not None}
        return {
            name: Place(key)
            for name in _diffusers_names(family)
            for key in self._own_keys(name, record_of(family).denoiser)
        }

    def _own_keys(self, name: str, denoiser: str) -> Iterator[str]:
        component, _, path = name.partition(".")
        # transformers 5 dropped a level of CLIP's names.
        short = f"{component}.{path.removeprefix('text_model.')}"
        for key in (name, path if component == denoiser else short):
            if (key := f"{key}.weight") in self.specs:
                yield key
                return

    def _original(self, target: str) -> Place | None:
        for start, prefixes in _PREFIXES.items():
            if target.startswith(start):
                for prefix in prefixes:
                    key = f"{prefix}{target.removeprefix(start)}.weight"
                    if key in self.specs:
                        return Place(key)
        found = _BIG_G.fullmatch(target)
        if found is not None and found[2] in _LEAVES:
            leaf, third = _LEAVES[found[2]]
            key = f"{_OPEN_CLIP}.{found[1]}.{leaf}"
            return Place(key, third) if key in self.specs else None
        return None


def _diffusers_names(family: str) -> Iterator[str]:
    start, fusing = f"{record_of(family).denoiser}.", fusing_of(family)
    if fusing is not None:
        yield from (f"{start}{path}" for path in fusing.diffusers_paths())
    for name in kohya_names(family):
        if fusing is None or not name.startswith(start):
            yield name
