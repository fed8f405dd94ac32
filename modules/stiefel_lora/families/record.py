"""One record a family: everything that differs between families, without torch.

Code that treats families differently reads a field of the record, never compares a
name. What needs torch (the model class, tables of layers, walks for the memory
estimate) is named as ``module:attribute`` and imported when it is first used, so that
the configuration, the command line and the GUI read records without torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["KNOWN", "FamilyRecord", "LoraFileFacts", "Relative"]

KNOWN = Path(__file__).with_name("known")
"""Published settings of each part, ``<family>/<part>.json``."""


@dataclasses.dataclass(frozen=True)
class LoraFileFacts:
    """Spelling and description of a family's LoRA files."""

    base_version: str
    """``ss_base_model_version`` of sd-scripts."""

    architecture: str
    """``modelspec.architecture`` of ModelSpec."""

    implementation: str
    """``modelspec.implementation``: the original code of the model."""

    network: str
    """``ss_network_module``: tools choose their reader by it."""

    kohya: str
    """Target of the :class:`~stiefel_lora.files.kohya_names.KohyaNames`."""

    marks: tuple[str, ...] = ()
    """Beginnings of kohya keys that only files of this family have. Files without the
    marks of any family are read as the default family."""

    fusing: str | None = None
    """Module with ``fuse`` and ``split``, where kohya-style files fuse layers."""

    spellings: tuple[str, ...] = ()
    """Spellings of files that not every family has."""

    notes: tuple[str, ...] = ()
    """Beginnings of ``ss_base_model_version`` and ``modelspec.architecture`` in files
    of any tool."""

    places: str | None = None
    """Pattern of underscored paths by which the family is found among those that share
    its names; that of the default family may fit others too."""

    blocks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """List of blocks -> their number, where other models have more by the same
    names."""

    one_alpha: bool = True
    """Whether a kohya-style file is written with one alpha for all layers, since
    diffusers applies one of them to all."""


@dataclasses.dataclass(frozen=True)
class Relative:
    """A model that looks like one of the family and cannot be trained.

    Its denoiser is told by what it reads: either by the width of the text or by the
    channels, which then are more than it predicts.
    """

    name: str
    channels: int | None = None
    context: int | None = None
    """Numbers a token of the text."""

    reads_sizes: bool = False
    """Whether only a denoiser that reads sizes of images is meant."""


@dataclasses.dataclass(frozen=True)
class FamilyRecord:
    """What differs between families.

    Targets are ``module:attribute``; ``load`` imports them.
    """

    name: str
    """Value of ``model_type``, and folder of presets and stock settings."""

    label: str
    """Name in sentences."""

    model: str
    """Target of the class that trains and samples (``families.protocol.Family``)."""

    denoiser: str
    """Part that is trained, by its name in the diffusers layout."""

    memory: str
    """Target of the :class:`~stiefel_lora.memory.steps.Architecture`."""

    lora_files: LoraFileFacts

    layer_presets: Mapping[str, tuple[str, ...]]
    """``layer_filter_preset`` -> pieces of names, one of which the name of a layer must
    hold; none: every linear layer."""

    text_readers: Mapping[str, tuple[str, ...]]
    """Text encoder -> pieces of names of the first layers of the denoiser that read its
    output."""

    unread_text_layers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Text encoder -> number of its last layers whose output the denoiser never
    reads."""

    text_width: int | None = None
    """Numbers a token of the text that a U-Net reads; families that share names are
    told apart by it."""

    relatives: tuple[Relative, ...] = ()
    """Models that are refused by their name."""

    strangers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Beginning of a tensor's name that only another model has -> that model."""

    own_short_label: str | None = None
    """Shorter name where a sentence lists families; unset: the label."""

    predicts_flow: bool = False
    """Whether the denoiser predicts a flow between image and noise."""

    pixel_step: int = 8
    """Sides of images are multiples of this: pixels of a latent times latents of a
    patch."""

    negative_prompts: bool = True
    """Whether samples take a negative prompt."""

    dispatches_attention: bool = False
    """Whether diffusers can switch its attention to the package flash-attn."""

    t5_tokens: Callable[[Mapping[str, Any], int | None], int] | None = None
    """Tokens of a caption that T5 reads, from the settings of the denoiser and
    ``text_encoder_2_sequence_length``; None for a family without T5."""

    stock: Path | None = None
    """Folder of the stock settings; unset: that in ``KNOWN``."""

    @property
    def short_label(self) -> str:
        """Name where a sentence lists families."""
        return self.own_short_label or self.label

    @property
    def stock_folder(self) -> Path:
        """Folder with ``<part>.json`` for parts that come without settings."""
        return self.stock or KNOWN / self.name

    def load(self, target: str) -> Any:
        """Import a target of this record, ``module:attribute`` or a module."""
        module, _, attribute = target.partition(":")
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
