"""Load a full-size SDXL checkpoint of random float16 numbers and measure the memory.

    python benchmarks/load_full_size.py --file /tmp/sdxl.safetensors --dtype bfloat16

Writes the file (6.9 GB) where it is not there yet, then checks it and loads all four
models. Anonymous memory is what a process allocates; pages of the file that it has
mapped can be dropped by the system at any time.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.single_file import SDXL
from stiefel_lora.checkpoints.base_model import known_settings
from stiefel_lora.checkpoints.from_pretrained import build
from stiefel_lora.config import parse_config
from stiefel_lora.families import check_model
from stiefel_lora.families.sdxl import Sdxl


def names_and_shapes() -> dict[str, Tensor]:
    found = {}
    for part, (prefix, convert) in SDXL.items():
        with torch.device("meta"):
            model = build(
                Sdxl.facts.files[part].loader, known_settings(Sdxl.facts, part)
            )
            parameters = dict(model.named_parameters())
            for name, tensor in convert(parameters).items():
                found[prefix + name] = tensor
    return found


def write_random(path: Path) -> None:
    tensors = names_and_shapes()
    table, end = {}, 0
    for name, tensor in tensors.items():
        places = [end, end + 2 * tensor.numel()]
        shape = list(tensor.shape)
        table[name] = {"dtype": "F16", "shape": shape, "data_offsets": places}
        end = places[1]
    head = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for tensor in tensors.values():
            numbers = torch.rand(tensor.numel()).mul_(0.02).half()
            file.write(numbers.numpy().data)


def memory(key: str) -> float:
    """Gigabytes of this process, by a key of ``/proc/self/status`` (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(key + ":")]
    return int(line.split()[1]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--dtype", default="float16")
    options = parser.parse_args()
    if not options.file.exists():
        write_random(options.file)
        print(f"written: {options.file.stat().st_size / 1e9:.2f} GB; run again")
        return
    before = memory("RssAnon")
    start = time.perf_counter()
    source = check_model(parse_config({"base_model_name": str(options.file)}))
    assert source is not None
    print(f"checked in {time.perf_counter() - start:.1f} s")
    kept, peak = [], 0.0
    for part, facts in Sdxl.facts.files.items():
        kept.append(source.load(part, facts.loader, getattr(torch, options.dtype)))
        peak = max(peak, memory("RssAnon") - before)
    count = sum(p.numel() for model in kept for p in model.parameters())
    print(f"loaded {count:,} numbers in {time.perf_counter() - start:.1f} s")
    print(f"anonymous memory after the parts, largest: {peak:.2f} GB")
    print(f"peak of all memory with mapped pages: {memory('VmHWM'):.2f} GB")


if __name__ == "__main__":
    main()
