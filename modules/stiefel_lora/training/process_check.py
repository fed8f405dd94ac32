"""Comparison of the factors and batches of the processes of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .._exceptions import TrainingError
from ..data.order import Visit
from .distributed import Processes
from .logging.sinks import MetricSink

__all__ = ["ProcessCheck"]

_DIGITS = 16


class ProcessCheck:
    """Check that all processes have the same factors, and log hashes of their batches.

    Args:
        every: interval in optimizer steps.
        processes: processes of the training.
    """

    def __init__(self, every: int, processes: Processes) -> None:
        self._every = every
        self._processes = processes
        self._is_on = False
        self._hashes: list[str] = []

    def begin(self, step: int) -> None:
        """Begin the optimizer step that ends at ``step``."""
        self._is_on, self._hashes = step % self._every == 0, []

    def see(self, visits: Sequence[Visit], noise: Tensor, timesteps: Tensor) -> None:
        """Compute a hash of every image of a batch, with its noise and timestep."""
        if not self._is_on:
            return
        for visit, drawn, timestep in zip(visits, noise, timesteps, strict=True):
            digest = hashlib.sha256(f"{tuple(visit)} {timestep.item()!r}".encode())
            digest.update(_bytes(drawn))
            self._hashes.append(digest.hexdigest()[:_DIGITS])

    def compare(
        self, step: int, factors: Mapping[str, Tensor], sink: MetricSink
    ) -> None:
        """Compare the factors after a step, and log the hashes of all processes.

        Raises:
            TrainingError: If the factors of a process differ.
        """
        if not self._is_on:
            return
        digest = hashlib.sha256()
        for tensor in factors.values():
            digest.update(_bytes(tensor))
        own = digest.hexdigest()[:_DIGITS], self._hashes
        found = self._processes.gathered(own)
        values = {"factors": own[0], "batches": [hashes for _, hashes in found]}
        sink.event("processes", step, values)
        first = found[0][0]
        wrong = [index for index, (other, _) in enumerate(found) if other != first]
        if wrong:
            names = ", ".join(map(str, wrong))
            raise TrainingError(
                f"Step {step}: the LoRA of process {names} differs from that of "
                "process 0. GPUs of different kinds may round differently. Use equal "
                "GPUs, and resume from the last checkpoint."
            )


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
