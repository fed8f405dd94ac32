"""Command ``scan``: check the training images of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .._entry import hush_libraries
from ._shared import ConfigArgument, PluginOption, SetOption, load, user_errors

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..data.folder import CaptionedImage
    from ..data.long_captions import LongCaptions

__all__ = ["scan"]


def scan(
    config: ConfigArgument,
    overrides: SetOption = None,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Decode every image to find truncated files. This is slower.",
        ),
    ] = False,
    plugins: PluginOption = None,
) -> None:
    """Report the sizes, buckets and problems of the training images.

    Each file with a problem is listed with the reason.
    """
    with user_errors():
        settings = load(config, overrides, plugins)
        from ..data.folder import refuse
        from ..data.folder_report import report_on

        report = report_on(settings, decode=decode)
        cut = _cut_captions(settings, [entry.image for entry in report.entries])
        for line in (*report.messages(), *(cut.messages() if cut else ())):
            typer.echo(line)
        files = report.files(cut.lines() if cut else None)
        if files:
            typer.echo(f"Files with problems ({len(files)}):")
        for line in files:
            typer.echo(f"  {line}")
        refuse(report.problems, None)


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
    return long_captions(named, settings.max_token_length, _clip_tokens)


def _clip_tokens(texts: Sequence[str]) -> list[int]:
    # Only imported if there are captions that may be too long: it imports torch.
    hush_libraries()
    from ..checkpoints.supplied_parts import clip_token_counts

    return clip_token_counts(texts)
