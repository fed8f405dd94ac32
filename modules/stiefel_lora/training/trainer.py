"""One training run from a configuration to a LoRA file."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._exceptions import InputError
from .assemble import Inputs, Machine, build_machine, check_inputs
from .checkpoint import Checkpoint
from .identity import changed_settings, check_identity, run_identity
from .jsonl_sink import JsonlSink
from .loop import Loop
from .monitor import Monitor
from .output import lora_weights, write_lora_files
from .progress import say
from .rank_probe import RankReport
from .result import TrainResult
from .resume import find_resume
from .run_folder import RunFolder, create_run_folder
from .sinks import SinkGroup
from .tensorboard_sink import TensorBoardSink

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["train"]


def train(config: TrainConfig, resume: str | Path | None = None) -> TrainResult:
    """Train a LoRA and write it to files.

    Args:
        config: the whole configuration, paths absolute.
        resume: ``"last"``, a run folder or a checkpoint folder to go on from. Without
            it a new run folder is made; an older one is never written into.

    Returns:
        Where everything is. ``interrupted`` tells a run that was stopped and saved.

    Raises:
        InputError: what was given can not work; raised before anything expensive.
        TrainingError: NaN, or a checkpoint of another run.
    """
    started = datetime.datetime.now(datetime.timezone.utc)
    clock = time.monotonic()
    inputs = check_inputs(config)
    identity = run_identity(config, inputs.family, inputs.targets)
    if resume is None:
        return _new_run(config, inputs, identity, started, clock)
    folder, path, checkpoint = find_resume(config, resume)
    check_identity(checkpoint.identity, identity, path)
    folder.make_parts()
    say(f"Going on from {path}, step {checkpoint.step} of {config.steps}.")
    run = _Run(config, inputs, identity, folder, (path, checkpoint))
    return run.execute(started, clock)


def _new_run(
    config: TrainConfig,
    inputs: Inputs,
    identity: dict[str, Any],
    started: datetime.datetime,
    clock: float,
) -> TrainResult:
    folder = create_run_folder(config.output_dir, config.run_name)
    say(f"Run folder: {folder.root}")
    run = _Run(config, inputs, identity, folder, None)
    try:
        run.prepare()
    except InputError:
        # Nothing was trained: no empty folder stays behind to take the name.
        run.close()
        shutil.rmtree(folder.root, ignore_errors=True)
        raise
    return run.execute(started, clock)


class _Run:
    """The phases of a run: prepare, train, write."""

    def __init__(
        self,
        config: TrainConfig,
        inputs: Inputs,
        identity: dict[str, Any],
        folder: RunFolder,
        resume: tuple[Path, Checkpoint] | None,
    ) -> None:
        self.config = config
        self.inputs = inputs
        self.identity = identity
        self.folder = folder
        self.resume = resume
        self.sink = SinkGroup([])
        self.machine: Machine | None = None

    def prepare(self) -> Machine:
        """Open the sinks, write the configuration, encode pictures, load the model."""
        step = self.resume[1].step if self.resume else None
        jsonl = JsonlSink(self.folder.events_file)
        self.sink = SinkGroup([jsonl])
        changed = self._write_config()
        self.machine = build_machine(self.config, self.inputs, self.folder)
        self.sink = SinkGroup([jsonl, TensorBoardSink(self.folder.tensorboard, step)])
        self.sink.event(
            "start" if step is None else "resume",
            step or 0,
            {
                "version": __version__,
                "steps": self.config.steps,
                "optimizer": self.config.optimizer.name,
                "rank": self.config.lora_rank,
                "blocks": len(self.machine.pairs),
                "pictures": len(self.machine.pictures),
                "unreadable": self.machine.pictures.unreadable,
                "changed": changed,
            },
        )
        return self.machine

    def close(self) -> None:
        """Close the sinks."""
        self.sink.close()

    def execute(self, started: datetime.datetime, clock: float) -> TrainResult:
        """Train, write the LoRA files and sum up."""
        machine = self.machine or self.prepare()
        monitor = Monitor(
            machine.pairs,
            machine.constrained,
            machine.validation,
            machine.sampler,
            self.sink,
        )
        loop = Loop(
            self.config, machine, monitor, self.folder, self.sink, self.identity
        )
        if self.resume is not None:
            path, checkpoint = self.resume
            loop.restore(checkpoint, path)
            monitor.restore(self.folder, checkpoint.step)
        try:
            loop.run()
            result = self._finish(loop, monitor, started, clock)
        except Exception as error:
            self.sink.event("error", loop.step, {"message": str(error)})
            raise
        finally:
            self.close()
        return result

    def _finish(
        self, loop: Loop, monitor: Monitor, started: datetime.datetime, clock: float
    ) -> TrainResult:
        machine = self.machine
        assert machine is not None
        if monitor.ranks is None or loop.interrupted:
            monitor.measure_ranks(loop.step)
        ranks = monitor.ranks
        assert ranks is not None
        files = (
            [] if loop.interrupted else self._write_lora(machine, loop, ranks, started)
        )
        losses = monitor.losses
        result = TrainResult(
            run_dir=self.folder.root,
            step=loop.step,
            interrupted=loop.interrupted,
            lora_files=tuple(files),
            checkpoint=loop.checkpoint,
            before_after=monitor.before_after(loop.step),
            tensorboard_dir=self.folder.tensorboard,
            validation_before=losses[min(losses)] if losses else None,
            validation_after=losses[max(losses)] if losses else None,
            mean_effective_rank=ranks.mean,
            lowest_effective_rank=ranks.lowest,
            pictures=len(machine.pictures),
            unreadable=tuple(machine.pictures.unreadable),
            wall_seconds=time.monotonic() - clock,
        )
        self._say_goodbye(result)
        return result

    def _write_lora(
        self,
        machine: Machine,
        loop: Loop,
        ranks: RankReport,
        started: datetime.datetime,
    ) -> list[Path]:
        return write_lora_files(
            self.folder.lora,
            self.folder.root.name,
            lora_weights(machine.family.denoiser, machine.family.component),
            self.config,
            step=loop.step,
            pictures=machine.pictures.pictures,
            started=started,
            extra={
                "effective_rank_mean": ranks.mean,
                "effective_rank_lowest": ranks.lowest,
            },
        )

    def _say_goodbye(self, result: TrainResult) -> None:
        kind = "stop" if result.interrupted else "end"
        self.sink.event(
            kind,
            result.step,
            {
                "lora_files": [str(path) for path in result.lora_files],
                "checkpoint": result.checkpoint,
                "validation_before": result.validation_before,
                "validation_after": result.validation_after,
                "mean_effective_rank": result.mean_effective_rank,
                "lowest_effective_rank": result.lowest_effective_rank,
                "wall_seconds": result.wall_seconds,
            },
        )
        if result.interrupted:
            root = self.folder.root
            say(
                f"Stopped after step {result.step} of {self.config.steps} and saved. "
                f'Go on with: stiefel-lora train "{self.folder.config_file}" '
                f'--resume "{root}"'
            )
        for path in result.lora_files:
            say(f"LoRA: {path}")

    def _write_config(self) -> dict[str, str]:
        """Write config.json; returns what a resumed run changed."""
        from ..config import dump_full

        path, text = self.folder.config_file, dump_full(self.config)
        changed: dict[str, str] = {}
        if self.resume is not None and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = changed_settings(before, json.loads(text))
            if changed:
                what = ", ".join(f"{key} {value}" for key, value in changed.items())
                say(f"Settings that differ from before: {what}.")
        path.write_text(text, encoding="utf-8", newline="\n")
        return changed
