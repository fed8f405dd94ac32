"""Let sd-scripts take one step with a given batch and given noise, for each command.

    python sd_scripts_one_step.py SD_SCRIPTS_ROOT FOLDER

FOLDER holds ``batch.safetensors``, maybe ``captions.json``, and ``cases.json``, lists
of a script and its arguments by name. The host's own trainer runs from start to end;
only the batch, the noise and the timesteps are replaced. Without timesteps in the
batch, it makes them of its draws. What it did goes to ``NAME.safetensors``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import loadable_torchvision  # noqa: F401
from counted_draws import counted_randn
from safetensors.torch import load_file, save_file
from sd_scripts_flux_model import narrow_flux
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
    from library import strategy_base

    batch = load_file(folder / "batch.safetensors")
    texts = folder / "captions.json"
    captions = json.loads(texts.read_text("utf-8")) if texts.exists() else []
    cases = json.loads((folder / "cases.json").read_text("utf-8"))
    for name, (file, *words) in cases.items():
        # The host keeps them for one run in a process.
        for kind in STRATEGIES:
            getattr(strategy_base, kind)._strategy = None
        script = importlib.import_module(file.removesuffix(".py"))
        trainer = _trainer(script, batch, captions)
        trainer.taken = TakenStep(
            lambda own=trainer: dict(own.network.named_parameters())
        )
        with trainer.taken.recorded():
            trainer.train(script.setup_parser().parse_args(words))
        save_file(trainer.taken.tensors, folder / f"{name}.safetensors")


def _trainer(script: Any, batch: dict[str, Any], captions: list[str]) -> Any:
    """Return the trainer of a script, with another batch."""
    is_flux = hasattr(script, "FluxNetworkTrainer")
    base = script.FluxNetworkTrainer if is_flux else script.SdxlNetworkTrainer
    batch_of: Callable[..., dict[str, Any]] = _of_flux if is_flux else _of_sdxl

    class Trainer(base):
        """The host's trainer with another batch."""

        taken: TakenStep

        def process_batch(self, found, text_encoders, unet, network, *rest, **more):
            self.network = network
            trains_text = more["train_text_encoder"]
            given = {**found, **batch_of(batch, self, trains_text)}
            if trains_text:
                from library.strategy_base import TokenizeStrategy

                strategy = TokenizeStrategy.get_strategy()
                given["input_ids_list"] = [*strategy.tokenize(captions)]
                given["captions"] = captions
            with counted_randn() as draws, _timesteps(batch):
                loss = super().process_batch(
                    given, text_encoders, unet, network, *rest, **more
                )
            self.taken.add("loss", loss)
            for number, value in enumerate(draws.drawn):
                self.taken.add(f"drawn {number}", value)
            return loss

        def get_noise_pred_and_target(self, *given, **more):
            found = super().get_noise_pred_and_target(*given, **more)
            self.taken.add("timesteps", found[2])
            return found

    return Trainer()


def _timesteps(batch: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Give SDXL the timesteps of the batch."""
    from library import train_util

    if "timesteps" not in batch:
        return contextlib.nullcontext()
    return mock.patch.object(
        train_util, "get_timesteps", return_value=batch["timesteps"]
    )


def _of_sdxl(batch: dict[str, Any], own: Any, trains_text: bool) -> dict[str, Any]:
    text = [batch["embeds_1"], batch["embeds_2"], batch["pooled"]]
    return {
        "latents": batch["latents"] / own.vae_scale_factor,
        "text_encoder_outputs_list": None if trains_text else text,
        "original_sizes_hw": batch["time_ids"][:, 0:2],
        "crop_top_lefts": batch["time_ids"][:, 2:4],
        "target_sizes_hw": batch["time_ids"][:, 4:6],
        "loss_weights": batch["loss_weight"],
    }


def _of_flux(batch: dict[str, Any], own: Any, trains_text: bool) -> dict[str, Any]:
    embeds = batch["embeds"]
    ids = embeds.new_zeros(*embeds.shape[:2], 3)
    return {
        "latents": batch["latents"],
        "text_encoder_outputs_list": [
            batch["pooled"],
            embeds,
            ids,
            batch["text_mask"],
        ],
        "loss_weights": batch["loss_weight"],
    }


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    narrow_sdxl()
    narrow_flux()
    main(Path(sys.argv[2]))
