"""Records of the differences between model families.

Code that depends on the family uses the fields of its record and not its name. Objects
that require torch (model class, tables of layers, operations for the memory estimate)
are referred to as ``module:attribute`` and imported on first use, so that the
configuration, the command line and the GUI do not import torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["KNOWN", "FamilyRecord", "HubModel", "LoraFileFacts", "Relative"]

KNOWN = Path(__file__).with_name("known")
"""Folder with the published settings of components, ``<family>/<component>.json``."""


@dataclasses.dataclass(frozen=True)
class LoraFileFacts:
    """Properties of the LoRA files of a family."""

    base_version: str
    """Value of ``ss_base_model_version`` of sd-scripts."""

    architecture: str
    """Value of ``modelspec.architecture``."""

    implementation: str
    """Value of ``modelspec.implementation``: URL of the original code of the model."""

    network: str
    """Value of ``ss_network_module``, by which tools select a loader."""

    kohya: str
    """Target of the :class:`~stiefel_lora.files.kohya_names.KohyaNames`."""

    marks: tuple[str, ...] = ()
    """Prefixes of keys in kohya files that are specific to this family."""

    fusing: str | None = None
    """Module with ``fuse`` and ``split``, if layers are fused in kohya files."""

    spellings: tuple[str, ...] = ()
    """Formats of LoRA files that are specific to this family."""

    notes: tuple[str, ...] = ()
    """Prefixes of ``ss_base_model_version`` and ``modelspec.architecture`` in files."""

    places: str | None = None
    """Regular expression for layer names that identifies the family among those with
    the same layer names.
    """

    blocks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of blocks by name, if similar models have more blocks."""

    convolutions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Pattern of the ends of canonical names -> side of the kernel. All other layers
    are linear."""

    one_alpha: bool = True
    """Whether all layers in a kohya file must have the same alpha, because diffusers
    uses one of them for all layers.
    """


@dataclasses.dataclass(frozen=True)
class Relative:
    """Model that is similar to the family, but is not supported.

    It is recognized by the inputs of its denoiser: the width of text tokens, or a
    number of input channels that exceeds the number of output channels.
    """

    name: str
    channels: int | None = None
    context: int | None = None
    """Width of a text token."""

    reads_sizes: bool = False
    """Whether the denoiser of the model has image sizes as input."""


@dataclasses.dataclass(frozen=True)
class HubModel:
    """Download size, license and access conditions of a model on the Hugging Face Hub.

    The size is that of the files that ``DiffusionPipeline.download`` downloads: the
    .safetensors weights of all parts, in full precision if there are several. It is
    computed from the number of parameters and the stored data type.
    """

    gigabytes: float
    license: str
    gated: bool = False
    """True if access must be requested on the page of the model."""


@dataclasses.dataclass(frozen=True)
class FamilyRecord:
    """Properties of a model family.

    Targets are strings ``module:attribute``, which are imported by :meth:`load`.
    """

    name: str
    """Value of ``model_type``, which is also the name of folders."""

    label: str
    """Name in messages."""

    model: str
    """Target of the class of the family (see :class:`~.protocol.Family`)."""

    denoiser: str
    """Name of the denoiser in the diffusers format."""

    memory: str
    """Target of the :class:`~stiefel_lora.memory.steps.Architecture`."""

    lora_files: LoraFileFacts

    layer_presets: Mapping[str, tuple[str, ...]]
    """Parts of layer names that each ``layer_filter_preset`` selects. An empty list
    selects every linear layer.
    """

    text_readers: Mapping[str, tuple[str, ...]]
    """Parts of the names of the first denoiser layers that use the output of each text
    encoder.
    """

    unread_text_layers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of last layers of each text encoder whose output is not used."""

    clip_states: tuple[str, ...] = ()
    """CLIP text encoders whose hidden states are inputs of the denoiser. Their last
    layers can be skipped, and long captions can be encoded in chunks.
    """

    text_width: int | None = None
    """Width of text tokens of the U-Net, by which families with the same layer names
    are distinguished.
    """

    relatives: tuple[Relative, ...] = ()
    """Similar models that are not supported."""

    strangers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of other models, by prefixes of tensor names that are specific to them."""

    own_short_label: str | None = None
    """Short name for lists of families in messages. The default is the label."""

    predicts_flow: bool = False
    """Whether the model is a flow model."""

    pixel_step: int = 8
    """Width and height of images must be multiples of this value: pixels per latent
    times latents per patch.
    """

    hub_models: Mapping[str, HubModel] = dataclasses.field(default_factory=dict)
    """Base models of the presets by their names on the Hugging Face Hub."""

    negative_prompts: bool = True
    """Whether samples support a negative prompt."""

    dispatches_attention: bool = False
    """Whether diffusers can use the package flash-attn for its attention."""

    t5_tokens: Callable[[Mapping[str, Any], int | None], int] | None = None
    """Function that returns the number of T5 tokens per caption. None for families
    without T5.
    """

    stock: Path | None = None
    """Folder with the default settings of components."""

    @property
    def short_label(self) -> str:
        """Short name for lists of families in messages."""
        return self.own_short_label or self.label

    def unread_after(self, part: str, skip: int) -> int:
        """Return the number of last layers of a text encoder that are not used.

        The second encoder of SDXL is always used as a whole, for its pooled output.

        Args:
            part: name of the text encoder.
            skip: number of additional layers that are skipped.
        """
        return self.unread_text_layers.get(part, 0) + (
            skip if part == "text_encoder" else 0
        )

    @property
    def usual_distribution(self) -> str:
        """Timestep distribution that is used if none is set."""
        return "logit_normal" if self.predicts_flow else "uniform"

    @property
    def stock_folder(self) -> Path:
        """Folder with the default settings ``<component>.json``."""
        return self.stock or KNOWN / self.name

    def load(self, target: str) -> Any:
        """Import a target of this record: ``module:attribute`` or a module name."""
        module, _, attribute = target.partition(":")
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
