"""Price of one optimizer step on the layers of a real SDXL or FLUX.

Every method of the catalogue, torch's AdamW (fused and foreach), the ``adv_optm``
package, and the floor of Stiefel LoRA: the bare products of tall matrices that its
default rule requires. All rows are measured in turn in one run, so that a
busy machine slows them alike::

    python benchmarks/optimizer_step.py --model sdxl --rank 16 64 --every 10

``--every 10`` takes a tenth of the layers of each shape, which is what two CPU cores
can hold; leave it at 1 on a GPU. Operations, waits and work memory are counted as the
layers are stacked on a GPU, on whatever device. torch alone suffices: rows whose
package is absent say so. ``--computed`` adds a table of the time on a GPU that follows
from bytes, products and launches of all layers (roofline.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from layer_shapes import SHAPES, make_pairs
from roofline import GPUS, Computed, Gpu, computed
from step_cost import StepCost, as_on_gpu, step_cost

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim import PULL_REQUEST_OPTIONS
from stiefel_lora.optim.engine import stacking
from stiefel_lora.optim.engine.batching import STEP
from stiefel_lora.optim.engine.stacking import bucketed
from stiefel_lora.optim.engine.two_passes import ACCELERATOR
from stiefel_lora.optim.pairs import Pair

# The rules of the pull request with a retraction that has no QR in it.
AS_ADV_OPTM = {**PULL_REQUEST_OPTIONS, "retraction": "polar"}
Step = Callable[[], object]


class OpenRow(NamedTuple):
    """One row of the table: its step, the bytes of its state and its step counters."""

    step: Step
    state: Callable[[], int] = lambda: 0
    counters: Callable[[], list[torch.Tensor]] = list


BASELINE, FLOOR = "torch AdamW fused", "floor of stiefel_lora"
FACTORS = "stiefel_lora factors"

FOREACH, ADV_OPTM, AS_IT = "torch AdamW foreach", "adv_optm", "stiefel_lora as adv_optm"
ROWS = (BASELINE, FOREACH, ADV_OPTM, AS_IT, *CATALOGUE, FACTORS, FLOOR)
"""Names for ``--rows``."""

# These launch kernels for each layer, so counts of a tenth are not those of all.
BY_LAYER = (FOREACH, ADV_OPTM, "adamw_8bit")

# Products of an (out, r) or (in, r) matrix with an r x r or its own transpose in one
# step of the defaults. B: projections of momentum and of Nesterov's vector (2 each),
# Gram matrix, step (2), retraction (Gram and product). A: Gram matrix, step.
TALL_PRODUCTS_UP, TALL_PRODUCTS_DOWN = 9, 2


def main() -> None:
    """Measure and print one table a rank."""
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    print(
        f"torch {torch.__version__}, {platform.machine()}, device {device}, "
        f"{torch.get_num_threads()} CPU threads; {arguments.model}, one layer in "
        f"{arguments.every}, {arguments.repeats} repeats"
    )
    if device.type != "cuda":
        print("On a GPU: not measured here.")
    found = [report(arguments, rank, device) for rank in arguments.rank]
    if arguments.json:
        given = {key: str(value) for key, value in vars(arguments).items()}
        record = {"arguments": given, "torch": str(torch.__version__), "ranks": found}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=list(SHAPES), default="sdxl")
    parser.add_argument("--rank", type=positive, nargs="+", default=[16, 64])
    parser.add_argument(
        "--every", type=positive, default=1, help="one layer in so many"
    )
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--device", type=usable_device, default="cpu")
    add_rows(parser)
    parser.add_argument("--computed", choices=list(GPUS), help="a GPU, for a table")
    parser.add_argument("--json", type=new_file, help="file for all numbers")
    return parser.parse_args()


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add ``--rows``."""
    names = ", ".join(ROWS)
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        metavar="ROW",
        help=f"rows in place of all of {names}",
    )


