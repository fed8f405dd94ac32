"""The configuration of a training run: one truth for files, CLI, forms and docs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .._intervals import rank_interval
from ._base import (
    Count,
    Flag,
    FolderPath,
    Number,
    Seed,
    StrictModel,
    broken_rule,
)
from .enums import (
    DType,
    LayerPreset,
    LearningRateScheduler,
    LoraInit,
    ModelType,
    OutputFormat,
)
from .optimizer import OPTIMIZER_MODELS, OptimizerChoice, OptimizerConfig
from .parts import Concepts, Sample, Side
from .rules import broken_rules

__all__ = ["DEFAULT_OPTIMIZER", "SCHEMA_VERSION", "TrainConfig"]

SCHEMA_VERSION = 1
DEFAULT_OPTIMIZER = "stiefel_lora"
CUSTOM_LEARNING_RATE = 1e-4


def _default_optimizer() -> OptimizerConfig:
    return OPTIMIZER_MODELS[DEFAULT_OPTIMIZER].model_validate(
        {"name": DEFAULT_OPTIMIZER}
    )


def _default_learning_rate(fields: dict[str, Any]) -> float:
    """The method's own starting point; ``fields`` are those validated so far."""
    optimizer = fields.get("optimizer")
    entry = optimizer.method if optimizer else None
    return entry.default_lr if entry else CUSTOM_LEARNING_RATE


