"""Train a small SDXL of DiffSynth-Studio by its own runner; runs in its environment.

    python diffsynth_launch.py ARGUMENTS...

UNet, pipeline, LoRA, loss, runner, logger and command line are the host's. What stands
in for it: the sizes of the UNet, and random tensors for what its VAE and text encoders
would make of images and captions.
"""

from __future__ import annotations

import argparse
from typing import Any

import loadable_torchvision  # noqa: F401
import torch
from accelerate import Accelerator
from diffsynth.diffusion import (
    DiffusionTrainingModule,
    FlowMatchSFTLoss,
    ModelLogger,
    add_general_config,
    launch_training_task,
)
from diffsynth.models.stable_diffusion_xl_unet import SDXLUNet2DConditionModel
from diffsynth.pipelines.stable_diffusion_xl import StableDiffusionXLPipeline

WIDTH, POOLED, TIME = 24, 16, 8


class Encoded(torch.utils.data.Dataset):
    """What the host reads where it has encoded images and captions before."""

    load_from_cache = True

    def __init__(self, count: int) -> None:
        random = torch.Generator().manual_seed(1)
        self._items = [
            {
                "input_latents": torch.randn(1, 4, 8, 8, generator=random),
                "prompt_embeds": torch.randn(1, 5, WIDTH, generator=random),
                "pooled_prompt_embeds": torch.randn(1, POOLED, generator=random),
                "add_time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]),
            }
            for _ in range(count)
        ]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._items[index]


class TrainingModule(DiffusionTrainingModule):
    """As that of its examples, without the parts that load models."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.pipe = StableDiffusionXLPipeline("cpu", torch.float32)
        self.pipe.unet = _unet()
        self.switch_pipe_to_training_mode(
            self.pipe,
            args.trainable_models,
            args.lora_base_model,
            args.lora_target_modules,
            args.lora_rank,
            args.lora_checkpoint,
        )

    def forward(self, data: dict[str, Any], inputs: dict[str, Any]) -> torch.Tensor:
        return FlowMatchSFTLoss(self.pipe, **inputs)


def _unet() -> torch.nn.Module:
    torch.manual_seed(0)
    return SDXLUNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME,
        projection_class_embeddings_input_dim=POOLED + 6 * TIME,
    )


def main() -> None:
    """Do what its ``train.py`` does."""
    args = add_general_config(argparse.ArgumentParser()).parse_args()
    torch.manual_seed(2)
    model = TrainingModule(args)
    logger = ModelLogger(args.output_path, args.remove_prefix_in_ckpt)
    accelerator = Accelerator(cpu=True)
    launch_training_task(accelerator, Encoded(8), model, logger, args=args)


if __name__ == "__main__":
    main()
