"""Measure the optimizers on a GPU in one command: JSON and a Markdown table.

Prices of all methods on the layers of SDXL and FLUX, also as CUDA graphs, launches,
synchronizations, parity with the CPU, a resume that must be exact to the bit, steps of
both models at full size with random weights (FLUX in 4 bits, too), and the quickstart::

    python benchmarks/on_gpu.py --output results

What does not fit into the memory is skipped with a line. On a CPU the same code runs on
a few layers, which tests the script and measures nothing. The columns headed "computed"
follow from counted operations and the published figures of ``--gpu`` (roofline.py),
which is selected by the name of the device if it is not given.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from layer_shapes import SHAPES, make_pairs
from optimizer_step import (
    BASELINE,
    Step,
    add_rows,
    copied,
    named,
    new_file,
    open_rows,
    positive,
    seconds,
    usable_device,
)
from roofline import GPUS, computed
from step_cost import as_on_gpu, step_cost

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora._entry import train_file
from stiefel_lora._exceptions import InputError, TrainingError
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.runs.events import current_events

FILES = ("on_gpu.json", "on_gpu.md")
NOT_MEASURED = "not measured"
TABLES = {
    "prices": "One optimizer step. Operations, bytes and state are counted:",
    "methods": "Small layers: largest relative difference to the factors of the CPU "
    "after six steps, and whether a resumed optimizer continues exactly:",
    "steps": "Training steps of whole models with random weights:",
    "quickstart": "The training of the quickstart:",
}
"""Captions of the tables."""
PRESET = "demo_stiefel_lora"
DEMO_IMAGES = (
    Path(__file__).resolve().parents[1] / "modules/stiefel_lora/demo/pictures/train"
)

Row = dict[str, Any]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=usable_device, default=found)
    parser.add_argument("--output", type=new_folder, default="results")
    parser.add_argument("--model", nargs="+", choices=list(SHAPES), default=[*SHAPES])
    parser.add_argument("--rank", type=positive, nargs="+", default=[16, 64, 128])
    parser.add_argument(
        "--every", type=positive, help="one layer in so many; on a CPU 100"
    )
    parser.add_argument("--repeats", type=positive, default=5)
    add_rows(parser)
    parser.add_argument(
        "--gpu",
        choices=list(GPUS),
        help="whose published figures the computed columns use (others can be added in "
        "benchmarks/roofline.py)",
    )
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    complete(arguments, device)
    if device.type != "cuda":
        print(f"Note: {no_gpu(arguments)}", file=sys.stderr)
    given = {key: str(value) for key, value in vars(arguments).items()}
    record: Row = {"machine": machine(device), "arguments": given, "prices": []}
    record["note"] = "" if device.type == "cuda" else no_gpu(arguments)
    record |= {"methods": check_all(arguments), "steps": [], "quickstart": []}
    for model in arguments.model:
        for rank in arguments.rank:
            try:
                record["prices"] += prices(arguments, model, rank, device)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                print(f"{model}, rank {rank}: skipped, the memory of the GPU is full")
            # What was measured is kept if anything later fails or is stopped.
            write(record, arguments.output)
    record["steps"] = model_steps(arguments, device)
    write(record, arguments.output)
    record["quickstart"] = quickstart(device)
    write(record, arguments.output)
    print(markdown(record))


def new_folder(text: str) -> Path:
    """Folder whose two files can be written, checked before anything is measured."""
    for name in FILES:
        new_file(str(Path(text) / name))
    return Path(text)


def write(record: Row, folder: Path) -> None:
    """Write both files."""
    for name, content in zip(
        FILES, (json.dumps(record, indent=1), markdown(record)), strict=True
    ):
        (folder / name).write_text(content, "utf-8")


def complete(arguments: argparse.Namespace, device: torch.device) -> None:
    """Set what was not given by the device."""
    gpu = device.type == "cuda"
    arguments.every = arguments.every or (1 if gpu else 100)
    if arguments.gpu is None:
        name = torch.cuda.get_device_name(device) if gpu else ""
        known = [one for one in GPUS if one in name]
        arguments.gpu = known[0] if known else "RTX 4090"


def no_gpu(arguments: argparse.Namespace) -> str:
    """State that nothing was measured, and why."""
    return (
        f"no GPU was used (device {arguments.device}, torch {torch.__version__}). The "
        f"script was only tested, on one layer in {arguments.every} and on the models "
        "of the demo, and no cell is a result for full-size models. With an NVIDIA "
        "GPU, install the CUDA build of torch."
    )


def machine(device: torch.device) -> Row:
    """Names and versions, and the date."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "CPU",
        "processor": platform.machine(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if gpu else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def prices(
    arguments: argparse.Namespace, model: str, rank: int, device: torch.device
) -> list[Row]:
    """One row a method, all measured in turn."""
    gpu, named_gpu, every = device.type == "cuda", GPUS[arguments.gpu], arguments.every
    rows = open_rows(make_pairs(model, rank, device, every=every), arguments.rows)
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(arguments.repeats + 1):
        for name, row in rows.items():
            spent = seconds(row.step, device)
            # The first round sets up states and caches.
            if repeat:
                times[name].append(spent)
    middle = {name: statistics.median(spent) for name, spent in times.items()}
    found = []
    for name, (step, state, counters) in rows.items():
        with as_on_gpu():
            cost = step_cost(step, counters())
            expected = computed(step, named_gpu)
        row: Row = {"model": model, "rank": rank, "method": name}
        measured = gpu and BASELINE in middle
        row["ms"] = 1e3 * middle[name] if gpu else NOT_MEASURED
        row["times AdamW"] = (
            middle[name] / middle[BASELINE] if measured else NOT_MEASURED
        )
        row["graph ms"] = graph_ms(step, arguments.repeats) if gpu else NOT_MEASURED
        row["kernels"] = kernels(step) if gpu else NOT_MEASURED
        row["synchronizes"] = synchronizes(step) if gpu else NOT_MEASURED
        row |= {"state MB": state() / 1e6, "operations": cost.operations}
        row["bytes MB"] = expected.bytes / 1e6
        # Of a few layers, launches are nearly the whole time, which is true of no GPU.
        row["computed ms"] = 1e3 * expected.seconds if every == 1 else "not all layers"
        found.append(row)
    return found


def graph_ms(step: Step, repeats: int) -> float | str:
    """Time of a step that is replayed as a CUDA graph, where it can be captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            step()
    except RuntimeError:
        torch.cuda.synchronize()
        return "not capturable"
    device = torch.device("cuda")
    spent = [seconds(graph.replay, device) for _ in range(repeats)]
    return 1e3 * statistics.median(spent)


def model_steps(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """Training steps of whole models: full size on a GPU, the demo's on a CPU."""
    try:
        from full_size_step import full_size_step
    except ImportError as error:
        print(f"steps of whole models: skipped ({error})")
        return []
    gpu, found = device.type == "cuda", []
    wanted = [
        m for m in ("adamw", "stiefel_lora") if m in (arguments.rows or CATALOGUE)
    ]
    kinds = [(m, "bfloat16") for m in arguments.model]
    kinds += [(m, "nfloat4") for m in arguments.model if m == "flux"]
    for model, weights in kinds:
        for name in wanted:
            options: Row = {"steps": arguments.repeats, "weights": weights}
            try:
                row = full_size_step(model, name, device, toy=not gpu, **options)
            except torch.cuda.OutOfMemoryError:
                print(f"step of {model}: skipped, the memory of the GPU is full")
                continue
            except ImportError as error:
                print(f"step of {model} in {weights}: skipped ({error})")
                continue
            finally:
                if gpu:
                    torch.cuda.empty_cache()
            times = ("step ms", "optimizer ms", "optimizer share", "peak GB")
            if not gpu:
                row |= dict.fromkeys(times, NOT_MEASURED)
                row["model"] = f"{model}, the demo's"
            found.append(row)
    return found


def quickstart(device: torch.device) -> list[Row]:
    """The run of the quickstart; on a CPU two steps of it on four images."""
    gpu = device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        settings: Row = {"device": str(device), "output_dir": folder, "run_name": "run"}
        if not gpu:
            images = Path(folder) / "images"
            images.mkdir()
            for image in sorted(DEMO_IMAGES.glob("*.png"))[:4]:
                shutil.copy(image, images)
            few = [{"path": str(images)}]
            settings |= {"concepts": few, "validation_concepts": few, "samples": []}
            settings |= {"steps": 2, "validate_every": 2, "batch_size": 2}
        began = time.perf_counter()
        try:
            train_file(PRESET, [f"{k}={json.dumps(v)}" for k, v in settings.items()])
        except (ImportError, InputError, TrainingError) as error:
            print(f"quickstart: skipped ({error})")
            return []
        spent = time.perf_counter() - began
        (log,) = Path(folder).rglob("events.jsonl")
        events = [e for e in current_events(log) if e["type"] == "validation"]
    losses = [event["values"]["validation/loss"] for event in events]
    row: Row = {"steps": events[-1]["step"], "seconds": spent}
    row |= {"loss before": losses[0], "loss after": losses[-1]}
    measured = ("seconds", "loss before", "loss after")
    return [row if gpu else row | dict.fromkeys(measured, NOT_MEASURED)]


def kernels(step: Step) -> int:
    """Kernels and copies that one step launches, by the profiler."""
    activity = torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[activity]) as profile:
        step()
        torch.cuda.synchronize()
    kind = torch.autograd.DeviceType.CUDA
    return sum(event.device_type == kind for event in profile.events())


