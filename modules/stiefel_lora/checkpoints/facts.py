"""Properties by which the model family of a checkpoint is identified."""

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
    """Format of a component in ``.safetensors`` files."""

    loader: Any
    """Class of diffusers or transformers that loads the component."""

    prefixes: tuple[str, ...]
    """Prefix of the tensor names in a file of a complete model."""

    layouts: tuple[Layout, ...]
    """Naming schemes of the tensors."""

    adapt: Callable[[Settings, Header, str], Settings] = _as_it_is
    """Function that adapts the default settings to a file with the given prefix."""


@dataclasses.dataclass(frozen=True)
class FamilyFacts:
    """Properties of a family for finding and checking a base model.

    They are the attribute ``facts`` of the class of the family.
    """

    record: FamilyRecord
    """Record of the family."""

    pipeline: str
    """Regular expression that matches ``_class_name`` in ``model_index.json``."""

    parts: tuple[str, ...]
    """Names of the required components in the diffusers format."""

    files: Mapping[str, InFiles] = dataclasses.field(default_factory=dict)
    """Formats of components that can be loaded from a file."""

    is_file: Callable[[Header], bool] = lambda header: False
    """Function that returns whether a file contains a denoiser of this family."""

    scheduler: Callable[[Settings, Header], Settings] = lambda config, header: config
    """Function that adapts the default settings of the scheduler to a file."""

    clip_padding: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Padding tokens of the CLIP tokenizers, by component."""

    tokenizers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Classes of the tokenizers, by component."""

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Hints for error messages about components that are not in single files."""

    has_betas: bool = False
    """Whether the noise schedule is defined by betas."""

    fits: tuple[Fit, ...] = ()
    """Constraints between the components."""

    settings: tuple[str, ...] = ()
    """Settings of a configuration that are arguments of the class of the family."""

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
        """Name of the denoiser."""
        return self.record.denoiser

    def is_pipeline(self, kind: str) -> bool:
        """Return whether a pipeline class belongs to this family."""
        return re.match(self.pipeline, kind) is not None
