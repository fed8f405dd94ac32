"""What is run in which order; each stage asks for the next run that is missing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from demo_runs import Rows
from one_run import NUMERICS, Method, Run, halves_of

from stiefel_lora.jobs.comparison import swept_rates

__all__ = [
    "ADAMW",
    "BASES",
    "EARLIER",
    "FIRST",
    "PRODUCT",
    "SEEDS",
    "STAGES",
    "TUNED",
    "Cell",
    "Stage",
    "by_label",
]

ADAMW = Method("AdamW", "adamw", 3e-3)
# The default, spelled out so that its rows keep their meaning if it changes again.
_DEFAULT = (("step", "product"), ("momentum", 0.6))
PRODUCT = Method("Stiefel LoRA, step 2", "stiefel_lora", 2e-2, _DEFAULT)
# Rows from when the rotation of B was shortened where gradients have null directions.
# Trials whose rows are as old are beside it.
EARLIER = Method("Stiefel LoRA", "stiefel_lora", 2e-2, _DEFAULT)
# What was the default before: momentum 0.9.
HEAVY = Method(
    "Stiefel LoRA, product",
    "stiefel_lora",
    1e-2,
    (("step", "product"), ("momentum", 0.9)),
)
FACTORS = Method(
    "Stiefel LoRA, factors",
    "stiefel_lora",
    2e-2,
    (("step", "factors"), ("momentum", 0.9)),
)
TRIAL = (("plugins", [str(Path(__file__).with_name("variants.py"))]),)


def _trial(
    label: str, *settings: tuple[str, Any], rate: float = 1e-2, **options: Any
) -> Method:
    return Method(
        f"Product, {label}",
        "product_trial",
        rate,
        tuple(options.items()),
        (*TRIAL, *settings),
    )


# A lower momentum goes with a higher rate; the baseline gets the same chance.
MOMENTA = (
    _trial("momentum 0.8", momentum=0.8, rate=2e-2),
    _trial("momentum 0.6", momentum=0.6, rate=2e-2),
    Method("AdamW, beta1 0.8", "adamw", 3e-3, (("beta1", 0.8),)),
    Method("AdamW, beta1 0.6", "adamw", 3e-3, (("beta1", 0.6),)),
)
TRIALS = (
    _trial("momentum 0.8, kappa 1", momentum=0.8, softness=1.0, rate=2e-2),
    _trial("Nesterov", nesterov=True),
    _trial("momentum 0.95", momentum=0.95),
    _trial("Nesterov, momentum 0.95", nesterov=True, momentum=0.95),
    _trial("kappa 0.3 of the mean", softness=0.3),
    _trial("kappa 3 of the mean", softness=3.0),
    _trial("kappa 1 of the running noise", softness=1.0, noise="running"),
    _trial("rate by sqrt(out / in)", width=True),
    _trial("warm-up of 12 steps", ("learning_rate_warmup_steps", 12)),
)
# Parts added to the default one at a time. Those above were tried at momentum 0.9.
ADDED = (
    _trial("momentum 0.6, kappa 0.3", momentum=0.6, softness=0.3, rate=2e-2),
    _trial("momentum 0.6, kappa 1", momentum=0.6, softness=1.0, rate=2e-2),
    _trial(
        "momentum 0.6, kappa 1 of the running noise",
        momentum=0.6,
        softness=1.0,
        noise="running",
        rate=2e-2,
    ),
    _trial("momentum 0.6, Nesterov", momentum=0.6, nesterov=True, rate=2e-2),
    _trial("momentum 0.6, rate by sqrt(out / in)", momentum=0.6, width=True, rate=2e-2),
    _trial(
        "momentum 0.6, warm-up of 12 steps",
        ("learning_rate_warmup_steps", 12),
        momentum=0.6,
        rate=2e-2,
    ),
    Method(
        "Stiefel LoRA, weight decay 0.1",
        "stiefel_lora",
        2e-2,
        (*_DEFAULT, ("weight_decay", 0.1)),
    ),
    Method(
        "Stiefel LoRA, weight decay 0.01",
        "stiefel_lora",
        2e-2,
        (*_DEFAULT, ("weight_decay", 0.01)),
    ),
)
# AdamW with its best beta1.
TUNED = MOMENTA[2]
# The options of the baseline, each swept once around its default.
ADAMW_OPTIONS = tuple(
    Method(f"AdamW, {label}", "adamw", 3e-3, options)
    for label, options in (
        ("beta2 0.99", (("beta2", 0.99),)),
        ("beta2 0.95", (("beta2", 0.95),)),
        ("beta1 0.8, beta2 0.99", (("beta1", 0.8), ("beta2", 0.99))),
        ("weight decay 0.1", (("weight_decay", 0.1),)),
        ("weight decay 1", (("weight_decay", 1.0),)),
    )
)
# The rest of the catalog and what users bring, each around its own best guess.
OTHERS = (
    Method("LoRA+", "lora_plus", 1.5e-3),
    Method("Scaled AdamW", "scaled_adamw", 3e-3),
    Method("StelLA", "stella", 1e-2),
    Method("LoRA-RITE", "lora_rite", 4e-3),
    Method("Riemannion", "riemannion", 1e-2),
    Method("LoRA-Muon", "lora_muon", 2e-2),
    Method("PoLoRA", "polora", 1e-1),
    Method("LoRA-TSD", "lora_tsd", 1e-2),
    Method("Whitened LoRA", "whitened_lora", 2e-3),
    Method(
        "Muon per factor",
        "custom",
        1e-2,
        (("class", "torch.optim.Muon"), ("options", {"weight_decay": 0.0})),
    ),
    Method("Prodigy", "custom", 1.0, (("class", "prodigyopt.Prodigy"),)),
)


def by_label(methods: Iterable[Method]) -> dict[str, Method]:
    """Methods by their names in tables."""
    return {method.shown: method for method in methods}


RATE_STEP, FIRST, WIDEST = 2.0, 5, 7
SEEDS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of a table: a method on a base, at a rank and a budget."""

    base: str
    method: Method
    rank: int
    steps: int
    task: str = "large"
    rates: int = FIRST

    def runs(self, rate: float) -> list[Run]:
        """All seeds at one rate."""
        return [
            Run(self.base, self.method, self.rank, rate, seed, self.steps, self.task)
            for seed in SEEDS
        ]

    def rows(self, done: Rows, rate: float) -> dict[int, dict]:
        """Seed -> row of the runs that are in."""
        return {
            run.seed: done[run.key]
            for run in self.runs(rate)
            if done.get(run.key, {}).get("numerics") == NUMERICS
        }

    def chosen_on(self, done: Rows, rate: float) -> float:
        """Loss on the half that rates are chosen on; NaN where nothing is in.

        Of the first seed alone: other seeds have not run at every rate.
        """
        row = self.rows(done, rate).get(SEEDS[0])
        return halves_of(row, self.task)[0] if row else math.nan

    def sweep(self, done: Rows) -> list[float]:
        """Rates of the sweep as far as it is known: extended until one is interior."""
        return swept_rates(
            self.method.rate,
            RATE_STEP,
            WIDEST,
            lambda rate: self.chosen_on(done, rate),
            self.rates,
        )

    def best(self, done: Rows) -> float | None:
        """The rate of the lowest loss; None while the sweep is not complete."""
        rates = self.sweep(done)
        losses = [self.chosen_on(done, rate) for rate in rates]
        if any(math.isnan(loss) for loss in losses):
            return None
        return rates[losses.index(min(losses))]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A set of cells, in the order of what is wanted first."""

    title: str
    baseline: Method
    cells: tuple[Cell, ...]
    seeds: int = len(SEEDS)

    def next_run(self, done: Rows, tried: set[str]) -> Run | None:
        """The first run that is missing: sweeps of all cells before further seeds."""
        for run in self._wanted(done):
            if run.key not in tried and run.key not in done:
                return run
        return None

    def _wanted(self, done: Rows) -> Iterator[Run]:
        for cell in self.cells:
            for rate in cell.sweep(done):
                yield cell.runs(rate)[0]
        for further in range(1, self.seeds):
            for cell in self.cells:
                rate = cell.best(done)
                if rate is not None:
                    yield cell.runs(rate)[further]


BASES = ("sdxl", "flux")
RIVALS = (ADAMW, PRODUCT)


def _two_images(method: Method) -> Method:
    """The same method with a quarter of the batch."""
    settings = (*method.settings, ("batch_size", 2))
    return dataclasses.replace(
        method, label=f"{method.label}, batch 2", settings=settings
    )


def _cells(
    methods: Iterable[Method],
    ranks: Iterable[int],
    steps: int,
    task: str,
    rates: int = FIRST,
) -> tuple[Cell, ...]:
    return tuple(
        Cell(base, method, rank, steps, task, rates)
        for rank in ranks
        for base in BASES
        for method in methods
    )


STAGES = {
    "product": Stage(
        "The step of the product beside AdamW",
        ADAMW,
        _cells(RIVALS, (16, 64, 4), 120, "large"),
    ),
    "concepts": Stage(
        "New concepts under invented words",
        ADAMW,
        _cells((*RIVALS, HEAVY, FACTORS), (16,), 120, "concepts"),
    ),
    "factors": Stage(
        "Steps per factor beside the step of the product",
        PRODUCT,
        _cells((PRODUCT, FACTORS), (16, 64), 120, "large"),
    ),
    "momentum": Stage(
        "Less momentum, for the product's step and for AdamW",
        ADAMW,
        (
            *_cells((ADAMW, HEAVY), (16, 64), 120, "large"),
            *_cells(MOMENTA, (16, 64), 120, "large", rates=3),
        ),
    ),
    "low_momentum": Stage(
        "Hardly any momentum",
        ADAMW,
        _cells(
            (
                _trial("momentum 0.4", momentum=0.4, rate=2e-2),
                _trial("momentum 0", momentum=0.0, rate=2e-2),
            ),
            (16, 64),
            120,
            "large",
            rates=3,
        ),
    ),
    "trials": Stage(
        "Trials of the product's step",
        HEAVY,
        (
            *_cells((HEAVY,), (16, 64), 120, "large"),
            *_cells(TRIALS, (16, 64), 120, "large", rates=3),
        ),
    ),
    "long": Stage(
        "The same at 400 steps",
        ADAMW,
        _cells((ADAMW, PRODUCT, HEAVY), (16,), 400, "large", rates=3),
    ),
    "long_ranks": Stage(
        "Ranks 64 and 4 at 400 steps",
        ADAMW,
        (
            *_cells(RIVALS, (64,), 400, "large", rates=3),
            *_cells((ADAMW, EARLIER), (4,), 400, "large", rates=3),
        ),
    ),
    "catalog": Stage(
        "The whole catalog at 60 steps",
        ADAMW,
        tuple(
            Cell("sdxl", method, 16, 60, task)
            for task in ("large", "concepts")
            for method in (ADAMW, PRODUCT, HEAVY, FACTORS, *OTHERS)
        ),
        seeds=1,
    ),
    "adamw": Stage(
        "AdamW's own options",
        ADAMW,
        (
            *_cells(RIVALS, (16, 64), 120, "large"),
            *_cells((TUNED,), (16, 64), 120, "large", rates=3),
            *_cells(ADAMW_OPTIONS, (16,), 120, "large", rates=3),
        ),
    ),
    "tuned": Stage(
        "AdamW with its best beta1",
        TUNED,
        (
            *_cells((TUNED,), (16, 64), 120, "large", rates=3),
            *_cells((PRODUCT,), (16, 64), 120, "large"),
        ),
    ),
    "additions": Stage(
        "Additions to the default",
        EARLIER,
        (
            *_cells((EARLIER,), (16, 64), 120, "large"),
            *_cells(ADDED, (16,), 120, "large", rates=3),
            *_cells(ADDED[:3], (64,), 120, "large", rates=3),
        ),
    ),
    "rank_96": Stage(
        "Rank 96", ADAMW, _cells((ADAMW, PRODUCT), (96,), 120, "large", rates=3)
    ),
    "long_momentum": Stage(
        "Less momentum at 400 steps",
        ADAMW,
        (
            *_cells((ADAMW, HEAVY), (16,), 400, "large", rates=3),
            *_cells(MOMENTA[:3], (16,), 400, "large", rates=3),
        ),
    ),
    "small_batch": Stage(
        "Two images a step: momentum where gradients are noisy",
        _two_images(ADAMW),
        _cells(
            tuple(map(_two_images, (HEAVY, *MOMENTA[:2], ADAMW, TUNED))),
            (16,),
            240,
            "large",
            rates=3,
        ),
    ),
    "concepts_beta1": Stage(
        "AdamW with less momentum on new concepts",
        ADAMW,
        (
            *_cells((ADAMW, PRODUCT), (16,), 120, "concepts"),
            *_cells((TUNED,), (16,), 120, "concepts", rates=3),
        ),
    ),
    "style": Stage(
        "The small set of the demo, which is learned by heart",
        ADAMW,
        _cells(RIVALS, (16, 64), 120, "style"),
    ),
}
