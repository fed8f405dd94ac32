"""Let OneTrainer take one step with a given batch and given noise, for each
configuration.

    python onetrainer_one_step.py ONETRAINER_ROOT FOLDER

FOLDER holds ``batch.safetensors``, maybe ``captions.json``, and ``cases.json``, a list
of names with a configuration ``NAME.json`` each. The host's own trainer runs; only the
batch, the noise and the timesteps are replaced. What it did goes to
``NAME.safetensors``.
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

PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")


def main(folder: Path) -> None:
    """Take the steps of all cases."""
    from modules.modelSetup.FluxLoRASetup import FluxLoRASetup
    from modules.modelSetup.StableDiffusionXLLoRASetup import StableDiffusionXLLoRASetup
    from modules.util import create
    from modules.util.callbacks.TrainCallbacks import TrainCallbacks
    from modules.util.commands.TrainCommands import TrainCommands
    from modules.util.config.TrainConfig import TrainConfig

    given = load_file(folder / "batch.safetensors")
    texts = folder / "captions.json"
    captions = json.loads(texts.read_text("utf-8")) if texts.exists() else []
    steps: list[TakenStep] = []
    # FLUX.1 there has the noise of the next timestep.
    for setup, batch_of, before in (
        (StableDiffusionXLLoRASetup, _batch_of_sdxl, 0),
        (FluxLoRASetup, _batch_of_flux, 1),
    ):
        _give(setup, batch_of, given, captions, steps)
        if "timesteps" in given:
            fixed = given["timesteps"].int() - before
            setup._get_timestep_discrete = lambda *_, fixed=fixed, **__: fixed
    for name in json.loads((folder / "cases.json").read_text("utf-8")):
        config = TrainConfig.default_values()
        config.from_dict(json.loads((folder / f"{name}.json").read_text("utf-8")))
        trainer = create.create_trainer(config, TrainCallbacks(), TrainCommands())
        trainer.start()
        step = TakenStep(lambda model=trainer.model: _factors(model))
        steps.append(step)
        # The host replaces this method by its own, without hooks.
        optimizer = trainer.model.optimizer
        optimizer.step = MethodType(_recording(step, optimizer.step), optimizer)
        with step.recorded():
            trainer.train()
        save_file(step.tensors, folder / f"{name}.safetensors")


def _give(
    setup: Any,
    batch_of: Callable[..., dict[str, Any]],
    given: dict[str, Any],
    captions: list[str],
    steps: list[TakenStep],
) -> None:
    """Let a trainer use the batch, and record what it makes of it."""
    predict, calculate = setup.predict, setup.calculate_loss

    def predict_given(self, model, found, *rest, **more):
        found.update(batch_of(given, model.vae.config))
        for number in (1, 2) if captions else ():
            tokenizer = getattr(model, f"tokenizer_{number}")
            found[f"tokens_{number}"] = tokenizer(
                captions,
                padding="max_length",
                truncation=True,
                max_length=found[f"tokens_{number}"].shape[-1],
                return_tensors="pt",
            ).input_ids
        with counted_randn() as draws:
            output = predict(self, model, found, *rest, **more)
        for number, value in enumerate(draws.drawn):
            steps[-1].add(f"drawn {number}", value)
        return output

    def recorded_loss(self, model, found, output, config):
        loss = calculate(self, model, found, output, config)
        steps[-1].add("loss", loss)
        steps[-1].add("timesteps", output["timestep"])
        return loss

    setup.predict, setup.calculate_loss = predict_given, recorded_loss


def _batch_of_sdxl(batch: dict[str, Any], vae: Any) -> dict[str, Any]:
    ids = batch["time_ids"]
    return {
        "latent_image": batch["latents"] / vae["scaling_factor"],
        "latent_mask": batch["mask"],
        "loss_weight": batch["loss_weight"],
        "text_encoder_1_hidden_state": batch["embeds_1"],
        "text_encoder_2_hidden_state": batch["embeds_2"],
        "text_encoder_2_pooled_state": batch["pooled"],
        "original_resolution": (ids[:, 0], ids[:, 1]),
        "crop_offset": (ids[:, 2], ids[:, 3]),
        "crop_resolution": (ids[:, 4], ids[:, 5]),
    }


def _batch_of_flux(batch: dict[str, Any], vae: Any) -> dict[str, Any]:
    latents = batch["latents"] / vae["scaling_factor"] + vae["shift_factor"]
    return {
        "latent_image": latents,
        "latent_mask": batch["mask"],
        "loss_weight": batch["loss_weight"],
        "text_encoder_1_pooled_state": batch["pooled"],
        "text_encoder_2_hidden_state": batch["embeds"],
        "tokens_mask_2": batch["text_mask"],
    }


def _recording(step: TakenStep, taken: Callable[..., Any]) -> Callable[..., Any]:
    def recording(_: Any, *given: Any, **more: Any) -> Any:
        step.before()
        return taken(*given, **more)

    return recording


def _factors(model: Any) -> dict[str, Any]:
    found = {}
    for part in PARTS:
        # The first text encoder has a number there, but not in its files.
        own = "text_encoder_1" if part == "text_encoder" else part
        lora = getattr(model, f"{own}_lora", None)
        for name, module in lora.lora_modules.items() if lora else ():
            # Fused layers contain the module.
            inner = getattr(module, "module", module)
            found[f"{part}.{name}.lora_up.weight"] = inner.lora_up.weight
            found[f"{part}.{name}.lora_down.weight"] = inner.lora_down.weight
    return found


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(Path(sys.argv[2]))
