"""LoRA file tools beside sd-scripts, peft and ai-toolkit on the same files.

    python benchmarks/lora_files.py --model sdxl --rank 64 --every 10
    python benchmarks/lora_files.py --errors

The first makes three random files of a model's shapes and prints seconds of processor
time, peak memory above the process after its imports, and the relative error, for
inspect, resize and merge; the second prints how far merges of other tools are from the
weighted sum, on two small files. Other tools run from checkouts that environment
variables name: SD_SCRIPTS (with its environment in .venv) and AI_TOOLKIT. peft runs as
installed. Each measurement is a process of its own, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors.torch
import torch
from layer_shapes import SHAPES

from stiefel_lora.files import (
    LoraFile,
    Part,
    Target,
    inspect_lora,
    merge_lora,
    open_lora,
    resize_lora,
)
from stiefel_lora.files.keys_flux import FLUX
from stiefel_lora.files.keys_sdxl import SDXL
from stiefel_lora.files.tools.differences import compared
from stiefel_lora.files.tools.merging import plan_merge

WEIGHTS = (0.5, 0.5, 0.5)
HOSTS = Path(__file__).parents[1] / "tests" / "hosts"
# sd-scripts imports torchvision, which need not fit the torch of its environment.
_START = """
import runpy, sys
try:
    import loadable_torchvision
except ImportError:
    pass
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """Measure, or print the table of errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=SHAPES, default="sdxl")
    parser.add_argument("--rank", type=int, nargs="+", default=[64])
    parser.add_argument("--new-rank", type=int, default=16)
    parser.add_argument("--every", type=int, default=1, help="one layer in so many")
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--ours", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        run_ours(*arguments.ours)
    elif arguments.errors:
        errors()
    else:
        for rank in arguments.rank:
            measure(arguments.model, rank, arguments.new_rank, arguments.every)


def make_file(path: Path, model: str, rank: int, every: int, seed: int) -> int:
    """A random kohya-style file in float16; returns its number of layers."""
    generator = torch.Generator().manual_seed(seed)
    names = iter(_stems(model))
    tensors = {}
    for (outputs, inputs), count in SHAPES[model].items():
        for _ in range(max(1, count // every)):
            stem = next(names)
            up = torch.randn(outputs, rank, generator=generator)
            down = torch.randn(rank, inputs, generator=generator)
            # A spectrum that falls, as trained ones do.
            fall = torch.arange(1, rank + 1) ** -0.7
            tensors[f"{stem}.lora_up.weight"] = (up * fall * 0.05).half()
            tensors[f"{stem}.lora_down.weight"] = (down * 0.05).half()
            tensors[f"{stem}.alpha"] = torch.tensor(rank / 2)
    notes = {"ss_network_dim": str(rank), "ss_network_alpha": str(rank / 2)}
    notes["ss_network_module"] = "networks.lora"
    notes["ss_base_model_version"] = "sdxl_base_v1-0" if model == "sdxl" else "flux1"
    safetensors.torch.save_file(tensors, path, notes)
    return len(tensors) // 3


def _stems(model: str) -> Iterator[str]:
    names = (FLUX if model == "flux" else SDXL).kohya_names()
    marks = ("_attn", "_ff_", "_mlp_", "linear")
    for stem in names.values():
        if stem.startswith("lora_unet_") and any(mark in stem for mark in marks):
            yield stem


def measure(model: str, rank: int, new_rank: int, every: int) -> None:
    """One line for each tool and verb."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{seed}.safetensors" for seed in range(len(WEIGHTS))]
        for seed, path in enumerate(files):
            layers = make_file(path, model, rank, every, seed)
        size = files[0].stat().st_size / 1e6
        print(f"{model}, rank {rank}, {layers} layers, {size:.0f} MB a file")
        out = folder / "out.safetensors"
        first = str(files[0])
        rows = {
            "inspect, ours": (ours("inspect", first), None),
            "resize, ours": (ours("resize", first, out, new_rank), "resize"),
            "merge of three, ours": (ours("merge", *files, out), "merge"),
        }
        checkout = os.environ.get("SD_SCRIPTS")
        if checkout:
            options = ["--model", first, "--save_to", out, "--new_rank", new_rank]
            options += ["--device", "cpu", "--save_precision", "fp16"]
            rows["resize, sd-scripts"] = (
                sd_scripts("resize_lora", *options),
                "resize",
            )
            options = ["--models", *files, "--ratios", *WEIGHTS, "--save_to", out]
            options += ["--device", "cpu", "--save_precision", "fp16"]
            options += ["--new_rank", len(WEIGHTS) * rank]
            rows["merge of three, sd-scripts svd_merge_lora"] = (
                sd_scripts("svd_merge_lora", *options),
                "merge",
            )
        for label, (command, verb) in rows.items():
            out.unlink(missing_ok=True)
            seconds, peak, note = timed(command)
            error = "" if verb is None or note else error_of(verb, files, out)
            print(f"  {label}: {seconds:.1f} s, {peak:.0f} MB{error}{note}", flush=True)


