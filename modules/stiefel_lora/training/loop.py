"""Training loop: optimizer steps, validation, samples and checkpoints."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from .._locks import Lock
from .._wording import quoted
from ..metrics.tags import AVERAGE_LOSS, LOSS_LABEL, LOSS_WINDOW, measured_at
from ..optim.foreign import rate_estimates
from ..runs.commands import Command, take_commands
from ..runs.interrupts import InterruptWatch
from ..runs.progress import ProgressBar, say
from ..runs.run_folder import RunFolder
from ..runs.run_lock import run_lock_path
from .checkpointing.checkpoint import Checkpoint, checkpoint_path
from .checkpointing.keeper import CheckpointKeeper
from .checkpointing.snapshot import fitting, restore
from .distributed import ProcessLost
from .due import DueEvents
from .early_stop import EarlyStop
from .export import BEST, LoraWriter
from .logging.monitor import Monitor
from .logging.sinks import MetricSink
from .state import TrainingState

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["Loop"]

# Weight of the past in the average of the loss.
_SMOOTHING = 1 - 1 / LOSS_WINDOW


class Loop:
    """Training loop of a run.

    Args:
        config: configuration of the run.
        state: model, optimizer and data.
        monitor: measurements of ranks and validation loss, and samples.
        folder: folder of the run.
        sink: sink to which metrics are written.
        keeper: writer of checkpoints.
        writer: writer of LoRA files.
        due: schedule of validation, samples and checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        monitor: Monitor,
        folder: RunFolder,
        sink: MetricSink,
        keeper: CheckpointKeeper,
        writer: LoraWriter,
        due: DueEvents,
    ) -> None:
        self._config = config
        self._state = state
        self._monitor = monitor
        self._folder = folder
        self._sink = sink
        self._keeper = keeper
        self._writer = writer
        self._events = due
        self._early_stop = EarlyStop(
            config.early_stop_patience, config.early_stop_min_delta
        )
        self._position = 0
        self._smooth = math.nan
        self._norms: dict[str, float] = {}
        self._undo: tuple[int, Tensor] | None = None
        self.step = 0
        """Number of completed optimizer steps."""

        self.interrupted = False

    @property
    def checkpoint(self) -> Path | None:
        """Latest checkpoint that was written or loaded by this process."""
        return self._keeper.latest

    # Resume --------------------------------------------------------------------------

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Load a checkpoint. Training then continues exactly as without interruption.

        Raises:
            CheckpointError: If the checkpoint does not match this run.
        """
        restore(self._state, checkpoint, path)
        self.step, self._position = checkpoint.step, checkpoint.position
        with fitting(path, "state of the loop"):
            self._smooth = float(checkpoint.training["smooth_loss"])
            # Checkpoints from before early stopping existed have no such entry.
            if "early_stop" in checkpoint.training:
                self._early_stop.restore(checkpoint.training["early_stop"])

    def begin_branch(self, checkpoint: Checkpoint, path: Path) -> list[Path]:
        """Move later checkpoints and files of the run to another folder.

        Returns:
            Former paths of the moved files.

        Raises:
            OutputError: If later checkpoints cannot be moved.
        """
        moved = self._keeper.begin_branch(path, checkpoint)
        lost = [file for file in moved if file.stem == self._writer.best_stem]
        if lost and self._early_stop.best_step is not None:
            self._early_stop.forget_best()
            say(
                f"{lost[0].name} contained the best LoRA of the abandoned branch. "
                "The best validation loss is reset."
            )
        return moved

    def save(self) -> Path:
        """Write a checkpoint of the current state.

        Raises:
            NonFiniteError: If the state contains NaN or infinity.
            OutputError: If the disk is full. Older checkpoints are not changed.
        """
        figures = {
            "smooth_loss": self._smooth,
            "early_stop": self._early_stop.state(),
        }
        return self._keeper.save(self.step, self._position, figures)

    # Training ------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the last step, a stop command, Ctrl-C or SIGTERM."""
        with InterruptWatch(_say_stopping) as watch:
            try:
                with self._state.processes.exchanging():
                    self._run(watch)
            except ProcessLost as lost:
                # torchrun sends a signal to the other processes.
                watch.ignore()
                raise self._save_alone() from lost

    def _run(self, watch: InterruptWatch) -> None:
        # A resumed run already has the initial measurements in its folder.
        if self.step == 0:
            if self._config.sample_every and self._config.samples:
                say("Generating the samples before training.")
                self._monitor.sample(0)
            if self._config.validate_every:
                say("Computing the validation loss before training.")
            self._validate()
        # After them, so that the time left is estimated from steps alone.
        with ProgressBar("Training", self._config.steps, self.step) as bar:
            self._train(watch, bar)
        # The last step may have been saved already, by its interval or on request.
        if self._at_end and self._keeper.latest_step != self.step:
            self.save()

    def _save_alone(self) -> ProcessLost:
        """Save a checkpoint of the last complete step after a process has ended.

        Every process has the whole state. The one that can lock the run saves: the main
        process, or else another one.

        Returns:
            Error with the path of the checkpoint.
        """
        keeper, place = self._keeper, self._folder.checkpoints
        if self._undo is not None:
            self._position, noise = self._undo
            self._state.noise.restore(noise)
        if not self._state.processes.is_main:
            is_free = Lock(run_lock_path(self._folder.root)).claim()
            keeper.writes = is_free and not checkpoint_path(place, self.step).exists()
        if keeper.writes and self.step and keeper.latest_step != self.step:
            self.save()
        text = f"Another process of the training ended unexpectedly at step {self.step}"
        # On the disk, not keeper.latest: a main process with a full disk ends before it
        # has written that.
        latest = keeper.last_good()
        if latest is None:
            return ProcessLost(f"{text}. No checkpoint has been saved.")
        return ProcessLost(
            f"{text}. The last checkpoint is {latest}. Resume with any number "
            f"of processes: stiefel-lora train {quoted(self._folder.config_file)} "
            f"--resume {quoted(self._folder.root)}",
            saved=keeper.writes,
        )

    def _train(self, watch: InterruptWatch, bar: ProgressBar) -> None:
        while not self._at_end and not self.interrupted:
            began = time.perf_counter()
            if not self._state.processes.is_alone:
                self._undo = self._position, self._state.noise.state()
            loss, norm = self._take_step()
            self._undo = None
            self._log_step(loss, norm, time.perf_counter() - began)
            if self._state.check is not None:
                adapters = self._state.adapters
                self._state.check.compare(self.step, adapters, self._sink)
            # Requests come last: checkpoints saved for them include the
            # measurements of this step, so that a resume repeats none of them.
            self._do_what_is_due()
            self._handle_requests(watch.wanted)
            self._show(bar)

    @property
    def stopped_early(self) -> bool:
        """Return whether training was stopped early because of the validation loss."""
        return self._early_stop.wanted

    @property
    def best_step(self) -> int | None:
        """Step of the lowest validation loss, or None without early stopping."""
        return self._early_stop.best_step

    @property
    def _at_end(self) -> bool:
        return self.step >= self._config.steps or self.stopped_early

    def _take_step(self) -> tuple[float, float]:
        """Take an optimizer step. Return the mean loss and unclipped gradient norm."""
        state, config = self._state, self._config
        for part in state.stop_text_encoders(self.step):
            last = state.text_stops[part]
            say(f"The LoRA of {part} is no longer trained after step {last}.")
        if state.check is not None:
            state.check.begin(self.step + 1)
        total = torch.zeros((), device=state.accelerator.device)
        for _ in range(config.gradient_accumulation_steps):
            # accumulate() counts batches and makes the optimizer step on every N-th
            # only. N of them per call keep the two counts in line, also after a resume,
            # which begins between two steps.
            with state.accelerator.accumulate(state.model):
                loss = self._loss_of_next_batch()
                # Divides the loss by N: gradients are means over the batches of a step,
                # while ``total`` sums the losses themselves.
                state.accelerator.backward(loss)
                # The sum stays on the device: one synchronization per step, not one
                # per batch.
                total += loss.detach()
        state.processes.average_gradients(state.parameters, total)
        value = float(total) / config.gradient_accumulation_steps
        # Checked before the optimizer steps: NaN would spread into every factor, and
        # the block where it began could no longer be identified.
        self._keeper.check(value, "loss", self.step + 1)
        # With an infinite limit it only measures the norm.
        norm = state.accelerator.clip_grad_norm_(
            state.parameters, config.clip_grad_norm or math.inf
        )
        assert norm is not None
        # Scaled float16 gradients may overflow; the scaler then skips the step itself.
        if state.accelerator.scaler is None:
            self._keeper.check(float(norm), "gradient norm", self.step + 1)
        state.optimizer.step()
        # Also where the scaler skipped the step: the rate is a function of the number
        # of steps, by which a resume sets it.
        state.scheduler.step()
        state.optimizer.zero_grad()
        if state.dropout is not None:
            state.dropout.end()
        if state.norm_limit is not None:
            self._norms = state.norm_limit.apply(state.family.stopped_text)
        self.step += 1
        if state.average is not None:
            state.average.update(self.step)
        return value, float(norm)

    def _loss_of_next_batch(self) -> Tensor:
        state, size = self._state, self._config.batch_size
        # The order is a function of seed and position, so the position in a checkpoint
        # is all that a resume needs (``data.order``).
        visits = state.order.batch(self._position, size)
        if state.dropout is not None:
            state.dropout.begin(self._position)
        self._position += size
        return state.loss(visits, state.noise)

    # After a step --------------------------------------------------------------------

    def _log_step(self, loss: float, norm: float, seconds: float) -> None:
        # Bias-corrected, as Adam's moments are: of the first n steps, each has the
        # weight 0.98^age / sum(0.98^age). Starting from the first loss instead would
        # leave that single loss visible for hundreds of steps.
        weight = (1 - _SMOOTHING) / (1 - _SMOOTHING**self.step)
        known = math.isfinite(self._smooth)
        self._smooth = self._smooth + weight * (loss - self._smooth) if known else loss
        groups = self._state.optimizer.param_groups
        tags = self._state.rate_tags()
        rates = {tag: group["lr"] for tag, group in zip(tags, groups, strict=True)}
        rates |= {f"lr/{part}": 0.0 for part in self._state.family.stopped_text}
        values = {
            "loss/train": loss,
            AVERAGE_LOSS: self._smooth,
            "gradient/norm": norm,
            "time/seconds_per_step": seconds,
            **{tag: float(rate) for tag, rate in rates.items()},
            **self._estimates(tags),
            **self._norms,
        }
        self._sink.scalars("train", self.step, values)

    def _estimates(self, tags: list[str]) -> dict[str, float]:
        """Return what the optimizer exposes about its rates, such as Prodigy's d."""
        found = rate_estimates(self._state.optimizer)
        return {
            f"{name}/{tag.removeprefix('lr/')}": value
            for tag, values in zip(tags, found, strict=True)
            for name, value in values.items()
        }

    def _do_what_is_due(self) -> None:
        config, monitor = self._config, self._monitor
        if self._due("rank_every", config.resolved_rank_every):
            monitor.measure_ranks(self.step)
        if self._due("validate_every", config.validate_every):
            self._validate()
        if self._due("sample_every", config.sample_every):
            monitor.sample(self.step)
        # Not due at the end, where the finished LoRA is written.
        if self._is_due("save_every", config.save_every) and not self._at_end:
            self._writer.write_at_interval(self.step)
        # Last, so that the checkpoint includes the effect of this validation on early
        # stopping. Not due at the end, where ``run`` saves anyway.
        key = "checkpoint_every"
        if self._is_due(key, config.checkpoint_every):
            self.save()

    def _due(self, key: str, every: int | str) -> bool:
        """Return whether a measurement is due now. An interval of 0 means never."""
        # The last step is always due, so that the end of every run is measured.
        is_due = self._is_due(key, every)
        return bool(every) and (self._at_end or is_due)

    def _is_due(self, key: str, every: int | str) -> bool:
        is_due = self._events.is_due(key, every, self.step)
        if isinstance(every, int):
            return is_due
        # The clocks of the processes differ.
        processes = self._state.processes
        return processes.any_of(is_due and processes.is_main)[0]

    def _validate(self) -> None:
        loss = self._monitor.validate(self._state.denoiser, self.step)
        stop = self._early_stop
        # Only with early stopping, which needs it, the LoRA of the lowest loss is kept.
        if loss is None or not stop.watches:
            return
        if stop.see(self.step, loss):
            self._writer.write(self.step, BEST, {"validation_loss": loss})
        if stop.wanted:
            self._sink.event("early_stop", self.step, {"best_step": stop.best_step})

    def _handle_requests(self, signalled: bool) -> None:
        orders, stopped = self._requests(signalled)
        if "sample" in orders:
            self._monitor.sample(self.step)
        stopping = stopped or "stop" in orders
        if ("save" in orders or stopping) and self._keeper.latest_step != self.step:
            self.save()
        if "save" in orders:
            self._writer.write(self.step, f"-step-{self.step}")
        # A stop during the last step changes nothing: the run is complete.
        self.interrupted = stopping and not self._at_end

    def _requests(self, signalled: bool) -> tuple[list[Command], bool]:
        """Return the commands, and whether any process received a signal."""
        processes = self._state.processes
        orders = take_commands(self._folder.commands) if processes.is_main else ()
        known = get_args(Command)
        asked = [command in orders for command in known]
        *found, stopped = processes.any_of(*asked, signalled)
        if stopped and not signalled:
            _say_stopping()
        return [*itertools.compress(known, found)], stopped

    def _show(self, bar: ProgressBar) -> None:
        ranks, losses = self._monitor.ranks, self._monitor.losses
        figures: dict[str, float | None] = {
            LOSS_LABEL: self._smooth,
            "lr": float(self._state.optimizer.param_groups[0]["lr"]),
        }
        if ranks:
            label = measured_at("effective rank", self._monitor.rank_step, self.step)
            figures[label] = ranks.mean
        if losses:
            label = measured_at("validation loss", max(losses), self.step)
            figures[label] = losses[max(losses)]
        bar.advance(figures)


def _say_stopping() -> None:
    say(
        "Saving a checkpoint and stopping after this step. Press Ctrl-C again to "
        "abort immediately without saving."
    )
