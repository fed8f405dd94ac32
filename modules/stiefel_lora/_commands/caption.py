"""Command ``caption``: write captions for the images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._entry import hush_libraries
from .._wording import counted
from ._shared import needed, user_errors

if TYPE_CHECKING:
    from ..captioning import Captioned

__all__ = ["caption"]

# Maximum number of images without a caption that are listed.
_SHOWN = 20


def caption(
    folder: Annotated[Path, needed("FOLDER", "Folder with images.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="FOLDER|NAME",
            help="Tagger of the WD14 kind (ONNX) or BLIP model: a folder, or a name on "
            "the Hugging Face Hub.",
            show_default=False,
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing captions.")
    ] = False,
    include_subdirectories: Annotated[
        bool, typer.Option("--include-subdirectories", help="Include subfolders.")
    ] = False,
    download: Annotated[
        bool,
        typer.Option(
            "--download", help="Download the model if it is not on this machine."
        ),
    ] = False,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Minimum probability of a tag.")
    ] = 0.35,
    character_threshold: Annotated[
        float,
        typer.Option(
            "--character-threshold",
            help="Minimum probability of the name of a character.",
        ),
    ] = 0.85,
    exclude: Annotated[
        str, typer.Option("--exclude", metavar="TAGS", help="Tags to leave out: a,b.")
    ] = "",
    extension: Annotated[
        str, typer.Option("--extension", help="Extension of the caption files.")
    ] = ".txt",
    device: Annotated[
        str, typer.Option("--device", help="Device: auto, cpu, cuda, mps or xpu.")
    ] = "auto",
) -> None:
    """Write captions for the images of a folder with a tagger or a BLIP model.

    Existing captions are kept. Nothing is downloaded without --download.
    """
    with user_errors():
        hush_libraries()
        from ..captioning import (
            CaptionOptions,
            caption_folder,
            find_captioner,
            open_captioner,
        )

        options = CaptionOptions(
            threshold=threshold,
            character_threshold=character_threshold,
            exclude=tuple(filter(None, map(str.strip, exclude.split(",")))),
            device=device,
        )
        _check_folder(folder)
        extension = _checked_extension(extension)
        files = find_captioner(model, download=download)
        done = caption_folder(
            folder,
            open_captioner(files, options),
            overwrite=overwrite,
            include_subdirectories=include_subdirectories,
            extension=extension,
            report=lambda number, count, path, text: typer.echo(
                f"{number}/{count} {path.name}: {text}"
            ),
        )
        _summarize(done)


def _check_folder(folder: Path) -> None:
    """Check the folder before a model is loaded or downloaded."""
    from .._exceptions import DataError

    if not folder.is_dir():
        raise DataError(f"FOLDER: {folder} is not a folder.")


def _checked_extension(text: str) -> str:
    from .._exceptions import DataError
    from ..config.caption_extension import with_dot

    try:
        return with_dot(text.strip())
    except ValueError as error:
        raise DataError(f"--extension: {error}, but got {text!r}.") from None


def _summarize(done: Captioned) -> None:
    text = counted(done.written, "caption was", "captions were") + " written."
    if done.kept:
        kept = counted(done.kept, "existing caption was", "existing captions were")
        text += f" {kept} kept. Use --overwrite to replace them."
    typer.echo(text)
    for remark in done.remarks:
        typer.echo(f"Note: {remark}", err=True)
    if not done.without:
        return
    count = counted(len(done.without), "image has", "images have")
    typer.echo(f"{count} no new caption:", err=True)
    for path, reason in list(done.without.items())[:_SHOWN]:
        typer.echo(f"  {path.name}: {reason}", err=True)
    if len(done.without) > _SHOWN:
        typer.echo("  ...", err=True)
