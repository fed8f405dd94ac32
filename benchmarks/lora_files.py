"""LoRA file tools beside sd-scripts, peft and ai-toolkit on the same files.

    python benchmarks/lora_files.py --model sdxl flux --rank 16 64 128
    python benchmarks/lora_files.py --errors

The first makes three random files of a model's shapes and prints, as a table, seconds
of processor time, peak memory above the process after its imports, and the relative
error, for inspect, resize and merge. Other tools take dense SVDs, so that they run on
files with one layer in --others-every, and this package again beside them. The second
prints how far merges of other tools are from the weighted sum, on two small files.
Other tools run from checkouts that environment variables name: SD_SCRIPTS (with its
environment in .venv) and AI_TOOLKIT. peft runs as installed, on files in its own
format. Each measurement is a process of its own, with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors.torch
import torch
from layer_shapes import SHAPES
from peak_memory import peak_memory

from stiefel_lora.files import (
    LoraFile,
    Part,
    Target,
    convert_lora,
    inspect_lora,
    merge_lora,
    open_lora,
    resize_lora,
)
from stiefel_lora.files.keys_flux import FLUX
from stiefel_lora.files.keys_sdxl import SDXL
from stiefel_lora.files.tools.differences import compared
from stiefel_lora.files.tools.merging import plan_merge
from stiefel_lora.files.tools.respell import in_layout_of, is_fused

_BLOCKS = {"double": 19, "single": 38}
WEIGHTS = (0.5, 0.5, 0.5)
# Layers of FLUX.1 in kohya-style files -> outputs, inputs.
_FUSED = {
    "_attn_qkv": (9216, 3072),
    "_attn_proj": (3072, 3072),
    "_mlp_0": (12288, 3072),
    "_mlp_2": (3072, 12288),
    "_linear1": (21504, 3072),
    "_linear2": (3072, 15360),
}
HOSTS = Path(__file__).parents[1] / "tests" / "hosts"
# sd-scripts imports torchvision, which need not fit the torch of its environment.
_START = """
import atexit, runpy, sys
sys.path.append({benchmarks!r})
from peak_memory import peak_memory
atexit.register(lambda: print(0, peak_memory()))
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
    parser.add_argument("--model", choices=SHAPES, nargs="+", default=["sdxl"])
    parser.add_argument("--rank", type=int, nargs="+", default=[64])
    parser.add_argument("--new-rank", type=int, default=16)
    parser.add_argument("--every", type=int, default=1, help="one layer in so many")
    parser.add_argument("--others-every", type=int, default=20, help="for other tools")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_here(*arguments.run)
        return
    if arguments.errors:
        errors()
        return
    print("| files | work | tool | time | memory | beside the files | error |")
    print("|---|---|---|---|---|---|---|")
    for model in arguments.model:
        for rank in arguments.rank:
            sizes = model, rank, arguments.new_rank
            measure(*sizes, arguments.every, others=False)
            if not arguments.only_ours:
                measure(*sizes, arguments.others_every, others=True)


