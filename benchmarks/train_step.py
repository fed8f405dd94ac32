"""Our training step against that of diffusers' DreamBooth script, side by side.

    python scripts/setup_host.py diffusers CHECKOUT
    python benchmarks/train_step.py --diffusers CHECKOUT --family sdxl --rounds 5

Same base model (the demo's), images, caption, layers, rank, AdamW, batch and
precision; the two trainers take turns, a process each, so that a busy machine slows
both alike. A step is the time between the ends of two optimizer steps: data, forward
and backward pass, update, logging. Processor time is that of the process, which other
programs on the machine do not lengthen. ``--start`` measures our own start instead:
from the command to the end of the first step of the demo, with and without a cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from script_base import script_base

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "modules" / "stiefel_lora" / "demo"
TIMER = ROOT / "benchmarks" / "step_timer.py"
IMAGES, RANK, BATCH, RESOLUTION = 32, 16, 8, 64
TOKENS = 32
"""Of T5, as in the demo's presets."""
CAPTION = "an emoji"
# The first steps warm up.
SKIPPED = 4
# What the script trains: the attention of SDXL and FLUX, and the feed-forward layers of
# the double blocks of FLUX.
OURS: dict[str, dict[str, Any]] = {
    "sdxl": {"layer_filter": ["attn"]},
    "flux": {
        "layer_filter": [
            "transformer_blocks.*.attn.*",
            "transformer_blocks.*.ff*",
            "single_transformer_blocks.*.attn.*",
        ],
        "text_encoder_2_sequence_length": TOKENS,
    },
}
MIXED = {"float32": "no", "bfloat16": "bf16"}


@dataclasses.dataclass(frozen=True)
class Run:
    """Measurements of one process."""

    wall: float
    """Median seconds of a step."""

    processor: float
    """Median processor seconds of a step."""

    without_encoders: float
    """The same, less what encoders take in each step."""

    resident: float
    """Largest resident memory up to the last step, bytes."""

    first: float
    """Seconds from the start of the process to the end of the first step."""

    trained: int
    """Numbers that the optimizer moves."""


