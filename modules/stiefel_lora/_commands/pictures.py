"""``scan``: what the pictures of a configuration are like."""

from __future__ import annotations

from typing import Annotated

import typer

from ._shared import ConfigArgument, PluginOption, SetOption, load, sentences

__all__ = ["scan"]


def scan(
    config: ConfigArgument,
    overrides: SetOption = None,
    decode: Annotated[
        bool,
        typer.Option("--decode", help="Read all pixels: finds files that are cut off."),
    ] = False,
    plugins: PluginOption = None,
) -> None:
    """Say what the pictures are like, and what is wrong with them."""
    with sentences():
        settings = load(config, overrides, plugins)
        from ..data.folder import refuse
        from ..data.folder_report import report_on

        report = report_on(settings, decode=decode)
        for sentence in report.messages():
            typer.echo(sentence)
        refuse(report.problems)
