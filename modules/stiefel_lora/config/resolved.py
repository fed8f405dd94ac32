"""All settings of a run, with the resolved values of unset settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from .._intervals import rank_interval
from ..families.catalogue import record_of
from ..families.record import FamilyRecord
from .concept import enabled_of
from .enums import DType, TimestepDistribution
from .parts import Sample
from .settings import (
    DataSettings,
    GeneralSettings,
    LoraSettings,
    ModelSettings,
    ObjectiveSettings,
    OptimizationSettings,
    SavingSettings,
    WatchingSettings,
)
from .trigger import PLACEHOLDER, with_trigger
from .warmup import warmup_steps

__all__ = ["Settings"]


# Pydantic lists the fields of the last base first.
class Settings(
    SavingSettings,
    WatchingSettings,
    LoraSettings,
    ObjectiveSettings,
    OptimizationSettings,
    DataSettings,
    ModelSettings,
    GeneralSettings,
):
    """All settings of a run, before rules between settings are checked."""

    @property
    def resolved_alpha(self) -> float:
        """LoRA alpha. If it is not set, this is the rank."""
        return float(self.lora_rank if self.lora_alpha is None else self.lora_alpha)

    @property
    def has_validation_images(self) -> bool:
        """Return whether there are validation images."""
        return bool(enabled_of(self.validation_concepts)) or self.validation_split > 0

    @property
    def resolved_samples(self) -> tuple[Sample, ...]:
        """Samples, with the trigger word in their prompts."""
        return tuple(
            sample.model_copy(
                update={
                    "prompt": with_trigger(sample.prompt, self.trigger_word),
                    # Only replaced: a word to avoid is not to be added.
                    "negative_prompt": sample.negative_prompt.replace(
                        PLACEHOLDER, self.trigger_word or ""
                    ),
                }
            )
            for sample in self.samples
        )

    @property
    def rank_settings(self) -> dict[str, Any]:
        """Settings of the rank of each layer, as arguments of ``ranks_of``."""
        return {
            "rank": self.lora_rank,
            "rank_pattern": self.rank_pattern,
            "conv_rank": self.conv_rank,
        }

    @property
    def largest_resolution(self) -> int:
        """Highest resolution of the images."""
        usual = (self.resolution, *self.extra_resolutions)
        concepts = (*self.concepts, *self.validation_concepts)
        own = [concept.resolutions or usual for concept in enabled_of(concepts)]
        return max(side for sides in (own or [usual]) for side in sides)

    @property
    def text_encoder_rates(self) -> dict[str, float]:
        """Learning rates of the trained text encoders, by component."""
        given = {
            "text_encoder": (
                self.train_text_encoder,
                self.text_encoder_learning_rate,
            ),
            "text_encoder_2": (
                self.train_text_encoder_2,
                self.text_encoder_2_learning_rate,
            ),
        }
        return {
            part: self.learning_rate if rate is None else rate
            for part, (trained, rate) in given.items()
            if trained
        }

    @property
    def text_encoder_stops(self) -> dict[str, int]:
        """Steps after which text encoders are no longer trained, by component."""
        after = {
            part: getattr(self, f"{part}_stop_training_after")
            for part in self.text_encoder_rates
        }
        return {part: step for part, step in after.items() if step}

    @property
    def resolved_warmup_steps(self) -> int:
        """Number of steps of the warmup, if it is not set in epochs."""
        return warmup_steps(self.learning_rate_warmup_steps, self.steps)

    @property
    def resolved_file_rank(self) -> int:
        """Rank of the LoRA file if ``lora_init`` is loi."""
        return 2 * self.lora_rank if self.loi_file_rank is None else self.loi_file_rank

    @property
    def resolved_rank_every(self) -> int | str:
        """Interval between rank measurements. 0 means never."""
        return rank_interval(self.steps) if self.rank_every is None else self.rank_every

    @property
    def plain_weight_dtype(self) -> DType:
        """Data type of the weights that are not quantized."""
        if self.weight_dtype in ("nfloat4", "int8"):
            return self.train_dtype
        return self.weight_dtype

    @property
    def family(self) -> FamilyRecord:
        """Record of the model family ``model_type``."""
        return record_of(self.model_type)

    @property
    def resolved_timestep_distribution(self) -> TimestepDistribution:
        """Timestep distribution. The default depends on the family."""
        usual = cast("TimestepDistribution", self.family.usual_distribution)
        return self.timestep_distribution or usual

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.output_dir / self.run_name
