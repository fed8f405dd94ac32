"""A comparison of optimizers on the batch runner, from configuration to losses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from .._exceptions import ConfigError
from ..config import load_config
from ..config.presets import find_config
from ..methods import method, usual_lr
from .batch import run_batch
from .comparison import Comparison, Contest, Losses, losses_of
from .job import OVER, Job
from .plan import Plan, make_plans

__all__ = ["Outcome", "Study", "make_study"]

# Share of the images that is set aside where the configuration names none, and
# measurements of the validation loss in a run.
SPLIT, MEASUREMENTS = 0.2, 6


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a study."""

    known: dict[Contest, Losses]
    jobs: list[Job]
    failed: list[Job]
    interrupted: bool


@dataclasses.dataclass(frozen=True)
class Study:
    """Optimizers to compare, and the settings that all their runs share."""

    source: str
    comparison: Comparison
    settings: tuple[str, ...]
    """``KEY=VALUE`` for every run."""

    own: str
    """The optimizer of the configuration, whose options stay."""

    plugins: tuple[str, ...]
    remarks: tuple[str, ...]
    folder: Path
    run_name: str

    def plan(self, contest: Contest) -> Plan:
        """The job of one run."""
        settings = [
            *self.settings,
            f"learning_rate={contest.rate}",
            f"seed={contest.seed}",
            f"run_name={json.dumps(f'{self.run_name}-{contest.name}')}",
        ]
        if contest.optimizer != self.own:
            # First: it replaces all options of the other optimizer.
            settings.insert(0, f"optimizer.name={contest.optimizer}")
        (plan,) = make_plans([self.source], settings, (), self.plugins)
        changes = {"optimizer.name": contest.optimizer, "learning_rate": contest.rate}
        return dataclasses.replace(plan, changes={**changes, "seed": contest.seed})

    def run(self, folder: Path, slots: Sequence[str]) -> Outcome:
        """Train whatever is missing; the same call again resumes.

        Raises:
            InputError: as ``run_batch``.
        """
        jobs: dict[Path, Job] = {}
        while True:
            known = self._known()
            # Finished ones too, for the page. Diverged runs are decided, and a batch
            # would start them again.
            plans = [
                self.plan(contest)
                for contest in self.comparison.wanted(known)
                if contest not in known or math.isfinite(known[contest].report)
            ]
            done = run_batch(folder, plans, slots)
            jobs |= {job.run_dir: job for job in done}
            known = self._known()
            dirs = {self.plan(contest).config.run_dir for contest in known}
            failed = [job for job in done if job.run_dir not in dirs]
            missing = [c for c in self.comparison.wanted(known) if c not in known]
            if failed or not missing:
                stopped = any(job.state not in OVER for job in done)
                return Outcome(known, list(jobs.values()), failed, stopped)

    def _known(self) -> dict[Contest, Losses]:
        """Losses of all runs whose folders hold them."""
        known: dict[Contest, Losses] = {}
        while True:
            before = len(known)
            for contest in self.comparison.wanted(known):
                config = self.plan(contest).config
                losses = losses_of(config.run_dir, config.steps)
                if losses is not None:
                    known[contest] = losses
            if len(known) == before:
                return known


def make_study(
    source: str,
    optimizers: str,
    rates: str,
    seeds: int,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> Study:
    """Prepare a comparison from a configuration.

    Args:
        source: config file or preset.
        optimizers: names, separated by commas; the first is the baseline.
        rates: ``auto``, or learning rates for every optimizer.
        seeds: runs of each optimizer at its best rate, 1 to 10.
        overrides: ``KEY=VALUE`` for all runs.
        plugins: files or modules with more optimizers.

    Raises:
        ConfigError: a broken configuration, an unknown optimizer, rates that are none.
    """
    config = load_config(find_config(source), list(overrides), list(plugins))
    names = [name.strip() for name in optimizers.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"--optimizers {optimizers!r} must list different optimizers. Write for "
            f"example adamw,stiefel_lora"
        )
    own = config.optimizer.name
    usual = {
        name: usual_lr(
            method(name), config.optimizer.arguments() if name == own else {}
        )
        for name in names
    }
    remarks, settings = [], list(overrides)
    if not config.has_validation_images:
        settings.append(f"validation_split={SPLIT}")
        remarks.append(
            f"validation_split: {SPLIT:g} of the images is set aside, as the "
            f"configuration has no validation images"
        )
    if not config.validate_every:
        settings.append(f"validate_every={math.ceil(config.steps / MEASUREMENTS)}")
    if config.early_stop_patience:
        settings.append("early_stop_patience=0")
        remarks.append("early_stop_patience: off, so that all runs have equal steps")
    chosen = _rates(rates)
    command = [str(Path(source).absolute()), *names, rates, str(seeds), *overrides]
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:6]
    return Study(
        source=source,
        comparison=Comparison(
            usual, [config.seed + place for place in range(seeds)], chosen
        ),
        settings=tuple(settings),
        own=own,
        plugins=tuple(plugins),
        remarks=tuple(remarks),
        folder=config.output_dir / f"study-{config.run_name}-{digest}",
        run_name=config.run_name,
    )


def _rates(text: str) -> list[float] | None:
    if text == "auto":
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if (
        not found
        or len(set(found)) < len(found)
        or not all(0 < rate < math.inf for rate in found)
    ):
        raise ConfigError(
            f"--rates {text!r} must be auto or different positive numbers. Write for "
            f"example 0.001,0.003,0.01"
        )
    return found
