"""One of two processes that train as one; it imports what it needs alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
from catalogue_cases import NAMES, make
from lora_net import LoraNet, snapshot, task
from torch import nn

__all__ = ["STEPS", "train_in_two"]

STEPS = 3


def train_in_two(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        # If the other one dies; a busy machine needs long.
        timeout=timedelta(minutes=5),
    )
    inputs, targets = (part.chunk(2)[rank] for part in task())
    found = {}
    for name in NAMES:
        model = LoraNet()
        parallel = nn.parallel.DistributedDataParallel(model)
        # From the wrapped model: names begin with "module." there.
        optimizer = make(name, parallel)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (parallel(inputs) - targets).square().mean().backward()
            optimizer.step()
        found[name] = snapshot(model)
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
