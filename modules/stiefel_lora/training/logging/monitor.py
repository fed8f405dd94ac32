"""Measurement of ranks and validation loss, and samples, during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from PIL import Image
from torch import nn

from ...adapters import EffectiveUpdate
from ...metrics.rank_map import heat_map
from ...metrics.ranks import RankReport, measure_ranks
from ...metrics.tags import SPECTRUM_EVENT, tag_of
from ...optim.pairs import Pair
from ...runs.events import current_events
from ...runs.run_folder import RunFolder
from ..samples import Sampler
from ..validation import Validation
from .sinks import MetricSink

__all__ = ["Monitor"]


class Monitor:
    """Measure ranks and validation loss, generate samples, and log the results.

    Args:
        update: function that returns the effective update.
        constrained: pairs whose B is kept orthonormal by the optimizer.
        validation: validation set. None for a run without validation images.
        sampler: generator of sample images.
        sink: sink to which all results are written.
        averaged: context manager in which the model uses the averaged weights. Losses
            and samples are computed with them, but ranks are measured on the trained
            LoRA.
    """

    def __init__(
        self,
        update: Callable[[], EffectiveUpdate],
        constrained: Sequence[Pair],
        validation: Validation | None,
        sampler: Sampler,
        sink: MetricSink,
        averaged: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._update = update
        self._constrained = constrained
        self._validation = validation
        self._sampler = sampler
        self._sink = sink
        self._averaged = averaged
        self._columns: dict[int, list[float]] = {}
        self.ranks: RankReport | None = None
        self.rank_step = 0
        """Step at which ``ranks`` were measured."""

        self.losses: dict[int, float] = {}
        """Validation loss by step."""

    def measure_ranks(self, step: int) -> None:
        """Measure and log the effective rank of every block."""
        update = self._update()
        report = measure_ranks(
            update.pairs, self._constrained, update.magnitude_changes
        )
        self.ranks, self.rank_step = report, step
        self._sink.scalars("ranks", step, report.scalars())
        shares = [round(share, 6) for share in report.spectrum]
        self._sink.event(SPECTRUM_EVENT, step, {"mean_shares": shares})
        self._sink.histogram("effective_rank/blocks", step, report.effective)
        self._columns[step] = [
            effective / rank
            for effective, rank in zip(report.effective, report.ranks, strict=True)
        ]
        steps = sorted(self._columns)
        image = heat_map(report.names, [self._columns[s] for s in steps], steps)
        self._sink.image("effective_rank/blocks_over_time", step, image)

    def validate(self, denoiser: nn.Module, step: int) -> float | None:
        """Measure and log the validation loss. None without validation images."""
        if self._validation is None:
            return None
        with self._averaged():
            loss = self._validation.loss(denoiser)
        self.losses[step] = loss
        values = {"validation/loss": loss, **self._validation.by_timesteps}
        self._sink.scalars("validation", step, values)
        by_image = [round(value, 6) for value in self._validation.by_image]
        self._sink.event("validation_images", step, {"loss": by_image})
        return loss

    def sample(self, step: int) -> None:
        """Generate and log the samples. Does nothing without samples."""
        if not len(self._sampler):
            return
        with self._averaged():
            paths = self._sampler.make(step)
        if not paths:
            return
        self._sink.event("sample", step, {"files": [path.name for path in paths]})
        for title, path in zip(self._sampler.titles, paths, strict=True):
            with Image.open(path) as image:
                self._sink.image(f"samples/{title}", step, image)

    def before_after(self, step: int) -> Path | None:
        """Save the grid of the first samples and those of ``step``."""
        return self._sampler.grid(0, step)

    def restore(self, folder: RunFolder, step: int) -> None:
        """Load the measurements of earlier processes of the run up to ``step``."""
        ranks = {
            tag_of("effective_rank", pair.name): pair.rank
            for pair in self._update().pairs
        }
        for event in current_events(folder.events_file):
            if event["step"] > step:
                continue
            values = event["values"]
            if event["type"] == "validation" and values.get("validation/loss"):
                self.losses[event["step"]] = values["validation/loss"]
            elif event["type"] == "ranks" and ranks.keys() <= values.keys():
                self._columns[event["step"]] = [
                    values[tag] / rank for tag, rank in ranks.items()
                ]