def synchronizes(step: Step) -> bool:
    """Return whether a step waits for the GPU."""
    with sync_errors():
        try:
            step()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            return True
    return False


@contextlib.contextmanager
def sync_errors() -> Iterator[None]:
    """Raise an error at each synchronization."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def check_all(arguments: argparse.Namespace) -> list[Row]:
    """Parity with the CPU and an exact resume of every method on small layers."""
    wanted = [n for n in CATALOGUE if not arguments.rows or n in arguments.rows]
    found = []
    for name in wanted:
        try:
            here, resumed = run(name, arguments.device), run(name, arguments.device, 3)
            there = run(name, "cpu")
        except (ImportError, OptionError) as error:
            print(f"{name}: skipped ({error})")
            continue
        gaps = [relative(one, other) for one, other in zip(here, there, strict=True)]
        gap = max(gaps) if arguments.device != "cpu" else NOT_MEASURED
        same = all(torch.equal(a, b) for a, b in zip(here, resumed, strict=True))
        found.append({"method": name, "gap to the CPU": gap, "resume": same})
    return found


def run(name: str, device: str, resume_at: int | None = None) -> list[torch.Tensor]:
    """Factors after six steps on fixed gradients, on the CPU."""
    pairs = copied(make_pairs("sdxl", 4, torch.device("cpu"), every=400))
    names = named(pairs)
    owned = [
        (key, torch.nn.Parameter(factor.detach().to(device))) for key, factor in names
    ]
    optimizer = create_optimizer(name, owned)
    for step in range(6):
        if step == resume_at:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = create_optimizer(name, owned)
            optimizer.load_state_dict(saved)
        for (_, parameter), (_, factor) in zip(owned, names, strict=True):
            assert factor.grad is not None
            parameter.grad = (1.0 + step) * factor.grad.to(device)
        optimizer.step()
    return [parameter.detach().cpu() for _, parameter in owned]


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of a difference over the norm."""
    return float((one - other).norm() / other.norm().clamp_min(1e-30))


def markdown(record: Row) -> str:
    """Tables for the documentation."""
    about = ", ".join(f"{k} {v}" for k, v in record["machine"].items() if v)
    about += f"; one layer in {record['arguments']['every']}"
    parts = [f"Measured on: {about}. Columns headed computed are not measured."]
    if record["note"]:
        parts = [f"**Nothing was measured**: {record['note']}", f"Machine: {about}."]
    for key, caption in TABLES.items():
        if record[key]:
            parts += [caption, table(record[key])]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: Sequence[Row]) -> str:
    """One Markdown table."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = [head, ["---"] * len(head)]
    lines += [[shown(row[key]) for key in head] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: Any) -> str:
    """A cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
