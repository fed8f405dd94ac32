"""Command ``scan``: check the training images of a configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from ._shared import ConfigArgument, PluginOption, SetOption, load, user_errors

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
        for line in report.messages():
            typer.echo(line)
        files = report.files()
        if files:
            typer.echo(f"Files with problems ({len(files)}):")
        for line in files:
            typer.echo(f"  {line}")
        refuse(report.problems, None)
