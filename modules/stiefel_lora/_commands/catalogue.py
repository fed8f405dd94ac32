"""Commands ``presets``, ``optimizers`` and ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._exceptions import OutputError
from ._shared import PluginOption, load_plugins, user_errors

__all__ = ["optimizers", "presets", "schema"]


def presets(
    family: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY",
            help="Only list presets for this model family.",
            show_default=False,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only list presets that use this optimizer.",
            show_default=False,
        ),
    ] = None,
    vram: Annotated[
        int | None,
        typer.Option(
            metavar="GB",
            min=1,
            help="Only list presets for GPUs with this memory or less.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the presets of the package, the recommended ones first."""
    with user_errors():
        from ..config.presets import select_presets

        found = select_presets(family, optimizer, vram)
    from rich.console import Console
    from rich.table import Table

    for group in dict.fromkeys(preset.family for preset in found):
        table = Table("Preset", "GPU", "Description", title=group)
        table.columns[0].no_wrap = True
        members = [preset for preset in found if preset.family == group]
        for preset, after in zip(members, [*members[1:], None], strict=True):
            memory = f"{preset.memory_gb} GB" if preset.memory_gb else "any"
            last = after is None or after.memory_gb != preset.memory_gb
            table.add_row(preset.name, memory, preset.summary, end_section=last)
        Console().print(table, markup=False)
    typer.echo(
        "The first preset of each group is recommended. stiefel-lora new selects one "
        "for your images and GPU. stiefel-lora validate PRESET shows the size and "
        "license of its base model before anything is downloaded."
    )


def optimizers(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Show the options of this optimizer.",
            show_default=False,
        ),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """List all optimizers, or the options of one optimizer."""
    with user_errors():
        load_plugins(plugins, installed=name is None)
        from ..methods import CATALOGUE, PACKAGED, find_record, method

        chosen = None if name is None else find_record(name) or method(name)
    from rich.console import Console
    from rich.table import Table

    if chosen is None:
        table = Table("Name", "Default LR", "Learning rate unit", "Description")
        table.caption = "Default learning rates assume alpha = rank."
        for entry in (*CATALOGUE.values(), *PACKAGED.values()):
            rate = f"{entry.default_lr:g}"
            table.add_row(entry.name, rate, entry.lr_unit, entry.summary)
    else:
        table = Table("Option", "Default", "Values", "Description")
        for option in chosen.options:
            values = ", ".join(option.choices) or option.type.__name__
            default = "" if option.default is None else str(option.default)
            table.add_row(option.name, default, values, option.text)
    Console().print(table, markup=False)


def schema(
    output: Annotated[
        Path | None,
        typer.Option(
            help="Path of the output file. If not given, the schema is printed.",
            show_default=False,
        ),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Print the JSON schema of config files, for validation in editors."""
    with user_errors():
        load_plugins(plugins, installed=True)
        from ..config.json_schema import json_schema_text

        text = json_schema_text()
        if output is None:
            typer.echo(text, nl=False)
            return
        try:
            output.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(
                f"{output} cannot be written: {error.strerror}. Choose another file."
            ) from error
