"""A style LoRA and a concept LoRA together: what each loses beside the other.

Both are trained apart, each at the best rate of its task. Then the concepts are
measured as the style draws them, with the two LoRAs added at 25 pairs of weights. One
row holds the losses of all pairs, those of each LoRA alone on its own task, and the
norms, so that methods can be compared at equal weights, at equal norms and at equal
losses of the single LoRAs.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from demo_runs import Rows
from one_run import EVALUATIONS, VALIDATION_BATCH, Run, validating_with
from stages import ADAMW, BASES, PRODUCT, SEEDS, Cell, by_label
from tables import interval_text, paired_lines
from tasks import task_folder

__all__ = ["WEIGHTS", "Stack", "next_stack", "stack_table"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
PARTS = ("large", "concepts")
RANK, STEPS = 16, 120


@dataclasses.dataclass(frozen=True)
class Stack:
    """Two LoRAs of one method and seed on one base."""

    style: Run
    concepts: Run

    @property
    def key(self) -> str:
        """As a line of text."""
        run = self.style
        rates = f"lr {run.rate:.3g} and {self.concepts.rate:.3g}"
        parts = (run.base, "stack", run.method.label, f"rank {run.rank}", rates)
        return " | ".join([*parts, f"{run.steps} steps", f"seed {run.seed}"])

    def train(self) -> dict[str, Any]:
        """Train both; measure them alone and together."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "concepts"
            self.concepts.trained(path)
            (file,) = path.rglob("*_peft.safetensors")
            seen = _Together(file)
            with validating_with(seen.loss):
                self.style.trained(Path(folder) / "style", _all_images())
        found = seen.found
        return {"held_out": found["stack"][-1][-1], **found, **self.style.origin()}


def _all_images() -> dict[str, Any]:
    """Validate on the images of the style, of the concepts and of both in one."""
    folders = [task_folder(task) / "validation" for task in (*PARTS, "stack")]
    return {"validation_concepts": [{"path": str(folder)} for folder in folders]}


class _Together:
    """In place of the last validation of the style's run: the losses of the row."""

    def __init__(self, concepts: Path) -> None:
        self._file = concepts
        self._calls = 0
        self.found: dict[str, Any] = {}

    def loss(self, validation: Any, denoiser: Any) -> float:
        """Return a number of no meaning until the last call, which measures all."""
        self._calls += 1
        if self._calls <= EVALUATIONS:
            return 1.0
        counts = [_count(task) for task in (*PARTS, "stack")]
        ends = [0, *itertools.accumulate(counts)]
        if ends[-1] != len(validation._images.sizes):
            raise RuntimeError(f"{validation._images.sizes} images, expected {counts}")
        subsets = [range(*pair) for pair in itertools.pairwise(ends)]
        validation._batch_size = VALIDATION_BATCH
        layers = list(_layers(denoiser, self._file))
        self.found = {
            "weights": WEIGHTS,
            **_similarity(layers),
            **_losses(
                layers, lambda part: _measured(validation, denoiser, part), subsets
            ),
        }
        return self.found["stack"][-1][-1]


def _count(task: str) -> int:
    return len(list((task_folder(task) / "validation").glob("*.png")))


@dataclasses.dataclass
class _Layer:
    """A layer that both LoRAs change: the style's is active, the other is added."""

    module: Any
    scale: float
    style: Any
    concepts: Any

    def set_weights(self, style: float, concepts: float) -> None:
        """Measure with these weights from now on."""
        base = self.module.get_base_layer()
        if not hasattr(self, "_original"):
            self._original = base.weight.detach().clone()
        self.module.scaling["default"] = self.scale * style
        base.weight.data.copy_(self._original + concepts * self.concepts)


def _layers(denoiser: Any, file: Path) -> Iterator[_Layer]:
    from safetensors.torch import load_file

    tensors = load_file(file)
    downs = {name: value for name, value in tensors.items() if "lora_A" in name}
    for name, module in denoiser.named_modules():
        if "default" not in getattr(module, "lora_A", {}):
            continue
        (key,) = (key for key in downs if key.endswith(f".{name}.lora_A.weight"))
        scale, shape = module.scaling["default"], module.get_base_layer().weight.shape
        up = tensors[key.replace("lora_A", "lora_B")]
        own = _product(module.lora_B["default"].weight, module.lora_A["default"].weight)
        other = _product(up, downs.pop(key))
        yield _Layer(
            module, scale, (scale * own).reshape(shape), (scale * other).reshape(shape)
        )
    if downs:
        raise RuntimeError(f"The concept LoRA has {len(downs)} more layers.")


def _product(up: Any, down: Any) -> Any:
    return (up.flatten(1) @ down.flatten(1)).detach()


def _similarity(layers: Sequence[_Layer]) -> dict[str, Any]:
    """Frobenius norms of both LoRAs, over all layers, and the cosine between them."""
    pairs = [(layer.style.double(), layer.concepts.double()) for layer in layers]
    squares = [math.fsum(float((p[i] * p[i]).sum()) for p in pairs) for i in (0, 1)]
    norms = [math.sqrt(square) for square in squares]
    inner = math.fsum(float((a * b).sum()) for a, b in pairs)
    return {"norms": norms, "cosine": inner / (norms[0] * norms[1])}


