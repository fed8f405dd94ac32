"""Let sd-scripts take one step with a given batch and given noise, for each command.

    python sd_scripts_one_step.py SD_SCRIPTS_ROOT FOLDER

FOLDER holds ``batch.safetensors`` and ``cases.json``, a list of arguments by name. The
host's own trainer runs from start to end; only the batch, the noise and the timesteps
are replaced. What it did goes to ``NAME.safetensors``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import loadable_torchvision  # noqa: F401
from counted_draws import counted_randn
from safetensors.torch import load_file, save_file
from sd_scripts_model import narrow_sdxl
from taken_step import TakenStep

STRATEGIES = (
    "TokenizeStrategy",
    "TextEncodingStrategy",
    "LatentsCachingStrategy",
    "TextEncoderOutputsCachingStrategy",
)


def main(folder: Path) -> None:
    """Take the steps of all cases."""
    import sdxl_train_network as script
    from library import strategy_base, train_util

    batch = load_file(folder / "batch.safetensors")
    parser = script.setup_parser()

    class Trainer(script.SdxlNetworkTrainer):
        """The host's trainer with another batch."""

        def process_batch(self, found, text_encoders, unet, network, *rest, **more):
            self.network = network
            given = {
                **found,
                "latents": batch["latents"] / self.vae_scale_factor,
                "text_encoder_outputs_list": [
                    batch["embeds_1"],
                    batch["embeds_2"],
                    batch["pooled"],
                ],
                "original_sizes_hw": batch["time_ids"][:, 0:2],
                "crop_top_lefts": batch["time_ids"][:, 2:4],
                "target_sizes_hw": batch["time_ids"][:, 4:6],
                "loss_weights": batch["loss_weight"],
            }
            timesteps = mock.patch.object(
                train_util, "get_timesteps", return_value=batch["timesteps"]
            )
            with counted_randn() as draws, timesteps:
                loss = super().process_batch(
                    given, text_encoders, unet, network, *rest, **more
                )
            step.add("loss", loss)
            for number, value in enumerate(draws.drawn):
                step.add(f"drawn {number}", value)
            return loss

    for name, words in json.loads((folder / "cases.json").read_text("utf-8")).items():
        # The host keeps them for one run in a process.
        for kind in STRATEGIES:
            getattr(strategy_base, kind)._strategy = None
        trainer = Trainer()
        step = TakenStep(lambda own=trainer: dict(own.network.named_parameters()))
        with step.recorded():
            trainer.train(parser.parse_args(words))
        save_file(step.tensors, folder / f"{name}.safetensors")


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    narrow_sdxl()
    main(Path(sys.argv[2]))