def ours(*arguments: object) -> list[str]:
    """This script again, for one verb."""
    return [sys.executable, __file__, "--ours", *map(str, arguments)]


def run_ours(verb: str, *arguments: str) -> None:
    """One verb in this process; prints peak memory above the start, in MB."""
    torch.set_num_threads(1)
    began, before = time.process_time(), _peak()
    if verb == "inspect":
        inspect_lora(open_lora(arguments[0]))
    elif verb == "resize":
        path, output, rank = arguments
        resize_lora(open_lora(path), output, Target(rank=int(rank)), overwrite=True)
    else:
        *paths, output = arguments
        files = [open_lora(path) for path in paths]
        parts = [Part(f, w) for f, w in zip(files, WEIGHTS, strict=True)]
        merge_lora(parts, output, overwrite=True)
    print(time.process_time() - began, _peak() - before)


def sd_scripts(script: str, *options: object) -> list[str]:
    """A command of the checkout, in its own environment."""
    root = Path(os.environ["SD_SCRIPTS"])
    python = root / ".venv/bin/python"
    started = python if python.exists() else sys.executable
    path = str(root / f"networks/{script}.py")
    return [str(started), "-c", _START, path, *map(str, options)]


def timed(command: list[str]) -> tuple[float, float, str]:
    """Processor seconds, MB and a note of a command that runs alone."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    root = os.environ.get("SD_SCRIPTS", ".")
    environment["PYTHONPATH"] = os.pathsep.join([root, f"{root}/networks", str(HOSTS)])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return 0.0, 0.0, f"  failed: {done.stderr.strip().splitlines()[-1]}"
    if "--ours" in command:
        seconds, peak = map(float, done.stdout.split()[-2:])
        return seconds, peak, ""
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, after.ru_maxrss / 1024, ""


def _peak() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def error_of(verb: str, files: list[Path], out: Path) -> str:
    """Relative error of a result, and its rank."""
    weights = WEIGHTS if verb == "merge" else (1.0,)
    parts = [Part(open_lora(p), w) for p, w in zip(files, weights, strict=False)]
    found = open_lora(out)
    error = relative_error(found, parts)
    rank = max(layer.stored_rank for layer in found.layers)
    return f", error {error:.6f}, rank {rank}"


def relative_error(found: LoraFile, parts: list[Part]) -> float:
    """Norm of found minus exact sum, relative to the latter."""
    exact, stored = plan_merge(parts), found.by_key
    lost = whole = 0.0
    for layer in exact.file.layers:
        apart, norm = compared(stored[layer.key].factors, exact.factors(layer))
        lost, whole = lost + apart**2, whole + norm**2
    return (lost / whole) ** 0.5


def errors() -> None:
    """Print the relative error of merges by other tools on two rank-4 files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kohya = [folder / f"{n}.safetensors" for n in "ab"]
        for seed, path in enumerate(kohya):
            _small(path, seed, "lora_unet_input_blocks_4_1_proj_in", kohya=True)
        peft = [folder / f"peft_{n}.safetensors" for n in "ab"]
        for seed, path in enumerate(peft):
            _small(path, seed, "unet.down_blocks.1.attentions.0.proj_in", kohya=False)
        print("relative error of the merged update, weights 1, 1 and .5, .5")
        for label, merge in _merges(kohya, peft, folder).items():
            found = [merge(weight) for weight in (1.0, 0.5)]
            print(f"  {label}: {'  '.join(found)}", flush=True)


