"""The phases of one run: prepare, train, write, sum up."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..files import LoraWeights, compress
from .assemble import Inputs, build_machine
from .checkpoint import Checkpoint
from .identity import changed_settings
from .jsonl_sink import JsonlSink
from .loi_start import start_from_gradient
from .loop import Loop
from .machine import Machine
from .monitor import Monitor
from .output import lora_weights, write_lora_files
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
        )
        name = self.folder.root.name
        loop = Loop(
            self.config,
            machine,
            monitor,
            self.folder,
            self.sink,
            self.identity,
            lambda step: self._write_lora(f"{name}-step-{step}", step, started, {}),
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
        figures = {
            "effective_rank_mean": ranks.mean,
            "effective_rank_lowest": ranks.lowest,
        }
        stem = self.folder.root.name
        files = []
        if not loop.interrupted:
            files = self._write_lora(stem, loop.step, started, figures)
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
        stem: str,
        step: int,
        started: datetime.datetime,
        extra: dict[str, float],
    ) -> list[Path]:
        machine = self.machine
        assert machine is not None
        paths = write_lora_files(
            self.folder.lora,
            stem,
            self._weights(machine),
            self.config,
            step=step,
            prediction_type=machine.family.prediction_type,
            pictures=machine.pictures.pictures,
            started=started,
            extra=extra,
        )
        self.sink.event("lora", step, {"files": [path.name for path in paths]})
        return paths

    def _weights(self, machine: Machine) -> LoraWeights:
        """What the model moves by; a start taken away costs rank, not exactness."""
        model, component = machine.model, machine.family.component
        if self.config.lora_init != "loi":
            return lora_weights(model, component, machine.pairs)
        weights = lora_weights(model, component, machine.moves().pairs)
        weights, lost = compress(weights, self.config.resolved_file_rank)
        if self.config.resolved_file_rank < 2 * self.config.lora_rank:
            say(
                f"The file holds rank {self.config.resolved_file_rank} and lost "
                f"{lost:.2%} of the update (Frobenius norm)."
            )
        return weights

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
