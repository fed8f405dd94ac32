"""Devices for parallel jobs."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from .._exceptions import ConfigError
from .job import Job

__all__ = ["THREADS", "cores", "environment_of", "free_device", "parse_slots"]

# torch, MKL and OpenBLAS all follow it.
THREADS = "OMP_NUM_THREADS"
_DEVICE = re.compile(r"\d{1,3}|cpu|mps|(cuda|xpu)(:\d{1,3})?")


def parse_slots(jobs: int | None, devices: str | None) -> list[str]:
    """Parse the number of parallel jobs and the list of devices.

    The device "" is the device of the configuration.

    >>> from stiefel_lora.jobs import parse_slots
    >>> parse_slots(2, None), parse_slots(None, "0,1")
    (['', ''], ['0', '1'])

    Raises:
        ConfigError: If a device is unknown, or there are more jobs than devices.
    """
    if devices is None:
        count = 1 if jobs is None else jobs
        if count < 1:
            raise ConfigError(f"--jobs: must be at least 1, but got {count}.")
        return [""] * count
    names = [name.strip() for name in devices.split(",")]
    for name in names:
        if not _DEVICE.fullmatch(name):
            raise ConfigError(
                f"--devices: {devices!r} is not a list of devices. Use GPU numbers "
                "such as 0,1, or names such as cpu, mps or xpu:0."
            )
        if names.count(name) > 1 and name != "cpu":
            raise ConfigError(
                f"--devices: {devices!r} contains {name} twice. Each device runs "
                "one job at a time."
            )
    if jobs is not None and not 1 <= jobs <= len(names):
        raise ConfigError(
            f"--jobs: must be at most the number of --devices ({len(names)}), but "
            f"got {jobs}. Each device runs one job at a time."
        )
    return names[: jobs or len(names)]


def free_device(slots: Iterable[str], running: Iterable[Job]) -> str | None:
    """Return a slot without a running job, or None if all are in use."""
    free = Counter(slots)
    for job in running:
        # A job of an earlier runner may use a device that is not in this list.
        held = job.device if free[job.device] > 0 else ""
        free[held] -= 1
    return next((device for device, count in free.items() if count > 0), None)


def environment_of(
    device: str, slots: int = 1, given: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return environment variables of the process of a job.

    They select its GPU, and its share of the CPU cores if several jobs run at a time.
    Otherwise, each job would start a thread for every core, and the threads of all jobs
    would wait for each other.

    Args:
        device: device of the job.
        slots: number of jobs that run at a time.
        given: environment of this process. A number of threads in it is kept.
    """
    chosen = {"CUDA_VISIBLE_DEVICES": device} if device.isdecimal() else {}
    if slots > 1 and THREADS not in given:
        chosen[THREADS] = str(max(1, cores() // slots))
    return chosen


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
