"""Let OneTrainer take one step with a given batch and given noise, for each
configuration.

    python onetrainer_one_step.py ONETRAINER_ROOT FOLDER

FOLDER holds ``batch.safetensors`` and ``cases.json``, a list of names with a
configuration ``NAME.json`` each. The host's own trainer runs; only the batch, the noise
and the timesteps are replaced. What it did goes to ``NAME.safetensors``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import loadable_torchvision  # noqa: F401
from counted_draws import counted_randn
from safetensors.torch import load_file, save_file
from taken_step import TakenStep


def main(folder: Path) -> None:
    """Take the steps of all cases."""
    from modules.modelSetup.StableDiffusionXLLoRASetup import (
        StableDiffusionXLLoRASetup as Setup,
    )
    from modules.util import create
    from modules.util.callbacks.TrainCallbacks import TrainCallbacks
    from modules.util.commands.TrainCommands import TrainCommands
    from modules.util.config.TrainConfig import TrainConfig

    batch = load_file(folder / "batch.safetensors")
    predict, calculate = Setup.predict, Setup.calculate_loss

    def predict_given(self, model, found, *rest, **more):
        factor = model.vae.config["scaling_factor"]
        found.update(_batch_of_the_host(batch, factor))
        with counted_randn() as draws:
            output = predict(self, model, found, *rest, **more)
        for number, value in enumerate(draws.drawn):
            step.add(f"drawn {number}", value)
        return output

    def recorded_loss(self, *given):
        loss = calculate(self, *given)
        step.add("loss", loss)
        return loss

    Setup.predict, Setup.calculate_loss = predict_given, recorded_loss
    Setup._get_timestep_discrete = lambda *_: batch["timesteps"].int()
    for name in json.loads((folder / "cases.json").read_text("utf-8")):
        config = TrainConfig.default_values()
        config.from_dict(json.loads((folder / f"{name}.json").read_text("utf-8")))
        trainer = create.create_trainer(config, TrainCallbacks(), TrainCommands())
        trainer.start()
        step = TakenStep(lambda model=trainer.model: _factors(model.unet_lora))
        # The host replaces this method by its own, without hooks.
        optimizer = trainer.model.optimizer
        optimizer.step = MethodType(_recording(step, optimizer.step), optimizer)
        with step.recorded():
            trainer.train()
        save_file(step.tensors, folder / f"{name}.safetensors")


def _batch_of_the_host(batch: dict[str, Any], factor: float) -> dict[str, Any]:
    ids = batch["time_ids"]
    return {
        "latent_image": batch["latents"] / factor,
        "latent_mask": batch["mask"],
        "loss_weight": batch["loss_weight"],
        "text_encoder_1_hidden_state": batch["embeds_1"],
        "text_encoder_2_hidden_state": batch["embeds_2"],
        "text_encoder_2_pooled_state": batch["pooled"],
        "original_resolution": (ids[:, 0], ids[:, 1]),
        "crop_offset": (ids[:, 2], ids[:, 3]),
        "crop_resolution": (ids[:, 4], ids[:, 5]),
    }


def _recording(step: TakenStep, taken: Callable[..., Any]) -> Callable[..., Any]:
    def recording(_: Any, *given: Any, **more: Any) -> Any:
        step.before()
        return taken(*given, **more)

    return recording


def _factors(lora: Any) -> dict[str, Any]:
    found = {}
    for name, module in lora.lora_modules.items():
        found[f"unet.{name}.lora_up.weight"] = module.lora_up.weight
        found[f"unet.{name}.lora_down.weight"] = module.lora_down.weight
    return found


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(Path(sys.argv[2]))
