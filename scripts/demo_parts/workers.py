"""The processes that torchrun started, or this one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """Place of this process among `count`."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Workers:
        """Meet the other processes; alone where torchrun did not start this one."""
        if not dist.is_torchelastic_launched():
            return cls()
        dist.init_process_group("gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """True if this process reports and saves."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's images of a batch."""
        return slice(self.rank, None, self.count)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(
            tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(mean.view_as(tensor))
