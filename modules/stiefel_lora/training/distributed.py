"""Processes of a training, which share batches and take the same optimizer steps.

Each process has the whole model and optimizer. The processes draw the same numbers for
the whole batch, compute the gradient of their part of it, and average the gradients.
Only the main process writes files and prints messages.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._exceptions import ConfigError, InputError, StiefelLoraError, TrainingError
from .._share import WHOLE, Share
from ..config.process_count import check_process_count
from ..runs.progress import mute
from .backend import device_of

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["ALONE", "ProcessLost", "Processes", "join_processes"]

T = TypeVar("T")

# Processes wait for the main one while it encodes images or writes files.
_TIMEOUT = datetime.timedelta(hours=6)
# Time for which a failed process waits for the main one to print the same error.
_PATIENCE = 5.0


class ProcessLost(TrainingError):
    """Raised if another process of the training has ended.

    Attributes:
        saved: whether this process saved a checkpoint, so that it prints the message.
    """

    def __init__(self, message: str, *, saved: bool = False) -> None:
        super().__init__(message)
        self.saved = saved


class Processes:
    """Processes of a training. This class is also that of a single process.

    Args:
        share: position of this process among all processes.
        local: number of this process on its machine, which is that of its GPU.
        machine: number of processes on this machine.
        in_step: whether all processes must run the denoiser equally often, because each
            of them holds a part of its weights.
    """

    def __init__(
        self,
        share: Share = WHOLE,
        local: int | None = None,
        machine: int = 1,
        *,
        in_step: bool = False,
    ) -> None:
        self.share = share
        self.local = local
        self.in_step = in_step
        self._machine = machine

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.share.count

    @property
    def is_main(self) -> bool:
        """True for the process that writes files and prints messages."""
        return self.share.index == 0

    @property
    def is_alone(self) -> bool:
        """True if there is only one process."""
        return self.share.count == 1

    def average_gradients(
        self, parameters: Iterable[nn.Parameter], *values: Tensor
    ) -> None:
        """Replace gradients and other float32 tensors by their means over processes.

        Parameters without a gradient must be the same in all processes.

        Raises:
            ProcessLost: If another process has ended.
        """
        if self.is_alone:
            return
        found = [p.grad for p in parameters if p.grad is not None] + [*values]
        # One buffer: a reduction per factor would take longer to start than to finish.
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in found])
        if flat.device.type != "cpu":
            # A reduction on GPUs waits forever for a process that has ended.
            self.any_of(False)
        with _lost_processes():
            dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([tensor.numel() for tensor in found])
        for tensor, part in zip(found, parts, strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a CPU tensor over processes."""
        if self.is_alone:
            return values
        with _lost_processes():
            dist.all_reduce(values)
        return values

    def any_of(self, *flags: bool) -> list[bool]:
        """Return which flags are True in at least one process."""
        if self.is_alone:
            return [*flags]
        found = torch.tensor(flags, dtype=torch.int32)
        with _lost_processes():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, in their order."""
        if self.is_alone:
            return [value]
        found: list[T | None] = [None] * self.count
        with _lost_processes():
            dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def from_main(self, make: Callable[[], T]) -> T:
        """Call a function in the main process only, and return its result in all."""
        if self.is_alone:
            return make()
        found: list[T | None] = [make() if self.is_main else None]
        with _lost_processes():
            dist.broadcast_object_list(found, 0, device=torch.device("cpu"))
        return found[0]  # type: ignore[return-value]

    def in_turn(self, make: Callable[[], T]) -> T:
        """Call a function in one process of each machine after the other."""
        found: list[T] = []
        # Machines may have different numbers of processes.
        for turn in range(max(self.gathered(self._machine))):
            if turn == (self.local or 0):
                found.append(make())
            self.wait()
        return found[0]

    def rounds(self, items: Sequence[T]) -> Iterator[tuple[T, bool]]:
        """Yield the items of this process, and whether their results are needed.

        If the processes are in step, all of them yield the same number of items.
        """
        for start in range(0, len(items), self.count):
            place = start + self.share.index
            if place < len(items):
                yield items[place], True
            elif self.in_step:
                yield items[-1], False

    @contextlib.contextmanager
    def exchanging(self) -> Iterator[None]:
        """Notice lost processes in a ``with`` block that uses a divided model.

        Raises:
            ProcessLost: If another process has ended.
        """
        try:
            yield
        except RuntimeError as error:
            if not self.in_step or not _is_collective(error):
                raise
            raise ProcessLost("Another process of the training has ended.") from error

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors by those of the main process."""
        if self.is_alone:
            return
        for tensor in tensors:
            with _lost_processes(), torch.no_grad():
                dist.broadcast(tensor.detach(), 0)

    def wait(self) -> None:
        """Wait until all processes are at this point."""
        self.any_of(False)


