"""Training run from a configuration to LoRA files."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._exceptions import InputError, TrainingError
from .._text import read_text
from .._wording import quoted
from ..config.dump import dump_full
from ..files.atomic import atomic_write
from ..files.weights import LoraWeights
from ..runs.events import IMAGE_COUNT, JsonlSink
from ..runs.progress import say
from ..runs.result import TrainResult
from ..runs.run_folder import RunFolder, create_run_folder
from ..runs.run_lock import hold_run
from .backend import advise_on_memory
from .build import build_state
from .checkpointing.checkpoint import Checkpoint, load_checkpoint, remove_leftovers
from .checkpointing.identity import changed_settings, check_identity, run_identity
from .checkpointing.image_changes import changes_since, images_of
from .checkpointing.keeper import CheckpointKeeper
from .checkpointing.resume import check_steps, find_run, read_latest
from .distributed import join_processes
from .due import DueEvents
from .export import LoraWriter
from .logging.hparams import hparams_of
from .logging.monitor import Monitor
from .logging.sinks import MetricSink, SinkGroup, WithoutDetails
from .logging.tensorboard_sink import TensorBoardSink
from .logging.tracker_sink import TrackerSink
from .loi_start import start_from_gradient
from .loop import Loop
from .lora_start import read_start
from .preflight import Preflight, report_files, run_preflight
from .process_check import ProcessCheck
from .state import TrainingState

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["Run", "train"]


def train(
    config: TrainConfig, resume: str | Path | None = None, *, check_every: int = 0
) -> TrainResult:
    """Train a LoRA and write it to files.

    Started by torchrun or accelerate launch, the processes share every batch, and only
    the main one writes files.

    Args:
        config: configuration with absolute paths.
        resume: ``"last"``, or a run folder or checkpoint folder to resume from. If
            None, a new run folder is created. Existing run folders are never
            overwritten.
        check_every: interval in steps at which the factors of several processes are
            compared and hashes of their batches are logged. 0: never.

    Returns:
        Paths and metrics of the run. ``interrupted`` is True if it was stopped and
        saved before the last step.

    Raises:
        InputError: If an input is invalid. Inputs are checked before a model is loaded.
        TrainingError: If the loss or a weight contains NaN or infinity, or memory is
            exhausted.
    """
    started = datetime.datetime.now(datetime.timezone.utc)
    clock = time.monotonic()
    with join_processes(config) as processes:
        # Before the run folder is created: a run that cannot start leaves nothing
        # behind.
        inputs = run_preflight(config, processes=processes)
        report_files(inputs)
        model = inputs.model
        identity = run_identity(inputs.config, model.family, model.targets)
        run = _Start(inputs, identity, check_every, started, clock)
        return run.begin() if resume is None else run.resume(resume)


@dataclasses.dataclass(frozen=True)
class _Start:
    """Start or resume of a run after the checks of its inputs."""

    inputs: Preflight
    identity: dict[str, Any]
    check_every: int
    started: datetime.datetime
    clock: float

    def begin(self) -> TrainResult:
        """Train in a new run folder."""
        config, processes = self.inputs.config, self.inputs.processes
        given = read_start(config, self.inputs.model)
        folder = processes.from_main(
            lambda: create_run_folder(config.output_dir, config.run_name)
        )
        say(f"Run folder: {folder.root}")
        with self._holding(folder):
            run = self._run(folder, None, given)
            try:
                run.prepare()
            except (InputError, TrainingError, KeyboardInterrupt) as error:
                # Nothing was trained: no empty folder must stay behind and take the
                # name.
                run.close()
                if processes.is_main:
                    shutil.rmtree(folder.root, ignore_errors=True)
                if isinstance(error, KeyboardInterrupt):
                    say("Stopped before the first step. The run folder was removed.")
                raise
            return run.execute(self.started, self.clock)

    def resume(self, resume: str | Path) -> TrainResult:
        """Train from a checkpoint."""
        config, processes = self.inputs.config, self.inputs.processes
        folder, named = processes.from_main(lambda: find_run(config, resume))
        with self._holding(folder):
            found = _read(folder, named) if processes.is_main else None
            path = processes.from_main(lambda: found[0] if found else Path())
            checkpoint = found[1] if found else load_checkpoint(path)
            # Errors come before the model is loaded, which takes long.
            check_identity(checkpoint.identity, self.identity, path)
            check_steps(config, path, checkpoint)
            if processes.is_main:
                folder.make_parts()
            # Changed images are allowed, unlike a changed identity: the run continues,
            # but is no longer that of an uninterrupted one.
            scans = self.inputs.train, self.inputs.validation
            for message in changes_since(checkpoint, *scans):
                say(message)
            say(f"Resuming from {path} at step {checkpoint.step} of {config.steps}.")
            run = self._run(folder, (path, checkpoint))
            return run.execute(self.started, self.clock)

    def _holding(self, folder: RunFolder) -> contextlib.AbstractContextManager[None]:
        if not self.inputs.processes.is_main:
            return contextlib.nullcontext()
        return hold_run(folder.root, needed=False)

    def _run(
        self,
        folder: RunFolder,
        resume: tuple[Path, Checkpoint] | None,
        given: LoraWeights | None = None,
    ) -> Run:
        inputs, identity = self.inputs, self.identity
        run = Run(inputs.config, inputs, identity, folder, resume, given)
        run.check_every = self.check_every
        return run


def _read(folder: RunFolder, named: Path | None) -> tuple[Path, Checkpoint]:
    """Load the named or the latest checkpoint, in a locked run folder."""
    # Only with the lock: files that look left over may be half-written by its owner.
    remove_leftovers(folder.checkpoints)
    return (named, load_checkpoint(named)) if named else read_latest(folder)


class Run:
    """Phases of a run: preparation, training, and writing of files."""

    def __init__(
        self,
        config: TrainConfig,
        inputs: Preflight,
        identity: dict[str, Any],
        folder: RunFolder,
        resume: tuple[Path, Checkpoint] | None,
        given: LoraWeights | None = None,
    ) -> None:
        self.config = config
        self.inputs = inputs
        self.identity = identity
        self.folder = folder
        self.resume = resume
        self._given = given
        self.check_every = 0
        """Interval at which several processes are compared, or 0."""

        self.sink = SinkGroup([])
        self.state: TrainingState | None = None

    def prepare(self) -> TrainingState:
        """Open the logs, encode images and load the model."""
        processes = self.inputs.processes
        if processes.is_main:
            self.sink = SinkGroup([JsonlSink(self.folder.events_file)])
        if self.resume is None:
            self._write_config()
        self._start_trackers()
        path = self.resume[0] if self.resume else None
        # The settings are written before this, the long part: later commands recognize
        # a run by them, even if it is killed while it encodes images.
        with advise_on_memory(self.config, lambda: path):
            self.state = build_state(self.config, self.inputs, self.folder, self._given)
        self._given = None
        if self.check_every:
            self.state.check = ProcessCheck(self.check_every, processes)
        # On a resume, both adapters come from the checkpoint.
        if self.config.lora_init == "loi" and self.resume is None:
            start_from_gradient(self.state, self.config)
        if self.resume is None:
            self._announce("start", 0, {})
        return self.state

    def _announce(self, kind: str, step: int, more: Mapping[str, Any]) -> None:
        """Log the event for the start or resume of the run."""
        state, processes = self.state, self.inputs.processes
        assert state is not None
        self.sink.event(
            kind,
            step,
            {
                "version": __version__,
                "steps": self.config.steps,
                "optimizer": self.config.optimizer.name,
                "rank": self.config.lora_rank,
                "blocks": len(state.pairs),
                IMAGE_COUNT: len(state.images.distinct_images),
                "unreadable": state.images.unreadable,
                "changed": {},
                **({} if processes.is_alone else {"processes": processes.count}),
                **more,
            },
        )
        if not processes.is_main:
            return
        if "tensorboard" in self.config.trackers:
            # After the event: importing TensorBoard takes seconds.
            resumed = step if self.resume else None
            name, settings = self.folder.root.name, hparams_of(self.config)
            self._add(TensorBoardSink(self.folder.tensorboard, resumed, name, settings))

    def _start_trackers(self) -> None:
        """Start all trackers but TensorBoard, which fail if they are not set up."""
        names = [name for name in self.config.trackers if name != "tensorboard"]
        if not self.inputs.processes.is_main:
            return
        for name in names:
            self._add(
                TrackerSink(
                    name,
                    project=self.config.tracker_project,
                    run=self.folder.root.name,
                    folder=self.folder.root,
                    settings=json.loads(dump_full(self.config)),
                )
            )

    def _add(self, sink: MetricSink) -> None:
        every = self.config.all_block_charts
        self.sink.add(sink if every else WithoutDetails(sink))

    def close(self) -> None:
        """Close the logs."""
        self.sink.close()

    def execute(self, started: datetime.datetime, clock: float) -> TrainResult:
        """Train, write the LoRA files and return the result."""
        state = self.state or self.prepare()
        monitor = Monitor(
            state.effective_update,
            state.pairs if state.constrained else (),
            state.validation,
            state.sampler,
            self.sink,
            state.averaged,
        )
        writer = LoraWriter(self.config, state, self.folder, self.sink, started)
        keeper = CheckpointKeeper(
            self.config,
            state,
            self.folder,
            self.sink,
            self.identity,
            images_of(self.inputs.train, self.inputs.validation),
        )
        loop = Loop(
            self.config,
            state,
            monitor,
            self.folder,
            self.sink,
            keeper,
            writer,
            DueEvents(clock),
        )
        if self.resume is not None:
            self._restore(loop, monitor, *self.resume)
        try:
            with advise_on_memory(self.config, keeper.last_good):
                loop.run()
            # Within the try: a disk that is full while the LoRA is written is an error
            # of the run as well, with an event.
            result = self._finish(loop, monitor, writer, clock)
        except Exception as error:
            kind = type(error).__name__
            self.sink.event("error", loop.step, {"message": str(error), "kind": kind})
            raise
        except KeyboardInterrupt:
            # The second Ctrl-C, which does not wait for a checkpoint.
            saved = keeper.last_good()
            say(f"Aborted. Latest checkpoint: {saved or 'none'}.")
            raise
        finally:
            self.close()
        return result

    def _restore(
        self, loop: Loop, monitor: Monitor, path: Path, checkpoint: Checkpoint
    ) -> None:
        """Load a checkpoint. The run folder is only changed if it can be loaded."""
        loop.restore(checkpoint, path)
        # Compared before ``_write_config`` below replaces the old settings.
        changed = self._changed()
        moved = loop.begin_branch(checkpoint, path)
        self._write_config()
        here = self.folder.checkpoints
        abandoned = [file.name for file in moved if file.parent == here][::-1]
        more = {
            "checkpoint": path.name,
            "changed": changed,
            "abandoned": abandoned,
            "images": changes_since(
                checkpoint, self.inputs.train, self.inputs.validation
            ),
        }
        # Before the monitor is restored: this event is what separates the current
        # history of the run from an abandoned one in the same file.
        self._announce("resume", checkpoint.step, more)
        monitor.restore(self.folder, checkpoint.step)

    def _finish(
        self, loop: Loop, monitor: Monitor, writer: LoraWriter, clock: float
    ) -> TrainResult:
        state = self.state
        assert state is not None
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
            pictures=len(state.images.distinct_images),
            unreadable=tuple(state.images.unreadable),
            wall_seconds=time.monotonic() - clock,
        )
        self._report_end(result)
        return result

    def _report_end(self, result: TrainResult) -> None:
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
                f"Stopped early at step {result.step} of {self.config.steps}. The "
                f"lowest validation loss was at step {result.best_step}, and its "
                f"LoRA is {self.folder.root.name}-best."
            )
        if result.interrupted:
            root = self.folder.root
            say(
                f"Stopped and saved at step {result.step} of {self.config.steps}. "
                f"Resume with: stiefel-lora train {quoted(self.folder.config_file)} "
                f'--resume "{root}"'
            )
        for path in result.lora_files:
            say(f"LoRA: {path}")

    def _changed(self) -> dict[str, str]:
        """Print and return the settings that were changed since the run was started."""
        try:
            before = json.loads(read_text(self.folder.config_file))
            changed = changed_settings(before, json.loads(dump_full(self.config)))
        except (OSError, ValueError, TypeError):
            say(
                f"{self.folder.config_file} cannot be read, so changed settings are "
                "not reported. The file is written again."
            )
            return {}
        if changed:
            what = ", ".join(f"{key} {value}" for key, value in changed.items())
            say(f"Changed settings: {what}.")
        return changed

    def _write_config(self) -> None:
        if not self.inputs.processes.is_main:
            return
        with atomic_write(self.folder.config_file) as part:
            part.write_text(dump_full(self.config), encoding="utf-8", newline="\n")