def main() -> None:
    """Measure and print a table."""
    arguments = _parse()
    print(_where())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if arguments.start:
            _print_start(folder, arguments.rounds)
        else:
            _compare(arguments, folder)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--diffusers", type=Path, help="checkout of diffusers")
    parser.add_argument("--python", help="of the checkout; its .venv, or this one")
    parser.add_argument("--family", choices=OURS, default="sdxl")
    parser.add_argument("--model", type=Path, help="in place of the demo's base model")
    parser.add_argument("--dtype", choices=MIXED, default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument(
        "--optimizers", nargs="+", default=["adamw", "stiefel_lora"], help="of ours"
    )
    parser.add_argument("--start", action="store_true", help="measure our own start")
    arguments = parser.parse_args()
    if not arguments.start and arguments.diffusers is None:
        parser.error("--diffusers CHECKOUT is needed")
    return arguments


def _compare(arguments: argparse.Namespace, folder: Path) -> None:
    images = _images(folder)
    model = script_base(arguments.model or DEMO / arguments.family, folder)
    trainers = {"diffusers' script": _script(arguments, model, images)}
    for optimizer in arguments.optimizers:
        command = _ours(arguments, model, images, folder, optimizer)
        trainers[f"stiefel-lora, {optimizer}"] = command
    runs: dict[str, list[Run]] = {name: [] for name in trainers}
    for number in range(arguments.rounds):
        for name, command in trainers.items():
            runs[name].append(_run(command, folder / f"{number}", name[0] == "d"))
            print(number, name, runs[name][-1], flush=True)
    trained = {run.trained for found in runs.values() for run in found}
    if len(trained) > 1:
        raise SystemExit(f"Not the same is trained: {sorted(trained)} numbers.")
    print(_table(runs, arguments))


def _script(arguments: argparse.Namespace, model: Path, images: Path) -> list[str]:
    root = arguments.diffusers.resolve()
    own = root / ".venv" / "bin" / "python"
    python = arguments.python or str(own if own.is_file() else sys.executable)
    title = f"train_dreambooth_lora_{arguments.family}.py"
    settings = {
        "pretrained_model_name_or_path": model,
        "instance_data_dir": images / "bare",
        "instance_prompt": CAPTION,
        "output_dir": "OUTPUT",
        "resolution": RESOLUTION,
        "train_batch_size": BATCH,
        "max_train_steps": arguments.steps,
        "learning_rate": 1e-4,
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "adam_weight_decay": 0.01,
        "rank": RANK,
        "seed": 0,
        "checkpointing_steps": 10**6,
        "report_to": "tensorboard",
        "mixed_precision": MIXED[arguments.dtype],
    }
    command = [python, str(TIMER), "RECORD"]
    command.append(str(root / "examples" / "dreambooth" / title))
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    if arguments.family == "flux":
        command += ["--cache_latents", "--lora_alpha", str(RANK)]
        command += ["--max_sequence_length", str(TOKENS)]
    return command


def _ours(
    arguments: argparse.Namespace,
    model: Path,
    images: Path,
    folder: Path,
    optimizer: str,
) -> list[str]:
    options = {"weight_decay": 0.01} if optimizer == "adamw" else {}
    config = {
        "model_type": arguments.family,
        "base_model_name": str(model),
        "concepts": [{"path": str(images / "captioned")}],
        "resolution": RESOLUTION,
        "batch_size": BATCH,
        "steps": arguments.steps,
        "optimizer": {"name": optimizer, **options},
        "lora_rank": RANK,
        "train_dtype": arguments.dtype,
        "weight_dtype": arguments.dtype,
        "device": "cpu",
        "rank_every": 0,
        **OURS[arguments.family],
    }
    path = folder / f"{optimizer}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, str(TIMER), "RECORD", "-m", "stiefel_lora", "train"]
    return [*command, str(path), "--set", "output_dir=OUTPUT"]


def _images(folder: Path) -> Path:
    """The first images of the demo, with one caption for all, and without."""
    captioned, bare = folder / "pictures/captioned", folder / "pictures/bare"
    captioned.mkdir(parents=True)
    bare.mkdir()
    for path in sorted((DEMO / "pictures" / "train").glob("*.png"))[:IMAGES]:
        shutil.copy(path, captioned)
        shutil.copy(path, bare)
        (captioned / path.name).with_suffix(".txt").write_text(CAPTION, "utf-8")
    return folder / "pictures"


def _run(command: Sequence[str], folder: Path, host: bool) -> Run:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    record, output = folder / "steps.jsonl", folder / "output"
    places = {"RECORD": str(record), "output_dir=OUTPUT": f"output_dir={output}"}
    places["OUTPUT"] = str(output)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "MALLOC_ARENA_MAX": "1",
        "BENCHMARK_BEGAN": str(time.time()),
        "BENCHMARK_HOST": "1" if host else "",
    }
    done = subprocess.run(
        [places.get(word, word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return _summary(record)


def _summary(record: Path) -> Run:
    lines = [json.loads(line) for line in record.read_text("utf-8").splitlines()]
    kept = lines[SKIPPED:] if len(lines) > SKIPPED + 1 else lines

    def step(what: str) -> list[float]:
        return [b[what] - a[what] for a, b in itertools.pairwise(kept)]

    walls, processor = step("wall") or [0.0], step("processor") or [0.0]
    encoder = step("encoder") or [0.0]
    bare = [a - b for a, b in zip(processor, encoder, strict=True)]
    return Run(
        statistics.median(walls),
        statistics.median(processor),
        statistics.median(bare),
        lines[-1]["resident"],
        lines[0]["wall"],
        lines[0]["trained"],
    )


def _table(runs: dict[str, list[Run]], arguments: argparse.Namespace) -> str:
    fields = {
        "wall": BATCH,
        "processor": BATCH,
        "without_encoders": BATCH,
        "resident": 0,
    }
    lines = [
        f"{arguments.family}, {arguments.dtype}, batch {BATCH}, rank {RANK}, "
        f"{arguments.rounds} rounds of {arguments.steps} steps",
        "| | images/s | images/processor second | the same without encoders | "
        "resident MB |",
        "|---|---|---|---|---|",
    ]
    first = next(iter(runs.values()))
    for name, found in runs.items():
        cells = []
        for field, count in fields.items():
            values = [_figure(run, field, count) for run in found]
            ratio = statistics.median(
                a / b
                for a, b in zip(
                    values, [_figure(run, field, count) for run in first], strict=True
                )
            )
            cells.append(
                f"{statistics.median(values):.4g} ({min(values):.4g} .. "
                f"{max(values):.4g}), {ratio:.3f}x"
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(run: Run, field: str, count: int) -> float:
    value = getattr(run, field)
    return count / value if count else value / 1e6


def _print_start(folder: Path, rounds: int) -> None:
    command = [sys.executable, str(TIMER), "RECORD", "-m", "stiefel_lora", "train"]
    command += ["demo_stiefel_lora", "--set", "output_dir=OUTPUT", "--set", "steps=1"]
    bare = ["samples=[]", "sample_every=0", "validate_every=0"]
    bare = [word for setting in bare for word in ("--set", setting)]
    for title, more in {"": bare, ", samples and validation loss first": []}.items():
        for cached in (False, True):
            firsts = []
            for number in range(rounds):
                cache = folder / (f"shared{len(more)}" if cached else f"own-{number}")
                where = ["--set", f"cache_dir={cache}"]
                if cached and not cache.exists():
                    _run([*command, *more, *where], folder / "warm", False)
                run = _run([*command, *more, *where], folder / f"{number}", False)
                firsts.append(run.first)
                shutil.rmtree(folder / f"own-{number}", ignore_errors=True)
            print(
                f"{'with' if cached else 'without'} a cache{title}: "
                f"{statistics.median(firsts):.1f} s ({min(firsts):.1f} .. "
                f"{max(firsts):.1f}) to the end of the first step",
                flush=True,
            )


def _where() -> str:
    from importlib.metadata import version

    names = ("torch", "diffusers", "accelerate", "peft", "transformers")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"{versions}; {datetime.date.today().isoformat()}"
    )


if __name__ == "__main__":
    main()
