"""The phases of one run: prepare, train, write, sum up."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._text import read_text
from ..config.export import dump_full
from ..files.atomic import atomic_write
from ..runs.events import JsonlSink
from ..runs.progress import say
from ..runs.result import TrainResult
from ..runs.run_folder import RunFolder
from .assemble import Inputs, build_machine
from .backend import advise_on_memory
from .checkpointing.checkpoint import Checkpoint
from .checkpointing.identity import changed_settings
from .checkpointing.image_changes import changes_since, images_of
from .checkpointing.keeper import CheckpointKeeper
from .export import LoraWriter
from .logging.monitor import Monitor
from .logging.sinks import SinkGroup
from .logging.tensorboard_sink import TensorBoardSink
from .loi_start import start_from_gradient
from .loop import Loop
from .state import Machine

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["Run"]


class Run:
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
        """Open the sinks, encode pictures, load the model; a new run starts."""
        jsonl = JsonlSink(self.folder.events_file)
        self.sink = SinkGroup([jsonl])
        if self.resume is None:
            self._write_config()
        path = self.resume[0] if self.resume else None
        with advise_on_memory(self.config, lambda: path):
            self.machine = build_machine(self.config, self.inputs, self.folder)
        if self.config.lora_init == "loi" and self.resume is None:
            start_from_gradient(self.machine, self.config)
        if self.resume is None:
            self._announce("start", 0, {})
        return self.machine

    def _announce(self, kind: str, step: int, more: Mapping[str, Any]) -> None:
        """Write the event that begins this process's part of the run."""
        machine = self.machine
        assert machine is not None
        self.sink.event(
            kind,
            step,
            {
                "version": __version__,
                "steps": self.config.steps,
                "optimizer": self.config.optimizer.name,
                "rank": self.config.lora_rank,
                "blocks": len(machine.pairs),
                "pictures": len(machine.pictures),
                "unreadable": machine.pictures.unreadable,
                "changed": {},
                **more,
            },
        )
        # After the event: importing TensorBoard takes seconds.
        resumed = step if self.resume else None
        self.sink.add(TensorBoardSink(self.folder.tensorboard, resumed))

    def close(self) -> None:
        """Close the sinks."""
        self.sink.close()

    def execute(self, started: datetime.datetime, clock: float) -> TrainResult:
        """Train, write the LoRA files and sum up."""
        machine = self.machine or self.prepare()
        monitor = Monitor(
            machine.moves,
            machine.pairs if machine.constrained else (),
            machine.validation,
            machine.sampler,
            self.sink,
            machine.averaged,
        )
        writer = LoraWriter(self.config, machine, self.folder, self.sink, started)
        keeper = CheckpointKeeper(
            self.config,
            machine,
            self.folder,
            self.sink,
            self.identity,
            images_of(self.inputs),
        )
        loop = Loop(
            self.config,
            machine,
            monitor,
            self.folder,
            self.sink,
            keeper,
            writer,
        )
        if self.resume is not None:
            self._restore(loop, monitor, *self.resume)
        try:
            with advise_on_memory(self.config, keeper.last_good):
                loop.run()
            result = self._finish(loop, monitor, writer, clock)
        except Exception as error:
            self.sink.event("error", loop.step, {"message": str(error)})
            raise
        finally:
            self.close()
        return result

    def _restore(
        self, loop: Loop, monitor: Monitor, path: Path, checkpoint: Checkpoint
    ) -> None:
        """Go on from a checkpoint; the folder changes only when all of it fits."""
        loop.restore(checkpoint, path)
        changed = self._changed()
        moved = loop.begin_branch(checkpoint, path)
        self._write_config()
        here = self.folder.checkpoints
        abandoned = [file.name for file in moved if file.parent == here][::-1]
        more = {
            "checkpoint": path.name,
            "changed": changed,
            "abandoned": abandoned,
            "images": changes_since(checkpoint, self.inputs),
        }
        self._announce("resume", checkpoint.step, more)
        monitor.restore(self.folder, checkpoint.step)

    def _finish(
        self, loop: Loop, monitor: Monitor, writer: LoraWriter, clock: float
    ) -> TrainResult:
        machine = self.machine
        assert machine is not None
        if monitor.ranks is None or loop.interrupted or loop.stopped_early:
            monitor.measure_ranks(loop.step)
        ranks = monitor.ranks
        assert ranks is not None
        figures = {
            "effective_rank_mean": ranks.mean,
            "effective_rank_lowest": ranks.lowest,
        }
        files = []
        if not loop.interrupted:
            files = writer.write(loop.step, extra=figures)
        losses = monitor.losses
        result = TrainResult(
            run_dir=self.folder.root,
            step=loop.step,
            interrupted=loop.interrupted,
            stopped_early=loop.stopped_early,
            best_step=loop.best_step,
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
        if result.stopped_early:
            say(
                f"Ended after step {result.step} of {self.config.steps}: the held-out "
                f"loss was lowest after step {result.best_step}, whose LoRA is "
                f"{self.folder.root.name}-best."
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

    def _changed(self) -> dict[str, str]:
        """Settings that differ from those of before, also said."""
        try:
            before = json.loads(read_text(self.folder.config_file))
            changed = changed_settings(before, json.loads(dump_full(self.config)))
        except (OSError, ValueError, TypeError):
            say(
                f"{self.folder.config_file} cannot be read, so settings that differ "
                f"from before are not known; it is written again."
            )
            return {}
        if changed:
            what = ", ".join(f"{key} {value}" for key, value in changed.items())
            say(f"Settings that differ from before: {what}.")
        return changed

    def _write_config(self) -> None:
        with atomic_write(self.folder.config_file) as part:
            part.write_text(dump_full(self.config), encoding="utf-8", newline="\n")