def positive(text: str) -> int:
    """Integer from 1.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer from 1.")
    return int(text)


def new_file(text: str) -> Path:
    """Path of a file that can be written, checked before anything is measured.

    Raises:
        argparse.ArgumentTypeError: if it cannot be written.
    """
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{path} cannot be written ({error.strerror}). Give another file."
        ) from None
    return path


def usable_device(name: str) -> str:
    """Name of a device that this build of torch can use.

    Raises:
        argparse.ArgumentTypeError: if it cannot.
    """
    try:
        torch.empty(1, device=name)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"{name} cannot be used by torch {torch.__version__}: {reason}. Install "
            "the build of torch for your GPU, or write --device cpu."
        ) from None
    return name


def report(
    arguments: argparse.Namespace, rank: int, device: torch.device
) -> dict[str, Any]:
    """Print the tables of one rank; return their numbers."""
    pairs = make_pairs(arguments.model, rank, device, every=arguments.every)
    print(f"\nrank {rank}, {len(pairs)} pairs")
    rows = open_rows(pairs, arguments.rows)
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(arguments.repeats + 1):
        for name, row in rows.items():
            spent = seconds(row.step, device)
            # The first round sets up states and caches.
            if repeat:
                times[name].append(spent)
    with as_on_gpu():
        costs = {n: step_cost(row.step, row.counters()) for n, row in rows.items()}
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{'':24s}{'ms':>10s}{'min .. max':>20s}{'x AdamW':>9s}"
        f"{'state MB':>10s}{'work MB':>9s}{'ops':>7s}{'waits':>7s}"
    )
    for name, row in rows.items():
        print(line(name, times[name], middle, row.state(), costs[name]))
    for top, bottom in (
        (FACTORS, FLOOR),
        ("stiefel_lora", FACTORS),
        (FACTORS, ADV_OPTM),
        (AS_IT, ADV_OPTM),
        ("stiefel_lora", ADV_OPTM),
    ):
        if top in middle and bottom in middle:
            print(f"{top} / {bottom} = {middle[top] / middle[bottom]:.2f}")
    found: dict[str, Any] = {"rank": rank, "pairs": len(pairs), "seconds": times}
    if arguments.computed:
        gpu = GPUS[arguments.computed]
        expected = {
            name: for_gpu(row.step, gpu, arguments.every)
            for name, row in rows.items()
            if name not in BY_LAYER
        }
        print(computed_table(gpu, expected))
        found["computed"] = {k: dataclasses.asdict(v) for k, v in expected.items()}
    return found


def for_gpu(step: Step, gpu: Gpu, every: int) -> Computed:
    """Count a step on all layers, of which one in ``every`` is there."""
    limits = ("stack", "stack_in_pairs", "in_pairs")
    # Stacks are cut where those of all layers would be, so launches are theirs.
    parts = {name: getattr(ACCELERATOR, name) // every for name in limits}
    layout = dataclasses.replace(ACCELERATOR, **parts)
    limit = stacking.CHUNK_ELEMENTS // every
    with (
        as_on_gpu(layout),
        mock.patch.object(stacking, "CHUNK_ELEMENTS", limit),
    ):
        return computed(step, gpu, every)


def computed_table(gpu: Gpu, expected: dict[str, Computed]) -> str:
    """Markdown table of expected times, not measured."""
    head = (
        "| | GB moved, computed | TFLOP (of it float64), computed "
        "| launches, computed | factorizations | ms, computed | x AdamW, computed |"
    )
    lines = [f"{gpu.name}, all layers, computed and not measured:", head]
    lines.append("|---" * 7 + "|")
    base = expected[BASELINE].seconds if BASELINE in expected else float("nan")
    lines += [
        f"| {name} | {one.bytes / 1e9:.2f} | {one.flops / 1e12:.3f} "
        f"({one.flops64 / 1e12:.3f}) | {one.launches} | {one.factorizations} "
        f"| {1e3 * one.seconds:.1f} | {one.seconds / base:.1f} |"
        for name, one in expected.items()
    ]
    return "\n".join(lines)


def line(
    name: str,
    times: Sequence[float],
    middle: dict[str, float],
    state: int,
    cost: StepCost,
) -> str:
    """One row of the table."""
    spread = f"{1e3 * min(times):.1f} .. {1e3 * max(times):.1f}"
    ratio = middle[name] / middle[BASELINE] if BASELINE in middle else float("nan")
    return (
        f"{name:24s}{1e3 * middle[name]:10.1f}{spread:>20s}{ratio:9.2f}"
        f"{state / 1e6:10.1f}{cost.work_bytes / 1e6:9.1f}{cost.operations:7d}"
        f"{cost.waits:7d}"
    )


def seconds(step: Step, device: torch.device) -> float:
    """Time of one call; on a CPU that of the processor, without other programs."""
    gc.collect()
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def open_rows(pairs: list[Pair], wanted: Sequence[str] | None) -> dict[str, OpenRow]:
    """Open the rows by name, each with factors and gradients of its own."""
    makers: dict[str, Callable[[list[Pair]], torch.optim.Optimizer]] = {
        BASELINE: lambda own: torch.optim.AdamW(factors(own), lr=1e-4, fused=True),
        FOREACH: lambda own: torch.optim.AdamW(factors(own), lr=1e-4, foreach=True),
        ADV_OPTM: adv_optm,
        AS_IT: lambda own: create_optimizer(
            "stiefel_lora", named(own), lr=1e-4, **AS_ADV_OPTM
        ),
    }
    makers |= {
        name: lambda own, name=name: create_optimizer(name, named(own), lr=1e-4)
        for name in CATALOGUE
    }
    makers[FACTORS] = lambda own: create_optimizer(
        "stiefel_lora", named(own), lr=1e-4, step="factors"
    )
    rows: dict[str, OpenRow] = {}
    for name, make in makers.items():
        if wanted and name not in wanted:
            continue
        try:
            optimizer = make(copied(pairs))
        except (ImportError, OptionError) as error:
            print(f"{name}: not measured ({error})")
            continue
        rows[name] = OpenRow(
            optimizer.step,
            lambda found=optimizer: state_bytes(found),
            lambda found=optimizer: step_counters(found),
        )
    if not wanted or FLOOR in wanted:
        rows[FLOOR] = OpenRow(floor(pairs))
    return rows


def adv_optm(pairs: list[Pair]) -> torch.optim.Optimizer:
    """The optimizer of OneTrainer's pull request 1333."""
    module = importlib.import_module("adv_optm.stiefel_optm.Stiefel_LoRA")
    for pair in pairs:
        pair.up._is_lora_B = pair.down._is_lora_A = True  # type: ignore[attr-defined]
    return module.Stiefel_LoRA(factors(pairs), lr=1e-4)


