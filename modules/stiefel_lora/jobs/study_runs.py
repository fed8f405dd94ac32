"""Training of all runs of a comparison of optimizers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from .._exceptions import ConfigError
from ..config import TrainConfig, load_config
from ..config.concept import enabled_of
from ..config.interval import is_in
from ..config.overrides import parse_override
from ..config.presets import find_config
from ..data import scan_all
from ..methods import find_record, method, usual_lr
from .adding import check_same_settings
from .batch import run_batch
from .comparison import DIVERGED, Comparison, Contest, Losses, losses_of
from .job import OVER, Job
from .plan import Plan, make_plans

__all__ = ["Outcome", "Study", "make_study"]

# Share of the images that is set aside where the configuration names none, and
# measurements of the validation loss in a run.
SPLIT, MEASUREMENTS = 0.2, 6


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a comparison of optimizers."""

    known: dict[Contest, Losses]
    jobs: list[Job]
    failed: list[Job]
    interrupted: bool


@dataclasses.dataclass(frozen=True)
class Study:
    """Comparison of optimizers with common settings for all runs."""

    source: str
    comparison: Comparison
    settings: tuple[str, ...]
    """``KEY=VALUE`` settings for all runs."""

    own: str
    """Optimizer of the configuration. Its options are kept."""

    plugins: tuple[str, ...]
    remarks: tuple[str, ...]
    folder: Path
    run_name: str
    _plans: dict[Contest, Plan] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def plan(self, contest: Contest) -> Plan:
        """Return the job of a run. The result is cached."""
        if contest not in self._plans:
            self._plans[contest] = self._make_plan(contest)
        return self._plans[contest]

    def _make_plan(self, contest: Contest) -> Plan:
        settings = [
            *self.settings,
            f"learning_rate={contest.rate}",
            f"seed={contest.seed}",
            f"run_name={json.dumps(f'{self.run_name}-{contest.name}')}",
        ]
        if contest.optimizer != self.own:
            # Its own defaults replace all options of the configured optimizer.
            settings = [text for text in settings if not _is_of_optimizer(text)]
            settings.append(f"optimizer.name={contest.optimizer}")
        (plan,) = make_plans([self.source], settings, (), self.plugins)
        changes = {"optimizer.name": contest.optimizer, "learning_rate": contest.rate}
        return dataclasses.replace(plan, changes={**changes, "seed": contest.seed})

    def run(self, folder: Path, slots: Sequence[str]) -> Outcome:
        """Train all runs that are not finished.

        If a run fails, the other runs are still trained. Call this method again to
        resume.

        Raises:
            InputError: See :func:`run_batch`. Also raised if a run folder contains a
                run with other settings.
        """
        jobs: dict[Path, Job] = {}
        while True:
            known = self.known()
            # Finished ones too, for the page. Diverged runs are decided, and a batch
            # would start them again.
            plans = [
                self.plan(contest)
                for contest in self.comparison.wanted(known)
                if contest not in known or math.isfinite(known[contest].report)
            ]
            done = run_batch(folder, plans, slots)
            jobs |= {job.run_dir: job for job in done}
            known = self.known()
            dirs = {self.plan(contest).config.run_dir for contest in known}
            failed = [job for job in done if job.run_dir not in dirs]
            stopped = any(job.state not in OVER for job in done)
            tried = {plan.config.run_dir for plan in plans}
            # A run that failed is not tried again by the same call.
            new = [
                contest
                for contest in self.comparison.wanted(known)
                if contest not in known
                and self.plan(contest).config.run_dir not in tried
            ]
            if stopped or not new:
                return Outcome(known, list(jobs.values()), failed, stopped)

    def known(self) -> dict[Contest, Losses]:
        """Return the losses of all finished runs.

        Raises:
            QueueError: If a run folder contains a diverged run with other settings.
        """
        known: dict[Contest, Losses] = {}
        while True:
            # Repeated until nothing new is found: the wanted runs depend on the known
            # losses (more rates at an edge, then seeds at the best rate).
            before = len(known)
            for contest in self.comparison.wanted(known):
                plan = self.plan(contest)
                losses = losses_of(plan.config.run_dir, plan.config.steps)
                if losses == DIVERGED:
                    # A batch compares the settings of all others.
                    check_same_settings(plan)
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
    """Create a comparison of optimizers from a configuration.

    Args:
        source: config file or preset.
        optimizers: comma-separated names. The first optimizer is the baseline.
        rates: ``auto``, or learning rates for every optimizer.
        seeds: number of runs of each optimizer at its best learning rate, from 1 to 10.
        overrides: ``KEY=VALUE`` settings for all runs.
        plugins: plugin files or modules with additional optimizers.

    Raises:
        ConfigError: If the configuration is invalid, an optimizer is unknown, or the
            learning rates are not numbers.
    """
    config = load_config(find_config(source), list(overrides), list(plugins))
    names = [name.strip() for name in optimizers.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"--optimizers {optimizers!r} must be a list of different optimizers. "
            "Use for example adamw,stiefel_lora"
        )
    if any(parse_override(text)[0] == ["learning_rate"] for text in overrides):
        raise ConfigError(
            "--set learning_rate has no effect, because every optimizer is trained "
            "with several learning rates. Set them with --rates, for example "
            "--rates 0.001,0.003"
        )
    own = config.optimizer.name
    usual = {
        name: usual_lr(
            find_record(name) or method(name),
            config.optimizer.arguments() if name == own else {},
        )
        for name in names
    }
    remarks, settings = [], list(overrides)
    others = [name for name in names if name != own]
    if others and any(map(_is_of_optimizer, overrides)):
        remarks.append(
            f"optimizer: options from --set are only used for {own}. The other "
            f"optimizers ({', '.join(others)}) use their defaults"
        )
    if not config.has_validation_images:
        settings.append(f"validation_split={SPLIT}")
        remarks.append(
            f"validation_split: {SPLIT:g} of the images are used for validation, "
            "because the configuration has no validation images"
        )
    # Minutes would measure each run at other steps.
    if not config.validate_every or is_in(config.validate_every, "minutes"):
        settings.append(f"validate_every={_interval(config)}")
    if config.early_stop_patience:
        settings.append("early_stop_patience=0")
        remarks.append(
            "early_stop_patience: ignored, so that all runs have the "
            "same number of steps"
        )
    chosen = _rates(rates)
    _check_validation_images(load_config(find_config(source), settings, list(plugins)))
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


def _interval(config: TrainConfig) -> int | str:
    """Return the interval that divides a run into MEASUREMENTS parts."""
    if config.epochs is None:
        return math.ceil(config.steps / MEASUREMENTS)
    return f"{config.epochs / MEASUREMENTS:.6f} epochs"


def _is_of_optimizer(setting: str) -> bool:
    return parse_override(setting)[0][0] == "optimizer"


def _check_validation_images(config: TrainConfig) -> None:
    """Check that there are at least two validation images."""
    _, validation = scan_all(config)
    count = len(validation.images)
    if count < 2:
        folders = enabled_of(config.validation_concepts)
        key = "validation_concepts" if folders else "validation_split"
        raise ConfigError(
            f"{key}: {count} validation image is not enough for a study, which uses "
            "one half to select learning rates and the other half to compare. Add "
            "images, or use more images for validation with --set "
            "validation_split=0.5"
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
            "--rates must be auto or a list of different positive numbers, but got "
            f"{text!r}. Use for example 0.001,0.003,0.01"
        )
    return found
