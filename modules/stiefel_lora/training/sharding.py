"""Division of the frozen base model among the processes of a training (FSDP2).

Each process holds a part of every weight of the denoiser. The weights of a block are
gathered before it is computed, in the forward and the backward pass, and freed
afterwards. The LoRA is not divided: each process has all factors, and takes the same
optimizer steps as without sharding.

All processes must run the denoiser equally often, since each of them needs the parts of
the others (``Processes.in_step``).

References:
    S. Rajbhandari, J. Rasley, O. Ruwase, Y. He, "ZeRO: Memory Optimizations Toward
    Training Trillion Parameter Models", 2020, arXiv:1910.02054 (stage 3).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn

from .._exceptions import ConfigError
from ..adapters import lora_parameters

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["check_sharding", "shard_base"]

# Blocks of a U-Net outside of its transformers, which diffusers does not list among its
# repeated blocks. The units of ``memory.unet_steps`` are the same.
_CONVOLUTIONS = "ResnetBlock2D"


def check_sharding(config: TrainConfig) -> None:
    """Check that torch supports the division of a model with a LoRA.

    Raises:
        ConfigError: If torch is too old.
    """
    if not config.shard_base_model:
        return
    try:
        from torch.distributed.fsdp import fully_shard

        is_able = "ignored_params" in inspect.signature(fully_shard).parameters
    except ImportError:
        is_able = False
    if not is_able:
        raise ConfigError(
            f"shard_base_model=true requires torch 2.7, but {torch.__version__} is "
            "installed. Upgrade torch, or set shard_base_model to false.",
            key="shard_base_model",
        )


def shard_base(model: nn.Module, device: torch.device) -> None:
    """Divide the weights of a denoiser among all processes, in place.

    The weights are moved to the device one block at a time, and the LoRA as a whole.
    There is no exchange between processes, all of which must have the same weights.

    Args:
        model: denoiser with a LoRA, on the CPU.
        device: device of this process.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    group = dist.group.WORLD
    assert group is not None, "called without other processes"
    mesh = DeviceMesh.from_group(group, device.type)
    factors = lora_parameters(model).values()
    for factor in factors:
        factor.data = factor.data.to(device)
    for part in (*_blocks(model), model):
        fully_shard(
            part, mesh=mesh, reshard_after_forward=True, ignored_params={*factors}
        )


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts whose weights are gathered together, without the whole model."""
    names = {*getattr(model, "_repeated_blocks", ()), _CONVOLUTIONS}
    # A list: the classes of modules change while they are divided.
    yield from [part for part in model.modules() if type(part).__name__ in names]
