"""Training state of a run: model, optimizer, data and loss."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..adapters import (
    EffectiveUpdate,
    LoraDropout,
    effective_update,
    lora_parameters,
    without_lora,
)
from ..data.order import DataOrder, Visit
from ..data.prepare import EncodedSet
from ..families import Family
from ..families.protocol import Batch, Prediction
from ..optim.foreign import in_eval_mode
from ..optim.pairs import Pair
from ..optim.rule import keeps_orthonormal
from .distributed import ALONE, Processes
from .ema import MovingAverage
from .loss.denoising_loss import Objective
from .loss.noise import NoiseSource
from .loss.text_batch import batch_with_text, text_of
from .norm_limit import NormLimit
from .process_check import ProcessCheck
from .samples import Sampler
from .validation import Validation

__all__ = ["TrainingState"]


@dataclasses.dataclass
class TrainingState:
    """Model, optimizer, data and other objects of a run."""

    family: Family
    accelerator: Accelerator
    model: nn.Module
    """Trained model: the denoiser, or several components by their names in files."""

    denoiser: nn.Module
    """Denoiser, prepared by accelerate for mixed precision."""

    optimizer: Any
    scheduler: torch.optim.lr_scheduler.LambdaLR
    pairs: list[Pair]
    order: DataOrder
    noise: NoiseSource
    objective: Objective
    images: EncodedSet
    validation: Validation | None
    sampler: Sampler
    average: MovingAverage | None = None
    """Moving average that is used for validation, samples and files, or None."""

    norm_limit: NormLimit | None = None
    dropout: LoraDropout | None = None

    text_stops: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Steps after which text encoders are no longer trained, by component."""

    processes: Processes = ALONE
    check: ProcessCheck | None = None
    """Comparison of the processes, or None if it is not enabled."""

    @property
    def constrained(self) -> bool:
        """Return whether the optimizer keeps B orthonormal."""
        return keeps_orthonormal(self.optimizer.optimizer)

    @property
    def component(self) -> str | None:
        """Name of the trained component, or None if there are several."""
        return self.family.component if self.model is self.denoiser else None

    def rate_tags(self) -> list[str]:
        """Names of the parameter groups: component and number."""
        parts = self.model.named_children() if self.component is None else []
        owners = {id(p): name for name, part in parts for p in part.parameters()}
        counts: collections.Counter[str] = collections.Counter()
        tags = []
        for group in self.optimizer.param_groups:
            part = owners.get(id(group["params"][0]), self.family.component)
            tags.append(f"lr/{part}_{counts[part]}" if counts[part] else f"lr/{part}")
            counts[part] += 1
        return tags

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @functools.cached_property
    def adapters(self) -> dict[str, nn.Parameter]:
        """Parameters that peft added to the model, by name."""
        return lora_parameters(self.model)

    def effective_update(self) -> EffectiveUpdate:
        """Return the effective update of every layer, as pairs of factors."""
        return effective_update(self.model, self.pairs)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Use the averaged weights in a ``with`` block, or else :meth:`evaluated`."""
        average = self.average
        return self.evaluated() if average is None else average.applied()

    def evaluated(self) -> contextlib.AbstractContextManager[None]:
        """Use the evaluation weights of the optimizer in a ``with`` block."""
        return in_eval_mode(self.optimizer.optimizer)

    def stop_text_encoders(self, step: int) -> list[str]:
        """Stop training text encoders after ``step`` steps. Return the new ones."""
        stopped = self.family.stopped_text
        found = [
            part
            for part, last in self.text_stops.items()
            if step >= last and part not in stopped
        ]
        stopped.update(found)
        if self.dropout is not None:
            self.dropout.leave_out(found)
        return found

    def loss(self, visits: Iterable[Visit], noise: NoiseSource) -> Tensor:
        """Return the mean loss of a batch with random noise and timesteps.

        With several processes, it is that of the part of this process.
        """
        part = self.processes.share.part([*visits])
        with self.accelerator.autocast():
            batch = batch_with_text(self.images, part, self.family)
        # Drawn on the CPU and moved: the same noise on every device.
        drawn, timesteps = noise.draw(batch["latents"])
        perturbed = noise.perturbed(drawn)
        if self.check is not None:
            self.check.see(part, drawn, timesteps)
        device = self.accelerator.device
        timesteps = timesteps.to(device)
        drawn = drawn.to(device)
        added = None if perturbed is None else perturbed.to(device)

        def predict(inputs: Batch) -> Prediction:
            return self.family.predict(self.denoiser, inputs, drawn, timesteps, added)

        base = None
        needs_base = self.objective.needs_base(batch)
        if self.processes.in_step:
            # The part of another process may need it.
            (needs_base,) = self.processes.any_of(needs_base)
        if needs_base:
            base = self._base_prediction(part, batch, predict)
        found = predict(batch)
        ratio = None
        if self.objective.needs_levels:
            ratio = self.family.signal_to_noise(timesteps)
        return self.objective.losses(found, batch, ratio, base).mean()

    @torch.no_grad()
    def _base_prediction(
        self,
        visits: Sequence[Visit],
        batch: Batch,
        predict: Callable[[Batch], Prediction],
    ) -> Tensor:
        """Return the prediction without the LoRA, also in text encoders."""
        with without_lora(self.model):
            with self.accelerator.autocast():
                text = text_of(self.images, visits, self.family, batch)
            return predict({**batch, **text}).predicted
