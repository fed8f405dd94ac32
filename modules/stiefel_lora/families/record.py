"""One record per family: everything that differs between families, without torch.

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
    """``ss_network_module``, by which tools select their loader."""

    kohya: str
    """Target of the :class:`~stiefel_lora.files.kohya_names.KohyaNames`."""

    marks: tuple[str, ...] = ()
    """Prefixes of kohya keys that only files of this family have. Files without the
    marks of any family are read as the default family."""

    fusing: str | None = None
    """Module with ``fuse`` and ``split``, if kohya-style files fuse layers."""

    spellings: tuple[str, ...] = ()
    """Spellings of files that not every family has."""

    notes: tuple[str, ...] = ()
    """Prefixes of ``ss_base_model_version`` and ``modelspec.architecture`` in files of
    any tool."""

    places: str | None = None
    """Pattern of underscored paths that identifies the family among those with the same
    names. The default family's may also match others.
    """

    blocks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """List of blocks -> their number, where other models with the same names have
    more."""

    convolutions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Pattern of the ends of canonical names -> side of the kernel. All other layers
    are linear."""

    one_alpha: bool = True
    """Whether a kohya-style file has one alpha for all layers, since diffusers applies
    one of them to all."""


@dataclasses.dataclass(frozen=True)
class Relative:
    """A model that resembles the family but cannot be trained.

    It is recognized by the inputs of its denoiser: either the width of the text or the
    number of channels, which then exceeds its output.
    """

    name: str
    channels: int | None = None
    context: int | None = None
    """Width of a text token."""

    reads_sizes: bool = False
    """Whether this only applies to denoisers with image sizes as input."""


@dataclasses.dataclass(frozen=True)
class FamilyRecord:
    """Differences between families.

    Targets are ``module:attribute``. ``load`` imports them.
    """

    name: str
    """Value of ``model_type``, and folder of presets and stock settings."""

    label: str
    """Name in messages."""

    model: str
    """Target of the class that trains and samples (``families.protocol.Family``)."""

    denoiser: str
    """Trained part, by its name in the diffusers format."""

    memory: str
    """Target of the :class:`~stiefel_lora.memory.steps.Architecture`."""

    lora_files: LoraFileFacts

    layer_presets: Mapping[str, tuple[str, ...]]
    """``layer_filter_preset`` -> parts of names, one of which a layer's name must
    contain; none: every linear layer."""

    text_readers: Mapping[str, tuple[str, ...]]
    """Text encoder -> parts of the names of the denoiser's first layers that use its
    output."""

    unread_text_layers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Text encoder -> number of its last layers whose output the denoiser does not
    use."""

    text_width: int | None = None
    """Width of a text token for the U-Net, which distinguishes families with the same
    names."""

    relatives: tuple[Relative, ...] = ()
    """Models that are rejected by name."""

    strangers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Prefix of a tensor name that only another model has -> that model."""

    own_short_label: str | None = None
    """Shorter name for lists of families in messages; by default, the label."""

    predicts_flow: bool = False
    """Whether the denoiser predicts a flow between image and noise."""

    pixel_step: int = 8
    """Sides of images are multiples of this: pixels per latent times latents per
    patch."""

    negative_prompts: bool = True
    """Whether samples support a negative prompt."""

    dispatches_attention: bool = False
    """Whether diffusers can use the package flash-attn for its attention."""

    t5_tokens: Callable[[Mapping[str, Any], int | None], int] | None = None
    """Number of T5 tokens of a caption, from the settings of the denoiser and
    ``text_encoder_2_sequence_length``, or None for a family without T5.
    """

    stock: Path | None = None
    """Folder of the stock settings; by default, the one in ``KNOWN``."""

    @property
    def short_label(self) -> str:
        """Name for lists of families in messages."""
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