ALONE = Processes()
"""A single process."""


@contextlib.contextmanager
def join_processes(config: TrainConfig) -> Iterator[Processes]:
    """Connect to the processes that torchrun or accelerate launch started.

    Messages of all processes but the main one are not printed. An error is printed by
    the main process, or else by the process in which it occurs.

    Raises:
        ConfigError: If the batch or device cannot be shared by that many processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        check_process_count(config, 1)
        yield ALONE
        return
    index = int(os.environ["RANK"])
    local = int(os.environ.get("LOCAL_RANK", index))
    with mute(index != 0):
        try:
            check_process_count(config, count)
            backend = _backend(config)
        except InputError:
            # The same in all processes of this machine.
            if local == 0:
                raise
            raise SystemExit(2) from None
        dist.init_process_group(backend, timeout=_TIMEOUT)
        try:
            with _one_message(index):
                processes = Processes(
                    Share(index, count),
                    local,
                    int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
                    in_step=config.shard_base_model,
                )
                yield processes
                # A process that ends early is an error for torchrun, which would stop
                # the main one while it writes files.
                processes.wait()
        finally:
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def _backend(config: TrainConfig) -> str:
    kind = device_of(config).type
    if kind == "cpu":
        return "gloo"
    if kind != "cuda":
        raise ConfigError(
            f"device={config.device!r}: several processes are supported on NVIDIA GPUs "
            'and with device="cpu". Start training without --processes, torchrun or '
            "accelerate launch.",
            key="device",
        )
    here, present = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), _gpus()
    if here > present:
        raise ConfigError(
            f"device: {here} processes need a GPU each, but this machine has "
            f"{present}. Start at most {present} processes.",
            key="device",
        )
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Requests to stop are exchanged on the CPU, where a lost process is noticed.
    return "cpu:gloo,cuda:nccl"


def _gpus() -> int:
    return torch.cuda.device_count()


@contextlib.contextmanager
def _lost_processes() -> Iterator[None]:
    """Convert errors of a collective operation.

    Raises:
        ProcessLost: If another process has ended.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ProcessLost("Another process of the training has ended.") from error


def _is_collective(error: RuntimeError) -> bool:
    """Return whether an error was raised by a collective operation of torch."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return name.startswith("torch.distributed.")


@contextlib.contextmanager
def _one_message(index: int) -> Iterator[None]:
    """Let one process print an error that occurs in several.

    Raises:
        SystemExit: If another process prints the error.
    """
    store = dist.distributed_c10d._get_default_store()
    try:
        yield
    except (StiefelLoraError, KeyboardInterrupt) as error:
        code = _code_of(error)
        if index == 0:
            with contextlib.suppress(RuntimeError):
                store.set("failed", str(error))
            raise
        if isinstance(error, ProcessLost):
            if not error.saved:
                raise SystemExit(code) from error
        elif _has_failed(store):
            raise SystemExit(code) from error
        print(f"Process {index}: {error or 'interrupted'}", file=sys.stderr, flush=True)
        raise SystemExit(code) from error


def _code_of(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, InputError) else 1


def _has_failed(store: dist.Store) -> bool:
    """Return whether the main process has an error, too, after waiting for it."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            if store.check(["failed"]):
                return True
        except RuntimeError:
            # The main process holds the store, so it has ended.
            return True
        time.sleep(0.1)
    return False
