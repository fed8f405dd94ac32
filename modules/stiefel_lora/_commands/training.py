"""Command ``train``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .._entry import INTERRUPTED, train_file
from .._exceptions import ConfigError
from .._launcher import check_not_started, record_outcome, run_processes
from ._shared import PluginOption, ProcessesOption, SetOption, load, user_errors

__all__ = ["OptionalValue", "train"]


class OptionalValue(TyperCommand):
    """Command whose option ``--resume`` has an optional value (default ``last``)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the default value to ``--resume`` without a value."""
        if "--resume" in args:
            after = args.index("--resume") + 1
            if after == len(args) or args[after].startswith("-"):
                args = [*args[:after], "last", *args[after:]]
        return super().parse_args(ctx, args)


def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="Path of a config file, or the name of a preset. Can be omitted if "
            "--resume names the folder of a run.",
            show_default=False,
        ),
    ] = None,
    overrides: SetOption = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[last|PATH]",
            help="Resume from the last checkpoint of this run, or from PATH.",
            show_default=False,
        ),
    ] = None,
    plugins: PluginOption = None,
    processes: ProcessesOption = None,
    check_processes: Annotated[
        int,
        typer.Option(
            metavar="STEPS",
            min=0,
            help="Every STEPS steps, compare the LoRA of all processes and log hashes "
            "of their batches. 0: never.",
        ),
    ] = 0,
) -> None:
    """Train a LoRA."""
    with _one_outcome(), user_errors():
        config = _config_of(resume) if config is None else config
        if processes is not None:
            check_not_started()
            from ..config.process_count import check_process_count

            check_process_count(load(config, overrides, plugins), processes)
        if processes in (None, 1):
            result = train_file(
                config, overrides or (), resume, plugins or (), check_processes
            )
            if result.interrupted:
                raise typer.Exit(INTERRUPTED)
        else:
            command = ["train", config, "--check-processes", str(check_processes)]
            command += [] if resume is None else ["--resume", resume]
            command += [part for text in overrides or () for part in ("--set", text)]
            command += [part for text in plugins or () for part in ("--plugin", text)]
            raise typer.Exit(run_processes(processes, command))


@contextlib.contextmanager
def _one_outcome() -> Iterator[None]:
    """Record the exit code for the process that started several ones."""
    try:
        yield
    except (typer.Exit, SystemExit) as end:
        code = end.exit_code if isinstance(end, typer.Exit) else end.code
        assert isinstance(code, int)
        raise typer.Exit(record_outcome(code)) from end


def _config_of(resume: str | None) -> str:
    """Return the config of the run to resume.

    Raises:
        ConfigError: If ``--resume`` names no run.
    """
    if resume is None or resume == "last":
        raise ConfigError(
            "CONFIG: missing. Give a config file or the name of a preset; "
            "`stiefel-lora presets` lists them. To resume a run, give its folder: "
            "train --resume FOLDER."
        )
    from ..runs.run_folder import config_of_run

    found = config_of_run(Path(resume))
    if found is None:
        raise ConfigError(
            f"--resume {resume}: not the folder of a run or of a checkpoint, so CONFIG "
            "is required. Give the folder that contains config.json and checkpoints."
        )
    return str(found)
