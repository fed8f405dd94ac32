"""Count operations, synchronizations and workspace of one call."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stiefel_lora.geometry import roots
from stiefel_lora.optim.engine.two_passes import ACCELERATOR, LAYOUTS, Layout

__all__ = ["VIEWS", "StepCost", "as_on_gpu", "step_cost"]

# Operations that only describe memory launch nothing.
VIEWS = ("view", "t", "transpose", "unbind", "slice", "select", "expand", "detach")
VIEWS += ("alias", "_unsafe_view", "unsqueeze", "squeeze", "diagonal", "as_strided")


@dataclasses.dataclass(frozen=True)
class StepCost:
    """Counts of one call.

    Attributes:
        operations: ATen operations that compute or copy; on a GPU each is at least
            one launch.
        waits: reads of a number by Python, for which a GPU must finish first.
        work_bytes: largest total of tensors that the call made and held at a time.
    """

    operations: int
    waits: int
    work_bytes: int


@contextlib.contextmanager
def as_on_gpu(layout: Layout = ACCELERATOR) -> Iterator[None]:
    """Let the optimizers stack, and not read numbers, as on a GPU."""
    with (
        mock.patch.dict(LAYOUTS, cpu=layout),
        mock.patch.object(roots, "reads_freely", return_value=False),
    ):
        yield


def step_cost(
    work: Callable[[], object], on_host: Iterable[torch.Tensor] = ()
) -> StepCost:
    """Run ``work`` once and count.

    Args:
        work: the call.
        on_host: tensors that are on the CPU on every device, such as step counters.
            Operations on these alone launch nothing, and reading them never waits.
    """
    with _Counter(on_host) as counter:
        work()
    return StepCost(counter.operations, counter.waits, counter.peak)


class _Counter(TorchDispatchMode):
    def __init__(self, on_host: Iterable[torch.Tensor]) -> None:
        super().__init__()
        # References, since an address may be used again once its tensor is gone.
        self._host = {tensor.untyped_storage()._cdata: tensor for tensor in on_host}
        self.operations = self.waits = self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # What was there before the call is not the call's own.
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        keys = {tensor.untyped_storage()._cdata for tensor in given}
        self._known |= keys
        result = func(*args, **(kwargs or {}))
        if keys and keys <= self._host.keys():
            made = (t for t in tree_leaves(result) if isinstance(t, torch.Tensor))
            self._host |= {t.untyped_storage()._cdata: t for t in made}
            return result
        name = func.overloadpacket.__name__
        self.waits += name in ("_local_scalar_dense", "equal", "nonzero")
        self.operations += name not in VIEWS
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._hold(leaf.untyped_storage())
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
