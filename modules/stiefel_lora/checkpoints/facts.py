"""What tells a model family from the others before a weight is read."""

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
    """How a part of a model lies in ``.safetensors`` files."""

    loader: Any
    """Class of diffusers or transformers that the part becomes."""

    prefixes: tuple[str, ...]
    """What stands before its names in a file of a whole model; in a file of its own
    there may be nothing."""

    layouts: tuple[Layout, ...]
    """Ways in which its tensors are named."""

    adapt: Callable[[Settings, Header, str], Settings] = _as_it_is
    """Changes the known settings to those of the file; the prefix comes last."""


@dataclasses.dataclass(frozen=True)
class FamilyFacts:
    """What finding and checking a base model needs to know of its family.

    A family's class holds it as ``facts``: the half of its record that names classes
    of diffusers and transformers.
    """

    record: FamilyRecord
    """What differs between families and needs no torch."""

    pipeline: str
    """Regular expression that matches ``_class_name`` in ``model_index.json``."""

    parts: tuple[str, ...]
    """Parts that training needs, by the names of the diffusers layout."""

    files: Mapping[str, InFiles] = dataclasses.field(default_factory=dict)
    """Parts that can come from a file; empty: none can."""

    is_file: Callable[[Header], bool] = lambda header: False
    """Tells a file that holds this family's denoiser by names and shapes."""

    scheduler: Callable[[Settings, Header], Settings] = lambda config, header: config
    """Changes the known settings of the scheduler to those of a file."""

    clip_padding: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """CLIP's tokenizers by part, and the token that fills up their 77 places."""

    tokenizers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Classes of the tokenizers by part."""

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Part that no checkpoint holds -> where to get it, to end a sentence."""

    has_betas: bool = False
    """Whether noise is added by a table of betas, a number a timestep."""

    fits: tuple[Fit, ...] = ()
    """What its parts must have in common."""

    settings: tuple[str, ...] = ()
    """Fields of a configuration that the family's class takes by their names."""

    @property
    def name(self) -> str:
        """Name in configurations and files."""
        return self.record.name

    @property
    def label(self) -> str:
        """Name in sentences."""
        return self.record.label

    @property
    def denoiser(self) -> str:
        """Part that is trained."""
        return self.record.denoiser

    def is_pipeline(self, kind: str) -> bool:
        """Tell whether a pipeline class is one of this family."""
        return re.match(self.pipeline, kind) is not None