def _small(path: Path, seed: int, stem: str, *, kohya: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(96, 4, generator=generator)
    down = torch.randn(4, 64, generator=generator)
    ends = ("lora_up", "lora_down") if kohya else ("lora_B", "lora_A")
    tensors = {f"{stem}.{ends[0]}.weight": up, f"{stem}.{ends[1]}.weight": down}
    if kohya:
        tensors[f"{stem}.alpha"] = torch.tensor(4.0)
    safetensors.torch.save_file(tensors, path, {"format": "pt"})


def _merges(
    kohya: list[Path], peft: list[Path], folder: Path
) -> dict[str, Callable[[float], str]]:
    out = folder / "out.safetensors"

    def by_command(
        files: list[Path], command: Callable[[float], list[str]]
    ) -> Callable[[float], str]:
        def merge(weight: float) -> str:
            out.unlink(missing_ok=True)
            _, _, note = timed(command(weight))
            if note:
                return note.strip()
            parts = [Part(open_lora(path), weight) for path in files]
            return f"{relative_error(open_lora(out), parts):.3f}"

        return merge

    def ours_of(weight: float) -> str:
        parts = [Part(open_lora(path), weight) for path in kohya]
        saved = merge_lora(parts, out, overwrite=True).saved
        return f"{relative_error(saved.file, parts):.3f}"

    found: dict[str, Callable[[float], str]] = {"stiefel-lora": ours_of}
    if os.environ.get("SD_SCRIPTS"):

        def script(name: str, *more: object) -> Callable[[float], list[str]]:
            return lambda weight: sd_scripts(
                name,
                *("--models", *kohya, "--ratios", weight, weight, "--save_to", out),
                *("--save_precision", "float", *more),
            )

        found["sd-scripts sdxl_merge_lora"] = by_command(
            kohya, script("sdxl_merge_lora", "--precision", "float")
        )
        found["sd-scripts sdxl_merge_lora --concat"] = by_command(
            kohya, script("sdxl_merge_lora", "--precision", "float", "--concat")
        )
        found["sd-scripts svd_merge_lora, rank 8"] = by_command(
            kohya, script("svd_merge_lora", "--new_rank", 8, "--device", "cpu")
        )
    root = os.environ.get("AI_TOOLKIT")
    if root:

        def toolkit(weight: float) -> list[str]:
            entries = [{"path": str(path), "strength": weight} for path in peft]
            script = str(Path(root) / "ui_scripts/merge_loras.py")
            options = ["--loras", json.dumps(entries), "--output", str(out)]
            return [sys.executable, script, *options, "--save_dtype", "float32"]

        found["ai-toolkit merge_loras"] = by_command(peft, toolkit)
    kinds = ("linear", "cat", "svd", "ties", "dare_linear", "magnitude_prune")
    for kind in kinds:
        found[f"peft {kind}"] = lambda weight, kind=kind: by_peft(peft, weight, kind)
    return found


def by_peft(files: list[Path], weight: float, kind: str) -> str:
    """Error of ``add_weighted_adapter`` of the installed peft."""
    try:
        import peft
    except ImportError:
        return "not installed"
    layers = [open_lora(path).layers[0].factors for path in files]
    model = torch.nn.Module()
    model.add_module("proj_in", torch.nn.Linear(64, 96, bias=False))
    config = {"r": 4, "lora_alpha": 4, "target_modules": ["proj_in"]}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**config), "a")
    wrapped.add_adapter("b", peft.LoraConfig(**config))
    module = wrapped.base_model.model.proj_in
    for name, factors in zip("ab", layers, strict=True):
        module.lora_A[name].weight.data.copy_(factors.down)
        module.lora_B[name].weight.data.copy_(factors.up)
    options = {"density": 1.0} if kind in ("ties", "dare_linear") else {}
    options |= {"density": 1.0} if kind == "magnitude_prune" else {}
    options |= {"svd_rank": 8} if kind == "svd" else {}
    wrapped.add_weighted_adapter(
        ["a", "b"], [weight] * 2, "merged", combination_type=kind, **options
    )
    up, down = (getattr(module, x)["merged"].weight for x in ("lora_B", "lora_A"))
    update = module.scaling["merged"] * up @ down
    exact = sum(weight * factors.up @ factors.down for factors in layers)
    return f"{float((update - exact).norm() / exact.norm()):.3f}"


if __name__ == "__main__":
    main()
