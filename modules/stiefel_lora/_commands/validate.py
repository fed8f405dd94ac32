"""Command ``validate``: check a configuration and estimate its resources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .._entry import hush_libraries
from .._exceptions import InputError
from .._wording import counted
from ._shared import (
    BAD_INPUT,
    ConfigArgument,
    DecodeOption,
    PluginOption,
    ProcessesOption,
    SetOption,
    decode_images,
    load,
    user_errors,
)

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..data.folder_report import Decode
    from ..memory import MemoryEstimate
    from ..training.preflight import RunEstimate

__all__ = ["validate"]

GB = 1e9


def validate(
    config: ConfigArgument,
    overrides: SetOption = None,
    plugins: PluginOption = None,
    decode: DecodeOption = True,
    processes: ProcessesOption = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print errors and warnings by setting as JSON instead. Images are "
            "not decoded.",
        ),
    ] = False,
) -> None:
    """Check a configuration without training, and estimate memory and disk space."""
    count = 1 if processes is None else processes
    if as_json:
        raise typer.Exit(_print_json(config, overrides, plugins, count))
    with user_errors():
        settings = load(config, overrides, plugins)
        from ..config import remarks
        from ..config.path_text import is_hub_name

        found = _examine(settings, decode_images if decode else None, count)
        if found is not None:
            settings = found.config
        model = settings.base_model_name
        download = _download(model) if model and is_hub_name(model) else ""
        batch = settings.batch_size * settings.gradient_accumulation_steps
        typer.echo(
            f"{config} is valid: {settings.optimizer.name}, rank {settings.lora_rank}, "
            f"{_length(settings, batch)}."
        )
        for remark in remarks(settings):
            typer.echo(f"Note: {remark}")
        if download:
            typer.echo(f"Note: {download}")
        if found is not None:
            _show(found, count)


def _examine(
    settings: TrainConfig, decode: Decode | None, processes: int
) -> RunEstimate | None:
    """Check packages and hardware, and estimate the run if its inputs are set.

    A preset by itself is checked quickly, without torch.
    """
    from ..config.packages import check_packages, needs_machine
    from ..config.path_text import is_hub_name
    from ..config.process_count import check_process_count

    check_packages(settings)
    check_process_count(settings, processes)
    model = settings.base_model_name
    whole = settings.concepts or (model and not is_hub_name(model))
    if whole or needs_machine(settings):
        hush_libraries()
    if whole:
        from ..training.preflight import estimate_run

        return estimate_run(settings, decode, processes)
    if needs_machine(settings):
        from ..training.backend import check_machine

        check_machine(settings)
    return None


def _print_json(
    config: str,
    overrides: list[str] | None,
    plugins: list[str] | None,
    processes: int,
) -> int:
    """Print errors and warnings by setting. Return the exit code."""
    from ..config.violation import by_setting

    warnings: list[tuple[str, str]] = []
    errors: list[tuple[str, str]] = []
    try:
        found = _examine(load(config, overrides, plugins), None, processes)
        if found is not None and found.memory_problem is not None:
            warnings.append((found.memory_problem.key, found.memory_problem.text))
    except InputError as error:
        errors = by_setting(error)
    lists = {
        name: [{"key": key, "message": message} for key, message in entries]
        for name, entries in (("errors", errors), ("warnings", warnings))
    }
    typer.echo(json.dumps(lists, ensure_ascii=False))
    return BAD_INPUT if errors else 0


def _download(model: str) -> str:
    """Return a note about the download of a model, or "" if it is cached."""
    from ..families.hub_models import cached_folder, download_note

    if cached_folder(model) is not None:
        return ""
    return f"{model} is downloaded when training starts. {download_note(model)}"


def _length(settings: TrainConfig, images: int) -> str:
    from ..config.epochs import length_text

    # Without images, the number of steps in an epoch is unknown.
    joint = "in steps of" if settings.epochs else "of"
    return f"{length_text(settings)} {joint} {counted(images, 'image', 'images')}"


def _show(found: RunEstimate, processes: int) -> None:
    if found.images:
        bare = found.without_caption
        typer.echo(
            f"Images: {found.images}"
            + (f" ({bare} without a caption)" if bare else "")
            + f", validation {found.held_out}."
        )
    if found.left_out:
        typer.echo(
            "Warning: "
            + counted(
                len(found.left_out),
                "image cannot be used and is skipped. It",
                "images cannot be used and are skipped. The first one",
            )
            + f" is {found.left_out[0]}."
        )
    for remark in found.remarks:
        typer.echo(f"Note: {remark}")
    if found.layers is not None:
        typer.echo(f"LoRA layers: {found.layers}.")
    else:
        typer.echo(
            "The LoRA layers were not checked because the base model was not found on "
            "this machine. The memory estimate assumes the standard architecture."
        )
    _show_memory(found.memory, processes)
    if found.memory_problem is not None:
        typer.echo(f"Warning: {found.memory_problem}")
    disk, download = found.disk, _download_gigabytes(found.config)
    typer.echo(
        f"Disk: about {_gb(disk.total)} of {_gb(found.free)} free (cache "
        f"{_gb(disk.cache)}, checkpoints {_gb(disk.checkpoints)}, LoRA files "
        f"{_gb(disk.files)})"
        + (f", and {download:g} GB for the download of the base model" * bool(download))
        + "."
    )


def _download_gigabytes(config: TrainConfig) -> float:
    """Return the size of the base model if it is still to be downloaded, else 0."""
    from ..config.path_text import is_hub_name
    from ..families.hub_models import cached_folder, download_gigabytes

    name = config.base_model_name
    if name is None or not is_hub_name(name) or cached_folder(name) is not None:
        return 0.0
    return download_gigabytes(name)


def _show_memory(memory: MemoryEstimate, processes: int) -> None:
    """Format the memory estimate, with a line per component."""
    each = f" of each of {processes} processes" if processes > 1 else ""
    typer.echo(f"GPU memory{each} (estimate, not yet measured on a GPU):")
    for part in memory.parts:
        how = "exact, from shapes" if part.exact else "estimated"
        typer.echo(f"  {part.name:<36} {_gb(part.bytes):>9}  {how}")
    typer.echo(f"  {'training, total':<36} {_gb(memory.training):>9}")
    typer.echo(f"  {'encoding images (before training)':<36} {_gb(memory.encoding):>9}")
    if memory.sampling:
        typer.echo(f"  {'decoding a sample':<36} {_gb(memory.sampling):>9}")
    typer.echo(f"  {'peak':<36} {_gb(memory.total):>9}")


def _gb(number: int) -> str:
    return f"{number / GB:.2f} GB" if number >= GB / 10 else f"{number / 1e6:.0f} MB"
