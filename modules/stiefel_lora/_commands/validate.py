"""``validate``: check a run without training, and say what it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .._entry import hush_libraries
from ._shared import ConfigArgument, PluginOption, SetOption, load, sentences

if TYPE_CHECKING:
    from ..memory import MemoryEstimate
    from ..training.preflight import RunEstimate

__all__ = ["validate"]

GB = 1e9


def validate(
    config: ConfigArgument,
    overrides: SetOption = None,
    plugins: PluginOption = None,
) -> None:
    """Check all that can be checked without training, and estimate memory."""
    with sentences():
        settings = load(config, overrides, plugins)
        from ..config import remarks

        found = None
        # A preset alone is checked without torch, in a moment.
        if settings.base_model_name or settings.concepts:
            hush_libraries()
            from ..training.preflight import estimate_run

            found = estimate_run(settings)
        pictures = settings.batch_size * settings.gradient_accumulation_steps
        typer.echo(
            f"{config} is valid: {settings.optimizer.name}, rank {settings.lora_rank}, "
            f"{settings.steps} steps of {pictures} pictures."
        )
        for remark in remarks(settings):
            typer.echo(f"Remark: {remark}")
        if found is not None:
            _show(found)


def _show(found: RunEstimate) -> None:
    if found.images:
        bare = found.without_caption
        typer.echo(
            f"Pictures: {found.images}"
            + (f" ({bare} without a caption)" if bare else "")
            + f", held out {found.held_out}."
        )
    if found.left_out:
        typer.echo(
            f"Remark: {len(found.left_out)} pictures can not be used and are left out; "
            f"the first is {found.left_out[0]}."
        )
    for remark in found.remarks:
        typer.echo(f"Remark: {remark}")
    if found.layers is not None:
        typer.echo(f"Layers with a LoRA: {found.layers}.")
    else:
        typer.echo(
            "Layers: not checked, for the base model is not on this machine; memory is "
            "that of a usual model of the family."
        )
    _show_memory(found.memory)
    disk = found.disk
    typer.echo(
        f"Disk: about {_gb(disk.total)} of {_gb(found.free)} free (cache "
        f"{_gb(disk.cache)}, checkpoints {_gb(disk.checkpoints)}, LoRA files "
        f"{_gb(disk.files)})."
    )


def _show_memory(memory: MemoryEstimate) -> None:
    """Each part on a line, exact ones marked, and the moments beside training."""
    typer.echo("Memory of the card (unconfirmed: no run on a GPU has measured it):")
    for part in memory.parts:
        how = "exact, from shapes" if part.exact else "estimated"
        typer.echo(f"  {part.name:<36} {_gb(part.bytes):>9}  {how}")
    typer.echo(f"  {'training, all together':<36} {_gb(memory.training):>9}")
    typer.echo(f"  {'before it: encoding pictures':<36} {_gb(memory.encoding):>9}")
    if memory.sampling:
        typer.echo(f"  {'decoding a sample':<36} {_gb(memory.sampling):>9}")
    typer.echo(f"  {'largest':<36} {_gb(memory.total):>9}")


def _gb(number: int) -> str:
    return f"{number / GB:.2f} GB" if number >= GB / 10 else f"{number / 1e6:.0f} MB"