def _losses(
    layers: Sequence[_Layer],
    measure: Callable[[range], float],
    subsets: Sequence[range],
) -> dict[str, Any]:
    style, concepts, stack = subsets
    alone: dict[str, list[float]] = {"style": [], "concepts": []}
    grid = []
    for first in WEIGHTS:
        grid.append([])
        for second in WEIGHTS:
            for layer in layers:
                layer.set_weights(first, second)
            grid[-1].append(round(measure(stack), 6))
            if second == 0:
                alone["style"].append(round(measure(style), 6))
            if first == 0:
                alone["concepts"].append(round(measure(concepts), 6))
    return {**alone, "stack": grid}


def _measured(validation: Any, denoiser: Any, images: range) -> float:
    jobs = [
        (i, k) for i in images for k in range(validation._count)
    ]  # all images have one size
    parts = [
        jobs[start : start + VALIDATION_BATCH]
        for start in range(0, len(jobs), VALIDATION_BATCH)
    ]
    with mock.patch.object(validation, "_jobs", return_value=parts):
        losses = validation.losses(denoiser)
    return float(losses[images.start : images.stop].mean())


def next_stack(done: Rows, tried: set[str]) -> Stack | None:
    """The next stack whose two rates are known."""
    for seed, base, method in itertools.product(SEEDS, BASES, (ADAMW, PRODUCT)):
        stack = _stack(done, base, method, seed)
        if stack and stack.key not in tried and stack.key not in done:
            return stack
    return None


def _stack(done: Rows, base: str, method: Any, seed: int) -> Stack | None:
    runs = []
    for task in PARTS:
        cell = Cell(base, method, RANK, STEPS, task)
        rate = cell.best(done)
        if rate is None:
            return None
        runs.append(cell.runs(rate)[SEEDS.index(seed)])
    return Stack(*runs)


def stack_table(done: Rows) -> list[str]:
    """Loss of the concepts in the style: how methods compare at three equalities."""
    lines = [
        "| base | method | seeds | neither | style alone | concepts alone | both "
        "| both, best of equal weights | both at equal norms "
        "| both at equal single losses | norms | cosine |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return [*lines, *paired_lines(done, by_label((ADAMW, PRODUCT)), _stack, _line)]


def _line(
    base: str, label: str, own: Mapping[int, dict], rival: Mapping[int, dict]
) -> str:
    def mean(value: Callable[[dict], float]) -> str:
        return f"{statistics.fmean(value(row) for row in own.values()):.4f}"

    def compared(value: Callable[[dict, dict], tuple[float, float]]) -> str:
        pairs = [value(own[seed], rival[seed]) for seed in own if seed in rival]
        text = f"{statistics.fmean(pair[0] for pair in pairs):.4f}" if pairs else "-"
        if own is rival or not pairs:
            return text
        differences = [100 * (a / b - 1) for a, b in pairs]
        return " ".join([f"{text}:", *interval_text(differences)])

    norms = [statistics.fmean(row["norms"][i] for row in own.values()) for i in (0, 1)]
    best = compared(lambda a, b: (_best(a), _best(b)))
    return (
        f"| {base} | {label} | {len(own)} | {mean(lambda r: r['stack'][0][0])} "
        f"| {mean(lambda r: r['stack'][-1][0])} | {mean(lambda r: r['stack'][0][-1])} "
        f"| {compared(lambda a, b: (a['stack'][-1][-1], b['stack'][-1][-1]))} "
        f"| {best} | {compared(_at_equal_norms)} "
        f"| {compared(_at_equal_losses)} | {norms[0]:.1f}, {norms[1]:.1f} "
        f"| {mean(lambda r: r['cosine'])} |"
    )


def _best(row: dict) -> float:
    return min(row["stack"][i][i] for i in range(1, len(WEIGHTS)))


def _at_equal_norms(own: dict, other: dict) -> tuple[float, float]:
    """Both at the smaller norm of each part."""
    norms = [min(pair) for pair in zip(own["norms"], other["norms"], strict=True)]
    shares = [
        [n / m for n, m in zip(norms, r["norms"], strict=True)] for r in (own, other)
    ]
    return _at(own, *shares[0]), _at(other, *shares[1])


def _at_equal_losses(own: dict, other: dict) -> tuple[float, float]:
    """Both at the higher of the two losses that each part has alone."""
    shares: list[list[float]] = [[], []]
    for part in ("style", "concepts"):
        target = max(min(own[part]), min(other[part]))
        for share, row in zip(shares, (own, other), strict=True):
            share.append(_weight_of(row[part], target))
    return _at(own, *shares[0]), _at(other, *shares[1])


def _weight_of(losses: Sequence[float], target: float) -> float:
    """The smallest weight whose loss is at most the target, between the weights."""
    for place in range(1, len(losses)):
        before, after = losses[place - 1], losses[place]
        if after <= target:
            share = (before - target) / (before - after) if before > after else 1.0
            low, high = WEIGHTS[place - 1], WEIGHTS[place]
            return low + (high - low) * share
    return WEIGHTS[-1]


def _at(row: dict, style: float, concepts: float) -> float:
    """Bilinear between the pairs of weights that were measured."""
    places = []
    for weight in (style, concepts):
        place = min(bisect.bisect_right(WEIGHTS, weight), len(WEIGHTS) - 1)
        low, high = WEIGHTS[place - 1], WEIGHTS[place]
        places.append((place, (weight - low) / (high - low)))
    (i, x), (j, y) = places
    grid = row["stack"]
    lower = (1 - y) * grid[i - 1][j - 1] + y * grid[i - 1][j]
    upper = (1 - y) * grid[i][j - 1] + y * grid[i][j]
    return (1 - x) * lower + x * upper
