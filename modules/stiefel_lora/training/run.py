"""The phases of one run: prepare, train, write, sum up."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .assemble import Inputs, build_machine
from .checkpoint import Checkpoint
from .identity import changed_settings
from .jsonl_sink import JsonlSink
from .keeper import CheckpointKeeper
from .loi_start import start_from_gradient
from .loop import Loop
from .lora_writer import LoraWriter
from .machine import Machine
from .memory import advise_on_memory
from .monitor import Monitor
from .progress import say
from .result import TrainResult
from .run_folder import RunFolder
from .sinks import SinkGroup
from .tensorboard_sink import TensorBoardSink

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
        """Open the sinks, write the configuration, encode pictures, load the model."""
        step = self.resume[1].step if self.resume else None
        jsonl = JsonlSink(self.folder.events_file)
        self.sink = SinkGroup([jsonl])
        changed = self._write_config()
        with advise_on_memory(self.config, self.folder.checkpoints):
            self.machine = build_machine(self.config, self.inputs, self.folder)
        if self.config.lora_init == "loi" and step is None:
            start_from_gradient(self.machine, self.config)
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
            machine.moves,
            machine.pairs if machine.constrained else (),
            machine.validation,
            machine.sampler,
            self.sink,
            machine.averaged,
        )
        writer = LoraWriter(self.config, machine, self.folder, self.sink, started)
        keeper = CheckpointKeeper(
            self.config, machine, self.folder, self.sink, self.identity
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
            path, checkpoint = self.resume
            loop.restore(checkpoint, path)
            monitor.restore(self.folder, checkpoint.step)
        try:
            with advise_on_memory(self.config, self.folder.checkpoints):
                loop.run()
            result = self._finish(loop, monitor, writer, clock)
        except Exception as error:
            self.sink.event("error", loop.step, {"message": str(error)})
            raise
        finally:
            self.close()
        return result

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
