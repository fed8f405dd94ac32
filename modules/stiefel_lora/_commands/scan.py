"""Command ``scan``: check the training images of a configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .._entry import hush_libraries
from ._shared import (
    DecodeOption,
    PluginOption,
    SetOption,
    decode_images,
    load,
    needed,
    user_errors,
)

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..data.folder import CaptionedImage
    from ..data.long_captions import LongCaptions

__all__ = ["scan"]


def scan(
    config: Annotated[
        str,
        needed(
            "CONFIG|DIR",
            "Path of a config file, name of a preset, or a folder with images, which "
            "is checked with the default settings.",
        ),
    ],
    overrides: SetOption = None,
    decode: DecodeOption = True,
    plugins: PluginOption = None,
) -> None:
    """Report the sizes, buckets and problems of the training images.

    Each file with a problem is listed with the reason.
    """
    with user_errors():
        settings = _settings(config, overrides, plugins)
        from ..data.folder import refuse
        from ..data.folder_report import report_on

        report = report_on(settings, decode_images if decode else None)
        cut = _cut_captions(settings, [entry.image for entry in report.entries])
        for line in (*report.messages(), *(cut.messages() if cut else ())):
            typer.echo(line)
        files = report.files(cut.lines() if cut else None)
        if files:
            typer.echo(f"Files with problems ({len(files)}):")
        for line in files:
            typer.echo(f"  {line}")
        refuse(report.problems, None)


def _settings(
    config: str, overrides: list[str] | None, plugins: list[str] | None
) -> TrainConfig:
    """Load a config, or create one with the default settings for a folder."""
    from ..config import parse_config
    from ..config.presets import find_config

    path = find_config(config)
    # The folder of a run has a config, which the error message names.
    if not os.path.isdir(path) or os.path.isfile(path / "config.json"):
        return load(config, overrides, plugins)
    typer.echo(
        f"{path}: checked with the default settings. Change them with --set "
        "KEY=VALUE, or give a config file."
    )
    data = {"concepts": [{"path": str(path.resolve())}]}
    return parse_config(data, overrides=overrides or (), plugins=plugins or ())


def _cut_captions(
    settings: TrainConfig, images: Sequence[CaptionedImage]
) -> LongCaptions | None:
    """Find captions that are too long for CLIP. None for families with T5.

    The tokens are those of CLIP's vocabulary, so that the base model is not needed.
    """
    from ..data.folder import Scan
    from ..data.long_captions import long_captions
    from ..data.trigger_captions import add_trigger

    if not settings.family.clip_states:
        return None
    named = add_trigger(Scan(tuple(images), ()), settings.trigger_word).images
    return long_captions(
        named,
        settings.max_token_length,
        _clip_tokens,
        weighted=settings.weighted_captions,
    )


def _clip_tokens(texts: Sequence[str]) -> list[int]:
    # Only imported if there are captions that may be too long: it imports torch.
    hush_libraries()
    from ..checkpoints.supplied_parts import clip_token_counts

    return clip_token_counts(texts)