def make_file(path: Path, model: str, rank: int, every: int, seed: int) -> int:
    """A random kohya-style file in float16; returns its number of layers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for stem, outputs, inputs in _layers(model, every):
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


def _layers(model: str, every: int) -> Iterator[tuple[str, int, int]]:
    """Stem, outputs and inputs of one layer in ``every`` of each shape."""
    if model == "flux":
        kinds: dict[str, list[str]] = {}
        for stem in FLUX.kohya_names().values():
            found = re.match(r"lora_unet_(double|single)_blocks_(\d+)_", stem)
            kind = next((end for end in _FUSED if stem.endswith(end)), None)
            # The table of names has room for more blocks.
            if found and kind and int(found[2]) < _BLOCKS[found[1]]:
                kinds.setdefault(kind, []).append(stem)
        for kind, stems in kinds.items():
            for stem in stems[: max(1, len(stems) // every)]:
                yield stem, *_FUSED[kind]
        return
    marks = ("_attn", "_ff_")
    names = iter(
        stem
        for stem in SDXL.kohya_names().values()
        if stem.startswith("lora_unet_") and any(mark in stem for mark in marks)
    )
    for shape, count in SHAPES[model].items():
        for _ in range(max(1, count // every)):
            yield next(names), *shape


def measure(model: str, rank: int, new_rank: int, every: int, *, others: bool) -> None:
    """One row for each verb and tool."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{seed}.safetensors" for seed in range(len(WEIGHTS))]
        for seed, path in enumerate(files):
            layers = make_file(path, model, rank, every, seed)
        size = files[0].stat().st_size / 1e6
        title = f"{model.upper()}, rank {rank}, {layers} layers, {size:.0f} MB each"
        out = folder / "out.safetensors"
        commands = [
            ("inspect", "stiefel-lora", [here("inspect", files[0])], 1),
            *_resizes(files[0], out, new_rank, others=others),
            *_merges_of_three(files, out, rank, others=others),
        ]
        own: dict[str, float] = {}
        for verb, tool, (command, *imports), count in commands:
            out.unlink(missing_ok=True)
            seconds, peak, note = timed(command)
            for command in imports:
                before = timed(command)
                seconds, peak = seconds - before[0], peak - before[1]
            if note:
                print(f"| {title} | {verb} | {tool} | {note} | | | |", flush=True)
                continue
            error = "" if verb == "inspect" else error_of(verb, files, out)
            first = own.setdefault(verb, seconds)
            times = "" if tool == "stiefel-lora" else f", {seconds / first:.0f} x"
            held = count * size + (out.stat().st_size / 1e6 if out.exists() else 0)
            print(
                f"| {title} | {verb} | {tool} | {seconds:.1f} s{times} | {peak:.0f} MB "
                f"| {peak / held:.1f} x | {error} |",
                flush=True,
            )


_Rows = list[tuple[str, str, list[list[str]], int]]


def _resizes(path: Path, out: Path, rank: int, *, others: bool) -> _Rows:
    """Verb, tool, its command (and one of its imports alone), files that it reads."""
    rows = [("resize", "stiefel-lora", [here("resize", path, out, rank)], 1)]
    if not others:
        return rows
    if os.environ.get("SD_SCRIPTS"):
        options = ["--model", path, "--save_to", out, "--new_rank", rank]
        options += ["--device", "cpu", "--save_precision", "fp16"]
        commands = [
            sd_scripts("resize_lora", *options),
            sd_scripts("resize_lora", "-h"),
        ]
        rows.append(("resize", "sd-scripts `resize_lora`", commands, 1))
    # peft's svd takes two files or more.
    return rows


def _merges_of_three(files: list[Path], out: Path, rank: int, *, others: bool) -> _Rows:
    rows = [("merge", "stiefel-lora", [here("merge", *files, out)], 3)]
    if not others:
        return rows
    if os.environ.get("SD_SCRIPTS"):
        options = ["--models", *files, "--ratios", *WEIGHTS, "--save_to", out]
        options += ["--device", "cpu", "--save_precision", "fp16"]
        options += ["--new_rank", len(WEIGHTS) * rank]
        commands = [
            sd_scripts("svd_merge_lora", *options),
            sd_scripts("svd_merge_lora", "-h"),
        ]
        rows.append(("merge", "sd-scripts `svd_merge_lora`", commands, 3))
    for kind in ("cat", "svd"):
        commands = [here("peft", kind, *files, out, len(WEIGHTS) * rank)]
        rows.append(("merge", f"peft `{kind}`", commands, 3))
    return rows


def here(*arguments: object) -> list[str]:
    """This script again, for one verb."""
    return [sys.executable, __file__, "--run", *map(str, arguments)]


def run_here(verb: str, *arguments: str) -> None:
    """One verb in this process; prints time and peak memory above the start, in MB."""
    torch.set_num_threads(1)
    if verb == "peft":
        began, before = run_peft(*arguments)
        print(time.process_time() - began, peak_memory() - before)
        return
    began, before = time.process_time(), peak_memory()
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
    print(time.process_time() - began, peak_memory() - before)


