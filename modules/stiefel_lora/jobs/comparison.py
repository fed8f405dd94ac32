"""Selection of the runs for a comparison of optimizers.

Every optimizer is first trained with several learning rates and the first seed. The
learning rates are around its usual one, and more are added as long as the best one is
the lowest or highest. Then it is trained with the best learning rate and the other
seeds. Learning rates are selected with one half of the validation images, and losses
are reported for the other half, so that trying more learning rates is no advantage.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runs.events import current_events
from ..runs.run_folder import RunFolder
from .evidence import is_finished

__all__ = ["DIVERGED", "Comparison", "Contest", "Losses", "losses_of", "swept_rates"]

# Ratio of neighboring rates, rates to begin with, and rates at most.
LADDER, FIRST, WIDEST = 2.0, 5, 7


@dataclasses.dataclass(frozen=True)
class Losses:
    """Final losses of a run on the two halves of the validation images."""

    choose: float
    report: float
    effective_rank: float | None = None
    seconds: float = 0.0


DIVERGED = Losses(math.inf, math.inf)


@dataclasses.dataclass(frozen=True)
class Contest:
    """Training with an optimizer, a learning rate and a seed."""

    optimizer: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Suffix of the run name."""
        return f"{self.optimizer}-lr_{self.rate:g}-seed_{self.seed}"


Known = Mapping[Contest, Losses]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Optimizers to compare, with learning rates and seeds.

    The first optimizer is the baseline.
    """

    usual: Mapping[str, float]
    """Usual learning rate of each optimizer, around which others are tried."""

    seeds: Sequence[int]
    rates: Sequence[float] | None = None
    """Learning rates for every optimizer. None selects them automatically."""

    def sweep(self, optimizer: str, known: Known) -> list[float]:
        """Return the learning rates to try, according to the losses so far."""
        if self.rates is not None:
            return sorted(self.rates)

        def chosen_on(rate: float) -> float:
            found = known.get(Contest(optimizer, rate, self.seeds[0]))
            return math.nan if found is None else found.choose

        return swept_rates(self.usual[optimizer], LADDER, WIDEST, chosen_on, FIRST)

    def best(self, optimizer: str, known: Known) -> float | None:
        """Return the learning rate with the lowest loss. None if runs are missing."""
        found = {
            rate: known.get(Contest(optimizer, rate, self.seeds[0]))
            for rate in self.sweep(optimizer, known)
        }
        losses = {rate: loss.choose for rate, loss in found.items() if loss is not None}
        if len(losses) < len(found) or math.isinf(min(losses.values())):
            return None
        return min(losses, key=losses.__getitem__)

    def wanted(self, known: Known) -> list[Contest]:
        """Return all runs that are required so far, including finished ones."""
        return list(dict.fromkeys(self._wanted(known)))

    def _wanted(self, known: Known) -> Iterator[Contest]:
        for optimizer in self.usual:
            for rate in self.sweep(optimizer, known):
                yield Contest(optimizer, rate, self.seeds[0])
        for seed in self.seeds[1:]:
            for optimizer in self.usual:
                rate = self.best(optimizer, known)
                if rate is not None:
                    yield Contest(optimizer, rate, seed)


def swept_rates(
    center: float,
    factor: float,
    widest: int,
    loss: Callable[[float], float],
    first: int = 3,
) -> list[float]:
    """Return the initial learning rates, and more if the best one is at the edge.

    Args:
        center: middle of the first learning rates.
        factor: ratio of adjacent learning rates.
        widest: maximum number of learning rates.
        loss: function that returns the loss of a learning rate, or NaN if it is not
            known yet.
        first: number of initial learning rates, which must be odd.
    """
    low, high = -(first // 2), first // 2 + 1
    while True:
        rates = [float(f"{center * factor**e:.3g}") for e in range(low, high)]
        losses = [loss(rate) for rate in rates]
        if high - low >= widest or any(math.isnan(value) for value in losses):
            return rates
        best = losses.index(min(losses))
        if 0 < best < len(rates) - 1:
            return rates
        low, high = (low - 1, high) if best == 0 else (low, high + 1)


def losses_of(run_dir: Path, steps: int) -> Losses | None:
    """Read the final losses of a run. None if it has not ended or has failed.

    The result is ``DIVERGED`` if the loss of the run became NaN or infinite.
    """
    folder = RunFolder(run_dir)
    found: dict[str, Any] = {}
    for event in current_events(folder.events_file):
        found[event["type"]] = event["values"]
    if not is_finished(folder, steps):
        error = found.get("error", {}).get("kind")
        return DIVERGED if error == "NonFiniteError" else None
    by_image = found.get("validation_images", {}).get("loss", [])
    if None in by_image:
        return DIVERGED
    if len(by_image) < 2:
        return None
    choose, report = by_image[0::2], by_image[1::2]
    return Losses(
        math.fsum(choose) / len(choose),
        math.fsum(report) / len(report),
        found["end"].get("mean_effective_rank"),
        found["end"].get("wall_seconds", 0.0),
    )