class TrainConfig(StrictModel):
    """All settings of one run; ``load_config`` reads it from a file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this format; leave it alone, older files are converted."""

    comment: str = ""
    """Notes for people; training ignores them."""

    run_name: Annotated[str, Field(min_length=1, max_length=100)] = "run"
    """Name of the run's folder and of the LoRA file. Unset: the name of the file that
    holds these settings."""

    output_dir: FolderPath = Path("runs")
    """Folder that holds the folders of all runs. Unset: runs in the current folder."""

    model_type: ModelType = "sdxl"
    """Family of the base model."""

    base_model_name: Annotated[str, Field(min_length=1)] | None = None
    """Base model: a folder in diffusers layout, or a name on the Hugging Face hub
    such as stabilityai/stable-diffusion-xl-base-1.0."""

    concepts: Concepts = ()
    """Folders of pictures to learn from, with captions in .txt files beside them."""

    validation_concepts: Concepts = ()
    """Folders of pictures that are never learned from; the loss on them tells whether
    training still helps. Leave some pictures out for it if you can."""

    resolution: Side = 1024
    """Pixels of a square picture's side, a multiple of 8; 1024 for SDXL."""

    batch_size: Annotated[Count, Field(ge=1, le=4096)] = 1
    """Pictures that go through the model together; more need more memory."""

    gradient_accumulation_steps: Annotated[Count, Field(ge=1, le=4096)] = 1
    """Batches whose gradients are averaged before a step: a larger batch for the memory
    of a small one, at the price of time."""

    steps: Annotated[Count, Field(ge=1)] = 1000
    """Optimizer steps of the whole run."""

    optimizer: OptimizerChoice = Field(default_factory=_default_optimizer)
    """Optimizer and its options; the defaults are a good start."""

    learning_rate: Annotated[Number, Field(gt=0, le=100)] = Field(
        default_factory=_default_learning_rate
    )
    """Step size in the optimizer's own unit. Unset: where that optimizer should begin
    (the value for one optimizer is wrong for another)."""

    learning_rate_scheduler: LearningRateScheduler = "constant"
    """Course of the learning rate after the warm-up."""

    learning_rate_warmup_steps: Count = 0
    """Steps over which the learning rate rises from zero; at most the steps of the
    run."""

    learning_rate_min_factor: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Share of the learning rate at which cosine and linear end."""

    clip_grad_norm: Annotated[Number, Field(ge=0, le=1e6)] = 1.0
    """Largest norm of all gradients together; longer ones are shortened. 0 switches it
    off. Leave it alone as a beginner."""

    seed: Seed = 42
    """Start of all random numbers: the same seed repeats a run."""

    train_dtype: DType = "bfloat16"
    """Precision of the computation. bfloat16 for NVIDIA cards from 2020 on, float16 for
    older ones, float32 for a CPU. The LoRA itself is always float32."""

    weight_dtype: DType = "bfloat16"
    """Precision in which the frozen base model is held in memory."""

    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?|xpu(:\d{1,3})?)$")
    ] = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps, xpu. auto takes a GPU if there is
    one."""

    gradient_checkpointing: Flag = False
    """Compute activations twice in place of keeping them: much less memory, about a
    third slower."""

    layer_filter_preset: LayerPreset = "attn-mlp"
    """Layers of the UNet that get a LoRA. attn-only: attention; attn-mlp: attention and
    feed-forward, the usual choice; full: all linear layers."""

    layer_filter: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """In place of the preset: whole names of layers with * for any letters, such as
    *.attn2.to_k, or pieces of names. One that matches no layer is an error."""

    lora_rank: Annotated[Count, Field(ge=1, le=4096)] = 16
    """Rank of the LoRA: how much it can hold, and how large its file gets."""

    lora_alpha: Annotated[Number, Field(gt=0, le=1e6)] | None = None
    """Scale of the LoRA: alpha / rank multiplies it. Unset: the rank, which is what
    Stiefel LoRA needs."""

    use_dora: Flag = False
    """Train the length of every row of the adapted weights beside the LoRA (DoRA).
    Slower, needs more memory, and is saved for diffusers only."""

    lora_init: LoraInit = "auto"
    """Where the LoRA starts. auto: as the optimizer needs it, the model unchanged. loi:
    from the gradient of the first pictures, the model unchanged; its file has up to
    twice the rank. stella: StelLA's own start, which changes the model at step 0."""

    loi_batches: Annotated[Count, Field(ge=1, le=1000)] = 4
    """Batches whose gradient lora_init loi looks at, each 12 times; a larger number
    costs time once, at the start."""

    loi_file_rank: Annotated[Count, Field(ge=1, le=8192)] | None = None
    """Rank of the file with lora_init loi. Unset: twice lora_rank, which loses nothing;
    a lower one prints what it loses."""

    validate_every: Count = 0
    """Steps between two measurements of the loss on validation_concepts. 0: never."""

    validation_timesteps_per_picture: Annotated[Count, Field(ge=1, le=1000)] = 4
    """Noise levels at which each validation picture is measured; more are slower and
    less noisy."""

    sample_every: Count = 0
    """Steps between two rounds of sample pictures. 0: never."""

    samples: tuple[Sample, ...] = ()
    """Pictures to make during training."""

    rank_every: Count | None = None
    """Steps between two measurements of every block's effective rank. Unset: a fortieth
    of the run, at least 5. 0: never."""

    checkpoint_every: Count = 0
    """Steps between two checkpoints to resume from. 0: only when a run is stopped or
    ends."""

    keep_checkpoints: Annotated[Count, Field(ge=1, le=1000)] = 3
    """How many of the latest checkpoints stay on disk."""

    cache_dir: FolderPath | None = None
    """Folder for encoded pictures and captions, which several runs can share. Unset:
    inside output_dir."""

    output_formats: Annotated[tuple[OutputFormat, ...], Field(min_length=1)] = (
        "kohya",
        "peft",
    )
    """File formats of the finished LoRA. kohya: ComfyUI, Forge and others; peft:
    diffusers."""

    output_dtype: DType = "float16"
    """Precision of the numbers in the LoRA file."""

    @property
    def resolved_alpha(self) -> float:
        """LoRA alpha; the rank when unset."""
        return float(self.lora_rank if self.lora_alpha is None else self.lora_alpha)

    @property
    def resolved_file_rank(self) -> int:
        """Rank of the file with ``lora_init`` loi."""
        return 2 * self.lora_rank if self.loi_file_rank is None else self.loi_file_rank

    @property
    def resolved_rank_every(self) -> int:
        """Steps between two rank measurements, 0 for never."""
        return rank_interval(self.steps) if self.rank_every is None else self.rank_every

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.output_dir / self.run_name

    @model_validator(mode="after")
    def _rules(self) -> TrainConfig:
        sentences = broken_rules(self)
        if sentences:
            raise broken_rule("\n".join(sentences))
        return self
