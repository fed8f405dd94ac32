"""Captioning models and their options."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from .._exceptions import ConfigError
from .captioner_location import CaptionerFiles

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CaptionOptions", "Captioner", "open_captioner"]


class Captioner(Protocol):
    """Model that describes images."""

    def caption(self, image: Image.Image) -> str:
        """Return the caption of an RGB image. Empty if nothing was recognized."""


@dataclasses.dataclass(frozen=True)
class CaptionOptions:
    """Options of captioning models."""

    threshold: float = 0.35
    """Minimum probability of a tag, as in the demo of the WD14 taggers."""

    character_threshold: float = 0.85
    """Minimum probability of the name of a character, as in the same demo."""

    exclude: tuple[str, ...] = ()
    """Tags that are left out."""

    device: str = "auto"
    """Device of the model: auto, cpu, cuda, mps or xpu. A tagger uses cpu or cuda."""


def open_captioner(files: CaptionerFiles, options: CaptionOptions) -> Captioner:
    """Load a captioning model.

    Args:
        files: files of the model, see :func:`.find_captioner`.
        options: options of the model.

    Raises:
        ConfigError: If an option is invalid or a package is not installed.
        ModelError: If the files do not form a supported model.
    """
    for name in ("threshold", "character_threshold"):
        value = getattr(options, name)
        if not 0 < value <= 1:
            raise ConfigError(
                f"{name}: must be above 0 and at most 1, but is {value:g}."
            )
    if files.tags is not None:
        from .wd_tagger import WdTagger

        return WdTagger(files, options)
    from .blip_captioner import BlipCaptioner

    return BlipCaptioner(files.folder, options.device)
