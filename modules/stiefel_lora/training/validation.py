r"""Validation loss on images that are not used for training.

The loss of image i is computed at K timesteps, one in each of K equal parts of the
range (:math:`t_k = \lfloor (k + u_{ik}) T / K \rfloor`), with different noise.
Timesteps and noise are generated with the seed i. They are the same in every
validation, for every seed, method and batch size, so that runs can be compared.

The means over the images at neighboring timesteps (at most 8 ranges) show at which
noise levels the loss changes. Weighted by their numbers of timesteps, their mean is the
loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..data.order import Visit
from ..data.prepare import EncodedSet
from ..families.protocol import Batch, Family, evaluating
from ..metrics.tags import validation_tag
from .distributed import ALONE, Processes
from .loss.denoising_loss import image_losses
from .loss.text_batch import batch_with_text

__all__ = ["Validation"]

# Any constant works, but it must not change, so that losses stay comparable.
_SEED = 1_000_003

_MOST_RANGES = 8


class Validation:
    """Validation images with their fixed noise and timesteps.

    Args:
        images: validation set.
        family: model family that computes the loss.
        timesteps_per_picture: number of timesteps per image, K.
        batch_size: number of pairs of image and timestep per forward pass.
        processes: processes that share the batches.
    """

    def __init__(
        self,
        images: EncodedSet,
        family: Family,
        timesteps_per_image: int,
        batch_size: int,
        processes: Processes = ALONE,
    ) -> None:
        self._images = images
        self._family = family
        self._count = timesteps_per_image
        self._batch_size = batch_size
        self._processes = processes
        self.by_image: list[float] = []
        """Loss of each image in the last validation, in the order of the set."""

        self.by_timesteps: dict[str, float] = {}
        """Loss of each range of timesteps in the last validation, by tag. Empty if
        there is only one timestep per image."""

    def loss(self, denoiser: nn.Module) -> float:
        """Compute the mean loss over images and timesteps.

        The means ``by_image`` and ``by_timesteps`` are stored.
        """
        found = self.losses(denoiser)
        self.by_image = found.mean(1).tolist()
        total = self._family.timesteps
        self.by_timesteps = {
            validation_tag(
                first * total // self._count, last * total // self._count
            ): float(found[:, first:last].mean())
            for first, last in itertools.pairwise(self._edges())
        }
        return float(found.mean())

    def _edges(self) -> list[int]:
        """Return the first timestep index of each range, and K at the end."""
        ranges = min(self._count, _MOST_RANGES)
        if ranges == 1:
            return []
        return [number * self._count // ranges for number in range(ranges + 1)]

    @torch.no_grad()
    def losses(self, denoiser: nn.Module) -> Tensor:
        """Compute the loss of each image at each timestep, float64 ``(images, K)``."""
        count = len(self._images.sizes)
        found = torch.zeros(count, self._count, dtype=torch.float64)
        with evaluating(denoiser):
            for jobs, is_needed, batch, noise, timesteps in self._batches():
                predicted = self._family.predict(
                    denoiser,
                    batch,
                    noise.to(self._family.device),
                    timesteps.to(self._family.device),
                )
                if not is_needed:
                    continue
                places = torch.tensor(jobs).unbind(1)
                # At the place of image and timestep: the mean does not depend on the
                # order, which follows from sizes and batches.
                found[places] = image_losses(predicted).double().cpu()
        # The losses of other processes are 0 here.
        return self._processes.sum(found)

    def _batches(
        self,
    ) -> Iterator[tuple[list[tuple[int, int]], bool, Batch, Tensor, Tensor]]:
        for part, is_needed in self._processes.rounds([*self._jobs()]):
            visits = [Visit(i, 0) for i, _ in part]
            batch = batch_with_text(self._images, visits, self._family)
            drawn = [self._draw(i, k, batch["latents"].shape[1:]) for i, k in part]
            yield (
                part,
                is_needed,
                batch,
                torch.stack([noise for noise, _ in drawn]),
                self._family.timesteps_at(torch.stack([place for _, place in drawn])),
            )

    def _jobs(self) -> Iterator[list[tuple[int, int]]]:
        """Yield batches of image and timestep indices, with images of the same size."""
        sizes = self._images.sizes
        # Sorting is stable, so that images of one size keep their order.
        by_size = sorted(range(len(sizes)), key=sizes.__getitem__)
        for _, images in itertools.groupby(by_size, key=sizes.__getitem__):
            jobs = [(i, k) for i in images for k in range(self._count)]
            for start in range(0, len(jobs), self._batch_size):
                yield jobs[start : start + self._batch_size]

    def _draw(self, i: int, k: int, shape: torch.Size) -> tuple[Tensor, Tensor]:
        # One generator per image and timestep: independent of batch size, order and
        # device.
        generator = torch.Generator("cpu").manual_seed(_SEED * (k + 1) + i)
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        place = (k + offset) / self._count
        return torch.randn(shape, generator=generator), place