def run_peft(kind: str, *arguments: str) -> tuple[float, float]:
    """``add_weighted_adapter`` of peft at full speed; time and memory at its start.

    Its files are made from the given ones, by ``convert_lora``, before that.
    """
    import peft

    *paths, output, rank = arguments
    own = [f"{path}.peft" for path in paths]
    for path, to in zip(paths, own, strict=True):
        convert_lora(open_lora(path), to, "PEFT", overwrite=True)
    apart = open_lora(own[0]).layers
    sizes = {x.stem: (x.factors.up.shape[0], x.factors.down.shape[1]) for x in apart}
    given_rank = apart[0].factors.rank
    del apart
    began, before = time.process_time(), peak_memory()
    model = torch.nn.Module()
    for stem, (outputs, inputs) in sizes.items():
        _add_layer(model, stem, outputs, inputs)
    config = peft.LoraConfig(
        r=given_rank, lora_alpha=given_rank, target_modules=list(sizes)
    )
    names = [f"file_{place}" for place in range(len(own))]
    wrapped = peft.PeftModel(model, config, names[0], low_cpu_mem_usage=True)
    for name, path in zip(names, own, strict=True):
        if name != names[0]:
            wrapped.add_adapter(name, config, low_cpu_mem_usage=True)
        tensors = safetensors.torch.load_file(path)
        tensors = {f"base_model.model.{key}": t for key, t in tensors.items()}
        peft.set_peft_model_state_dict(wrapped, tensors, name, low_cpu_mem_usage=True)
    weights = list(WEIGHTS)
    options = {"svd_rank": int(rank)} if kind == "svd" else {}
    wrapped.add_weighted_adapter(
        names, weights, "merged", combination_type=kind, **options
    )
    found = peft.get_peft_model_state_dict(wrapped, adapter_name="merged")
    scale = next(
        m.scaling["merged"]
        for m in wrapped.modules()
        if "merged" in getattr(m, "scaling", {})
    )
    assert scale == 1.0
    plain = {
        key.removeprefix("base_model.model."): t.half().contiguous()
        for key, t in found.items()
    }
    safetensors.torch.save_file(plain, output)
    return began, before


def _add_layer(model: torch.nn.Module, path: str, outputs: int, inputs: int) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        if not hasattr(model, name):
            model.add_module(name, torch.nn.Module())
        model = getattr(model, name)
    with torch.device("meta"):
        layer = torch.nn.Linear(inputs, outputs, bias=False)
    # Weights of the model take no memory.
    empty = torch.zeros(1, 1).expand(outputs, inputs)
    layer.weight = torch.nn.Parameter(empty, requires_grad=False)
    model.add_module(leaf, layer)


def sd_scripts(script: str, *options: object) -> list[str]:
    """A command of the checkout, in its own environment."""
    root = Path(os.environ["SD_SCRIPTS"])
    python = root / ".venv/bin/python"
    started = python if python.exists() else sys.executable
    path = str(root / f"networks/{script}.py")
    start = _START.format(benchmarks=str(Path(__file__).parent))
    return [str(started), "-c", start, path, *map(str, options)]


def timed(command: list[str]) -> tuple[float, float, str]:
    """Processor seconds, MB and a note of a command that runs alone."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    root = os.environ.get("SD_SCRIPTS", ".")
    environment["PYTHONPATH"] = os.pathsep.join([root, f"{root}/networks", str(HOSTS)])
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = subprocess.Popen(
            command, stdout=output, stderr=errors, text=True, env=environment
        )
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if started.returncode:
            return 0.0, 0.0, f"failed: {errors.read().strip().splitlines()[-1]}"
        last = output.read().strip().rpartition("\n")[2]
    # ai-toolkit prints other texts at the end.
    measured = re.fullmatch(r"([\d.e+-]+) ([\d.e+-]+)", last)
    seconds, peak = map(float, measured.groups()) if measured else (0.0, math.nan)
    return seconds or usage.ru_utime + usage.ru_stime, peak, ""


def error_of(verb: str, files: list[Path], out: Path) -> str:
    """Relative error of a result, and its rank."""
    weights = WEIGHTS if verb == "merge" else (1.0,)
    parts = [Part(open_lora(p), w) for p, w in zip(files, weights, strict=False)]
    found = open_lora(out)
    error = relative_error(found, parts)
    rank = max(layer.stored_rank for layer in found.layers)
    return f"{error:.6f} at rank {rank}"


def relative_error(found: LoraFile, parts: list[Part]) -> float:
    """Norm of found minus exact sum, relative to the latter."""
    exact = plan_merge(parts)
    # peft's format has q, k and v of FLUX.1 apart.
    stored = in_layout_of(found, is_fused(parts[0].file)).by_key
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
