"""Properties that identify a model family before any weight is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..families.record import FamilyRecord
    from .fits import Fit
    from .header import Header
    from .layouts import Layout

__all__ = ["FamilyFacts", "InFiles"]

Settings = dict[str, Any]


def _as_it_is(config: Settings, header: Header, prefix: str) -> Settings:
    return config


@dataclasses.dataclass(frozen=True)
class InFiles:
    """Storage of a part of a model in ``.safetensors`` files."""

    loader: Any
    """Class of diffusers or transformers that loads the part."""

    prefixes: tuple[str, ...]
    """Prefix of its names in a file of a whole model; a file of its own may have
    none."""

    layouts: tuple[Layout, ...]
    """Naming schemes of its tensors."""

    adapt: Callable[[Settings, Header, str], Settings] = _as_it_is
    """Adapts the known settings to a file. The last argument is the prefix."""


@dataclasses.dataclass(frozen=True)
class FamilyFacts:
    """Properties of a family for finding and checking a base model.

    A family's class has it as ``facts``: the part of its record that refers to classes
    of diffusers and transformers.
    """

    record: FamilyRecord
    """Record of the family, which needs no torch."""

    pipeline: str
    """Regular expression that matches ``_class_name`` in ``model_index.json``."""

    parts: tuple[str, ...]
    """Parts that training needs, by the names of the diffusers format."""

    files: Mapping[str, InFiles] = dataclasses.field(default_factory=dict)
    """Parts that can come from a file; empty: none."""

    is_file: Callable[[Header], bool] = lambda header: False
    """Recognizes a file with this family's denoiser by names and shapes."""

    scheduler: Callable[[Settings, Header], Settings] = lambda config, header: config
    """Adapts the known settings of the scheduler to a file."""

    clip_padding: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """CLIP's tokenizers by part, and the token that pads them to 77 tokens."""

    tokenizers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Classes of the tokenizers by part."""

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Part that no checkpoint contains -> where to get it, to end a message."""

    has_betas: bool = False
    """Whether noise follows a table of betas with one number per timestep."""

    fits: tuple[Fit, ...] = ()
    """Constraints between its parts."""

    settings: tuple[str, ...] = ()
    """Fields of a configuration that the family's class takes as arguments."""

    @property
    def name(self) -> str:
        """Name in configurations and files."""
        return self.record.name

    @property
    def label(self) -> str:
        """Name in messages."""
        return self.record.label

    @property
    def denoiser(self) -> str:
        """Trained part."""
        return self.record.denoiser

    def is_pipeline(self, kind: str) -> bool:
        """Return whether a pipeline class belongs to this family."""
        return re.match(self.pipeline, kind) is not None