def floor(pairs: list[Pair]) -> Step:
    """The tall products of stiefel_lora's defaults, on stacks that lie ready."""
    ups = [pair.up.detach() for pair in pairs]
    downs = [pair.down.detach().mT for pair in pairs]
    work = [
        (count, torch.stack(bucket))
        for tall, count in ((ups, TALL_PRODUCTS_UP), (downs, TALL_PRODUCTS_DOWN))
        for bucket in bucketed(tall, lambda factor: factor.shape)
    ]

    def products() -> None:
        for count, stack in work:
            gram = stack.mT @ stack
            for number in range(1, count):
                _ = stack @ gram if number % 2 else stack.mT @ stack

    return products


def copied(pairs: Sequence[Pair]) -> list[Pair]:
    """Factors of a row's own, with gradients that never change."""
    generator = torch.Generator(pairs[0].up.device).manual_seed(1)
    found = []
    for pair in pairs:
        own = [
            torch.nn.Parameter(factor.detach().clone())
            for factor in (pair.up, pair.down)
        ]
        for factor in own:
            factor.grad = 1e-3 * torch.randn(
                factor.shape, generator=generator, device=factor.device
            )
        found.append(Pair(pair.name, *own))
    return found


def factors(pairs: Sequence[Pair]) -> list[torch.Tensor]:
    """A and B of each pair, as trainers pass them."""
    return [factor for pair in pairs for factor in (pair.down, pair.up)]


def named(pairs: Sequence[Pair]) -> list[tuple[str, torch.Tensor]]:
    """The same with PEFT's names."""
    return [
        (f"{pair.name}.lora_{role}.default.weight", factor)
        for pair in pairs
        for role, factor in (("A", pair.down), ("B", pair.up))
    ]


def step_counters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Step counters of an optimizer, which are on the CPU on every device."""
    return [
        value
        for state in optimizer.state.values()
        for name, value in state.items()
        if name in ("step", STEP) and isinstance(value, torch.Tensor)
    ]


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors that the optimizer keeps."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )


if __name__ == "__main__":
    main()
