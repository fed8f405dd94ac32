"""CPU cores and GPUs of each training on a cluster."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from .._exceptions import ConfigError
from .._wording import counted

__all__ = ["Share", "share_of", "uses_gpu"]

Resources = Mapping[str, float]
"""Numbers of a node by the names of Ray: ``CPU``, ``GPU``."""


@dataclasses.dataclass(frozen=True)
class Share:
    """Resources of each training."""

    cores: int
    gpus: int
    """GPUs of a training whose device is not the CPU: 0 or 1."""

    slots: int
    """Number of trainings that run at a time."""

    def text(self, device: str) -> str:
        """Describe the resources of a training with a device setting."""
        gpu = " and 1 GPU" if self.gpus and uses_gpu(device) else ""
        return counted(self.cores, "CPU core", "CPU cores") + gpu


def uses_gpu(device: str) -> bool:
    """Return whether a training with this device setting uses a GPU if there is one."""
    return device == "auto" or needs_gpu(device)


def needs_gpu(device: str) -> bool:
    """Return whether a training with this device setting requires a GPU."""
    return device.startswith(("cuda", "xpu"))


def share_of(
    nodes: Sequence[Resources],
    devices: Collection[str],
    jobs: int | None,
    cores: int | None,
) -> Share:
    """Divide the nodes of a cluster among trainings.

    A training uses one GPU if any node has one. Without GPUs, each node runs one
    training at a time, or more with ``jobs``. The cores of a node are divided by the
    number of its trainings.

    >>> share_of([{"CPU": 16, "GPU": 2}] * 3, ["auto"], None, None)
    Share(cores=8, gpus=1, slots=6)
    >>> share_of([{"CPU": 16}, {"CPU": 8}], ["auto"], 4, None)
    Share(cores=4, gpus=0, slots=4)

    Args:
        nodes: resources of each node.
        devices: device settings of the trainings.
        jobs: number of trainings at a time, or None for as many as possible.
        cores: CPU cores of each training, or None for the division above.

    Raises:
        ConfigError: If no node has the resources for a training.
    """
    gpus = int(any(map(uses_gpu, devices)) and any(_gpus(node) for node in nodes))
    missing = [device for device in devices if needs_gpu(device)]
    if missing and not gpus:
        raise ConfigError(
            f"device={missing[0]!r}: no node of the cluster has a GPU. Use another "
            "cluster, or set device=cpu."
        )
    usable = [node for node in nodes if _cpus(node) and (_gpus(node) or not gpus)]
    if cores is None and usable:
        each = math.ceil((jobs or len(usable)) / len(usable))
        numbers = [_cpus(node) // (_gpus(node) if gpus else each) for node in usable]
        cores = max(1, min(numbers))
    cores = cores or 1
    slots = sum(_places(node, cores, gpus) for node in usable)
    if not slots:
        found = max(map(_cpus, nodes), default=0)
        raise ConfigError(
            f"--cores: no node of the cluster has {counted(cores, 'core', 'cores')} "
            f"for a training. The largest has {found}."
        )
    return Share(cores, gpus, min(slots, jobs or slots))


def _cpus(node: Resources) -> int:
    return int(node.get("CPU", 0))


def _gpus(node: Resources) -> int:
    return int(node.get("GPU", 0))


def _places(node: Resources, cores: int, gpus: int) -> int:
    return min(_cpus(node) // cores, _gpus(node) if gpus else _cpus(node))
