r"""LoRA dropout, rank dropout and module dropout, as in sd-scripts.

For a layer with the input x, :math:`y = W x + s\,B\,(m \odot A x)` with the mask m:

- LoRA dropout: each entry of A x is 0 with probability p, and 1 / (1 - p) otherwise.
- Rank dropout: the same for each of the r columns of B, for each image.
- Module dropout: the LoRA of a layer is skipped for a batch with probability p, without
a correction of the scale. Its factors then have no gradient, so that the optimizer does
not update them.

In peft, dropout is applied to x instead, so it is not used here.

Random numbers depend only on the seed, the position of the batch in the order of images
and the number of the layer. A resumed run therefore needs no state, and gradient
checkpointing computes the same masks again. As in torch, they depend on the kind of
device, except for module dropout.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._share import WHOLE, Share
from ..optim.pairs import Pair
from .adapter_names import TRAINED

__all__ = ["LoraDropout"]


class LoraDropout:
    """Dropout of the LoRA layers of a model, which is only active during steps.

    Args:
        model: model with the adapter.
        pairs: factors of its layers.
        seed: seed of the masks.
        entries: probability of LoRA dropout.
        ranks: probability of rank dropout.
        modules: probability of module dropout.
        share: share of this process in a batch. Masks are drawn for the whole batch.
    """

    def __init__(
        self,
        model: nn.Module,
        pairs: Sequence[Pair],
        *,
        seed: int,
        entries: float = 0.0,
        ranks: float = 0.0,
        modules: float = 0.0,
        share: Share = WHOLE,
    ) -> None:
        self._seed = seed
        self._share = share
        self._entries, self._ranks, self._modules = entries, ranks, modules
        self._layers: list[Any] = [model.get_submodule(pair.name) for pair in pairs]
        self._names = [pair.name for pair in pairs]
        self._left_out: set[int] = set()
        self._position: int | None = None
        self._generators: dict[torch.device, torch.Generator] = {}
        for number, layer in enumerate(self._layers):
            down: nn.Module = layer.lora_A[TRAINED]
            down.register_forward_hook(functools.partial(self._mask, number))

    def leave_out(self, parts: Sequence[str]) -> None:
        """Use no dropout in the layers of some parts of the model from now on."""
        for number, name in enumerate(self._names):
            if name.partition(".")[0] in parts:
                self._left_out.add(number)

    def begin(self, position: int) -> None:
        """Use dropout until :meth:`end`, with the masks of a batch."""
        self._position = position
        if not self._modules:
            return
        generator = torch.Generator().manual_seed(self._seed_of("modules"))
        draws = torch.rand(len(self._layers), generator=generator)
        dropped = draws < self._modules
        # Without any trained LoRA, the loss would have no gradient.
        left_out = list(self._left_out)
        draws[left_out] = -1
        dropped[[*left_out, int(draws.argmax())]] = False
        for layer, is_dropped in zip(self._layers, dropped.tolist(), strict=True):
            # enable_adapters() of peft would freeze the factors as well.
            layer._disable_adapters = is_dropped

    def end(self) -> None:
        """Stop using dropout, for validation and samples."""
        self._position = None
        for layer in self._layers:
            layer._disable_adapters = False

    def _mask(
        self, number: int, module: nn.Module, given: object, output: Tensor
    ) -> Tensor:
        """Apply the masks to A x. Forward hook of the layer A."""
        idle = self._position is None or number in self._left_out
        if idle or not (self._entries or self._ranks):
            return output
        device = output.device
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        generator = self._generators[device]
        generator.manual_seed(self._seed_of(str(number)))
        if self._entries:
            shape = [*output.shape]
            output = _dropped(output, shape, self._entries, generator, self._share)
        if self._ranks:
            # The channels of a convolution are the second axis, those of a linear layer
            # the last one.
            axis = 1 if isinstance(module, nn.Conv2d) else output.dim() - 1
            shape = [1] * output.dim()
            shape[0], shape[axis] = output.shape[0], output.shape[axis]
            output = _dropped(output, shape, self._ranks, generator, self._share)
        return output

    def _seed_of(self, what: str) -> int:
        return zlib.crc32(f"{self._seed}/{self._position}/{what}".encode())


def _dropped(
    values: Tensor,
    shape: Sequence[int],
    probability: float,
    generator: torch.Generator,
    share: Share,
) -> Tensor:
    """Apply dropout with masks of a shape, whose first axis is that of ``values``."""
    own = shape[0]
    whole = (share.total(own), *shape[1:])
    draws = torch.rand(whole, generator=generator, device=values.device)
    return values * (draws[share.rows(own)] >= probability) / (1 - probability)
