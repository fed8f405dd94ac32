"""A stand-in for sd-scripts: its call order and what its networks show, in small.

Imitates train_network.py (create_network to get_optimizer, generate_step_logs) and
networks/lora.py (LoRAModule, LoRANetwork) of commit 48d368f, in words of our own.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn


class Lora(nn.Module):
    """One layer: factors, the alpha buffer, the scale of the product."""

    def __init__(self, name: str, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.lora_name = name
        self.lora_dim = rank
        self.lora_down = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_up.weight)
        self.scale = alpha / rank
        self.register_buffer("alpha", torch.tensor(alpha))
        self.layer = [layer]

    def apply_to(self) -> None:
        (layer,) = self.layer
        forward = layer.forward
        layer.forward = lambda x: (
            forward(x) + self.lora_up(self.lora_down(x)) * self.scale
        )


class Network(nn.Module):
    """Layers are registered when they are applied, as in the host."""

    def __init__(self, unet: nn.Module, rank: int, alpha: float, ratio: Any) -> None:
        super().__init__()
        self.text_encoder_loras: list[Lora] = []
        self.unet_loras = [
            Lora("lora_unet_" + name.replace(".", "_"), layer, rank, alpha)
            for name, layer in unet.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        self.ratio = ratio

    def apply_to(self, text_encoder: Any, unet: Any, te: bool, denoiser: bool) -> None:
        for lora in self.unet_loras:
            lora.apply_to()
            self.add_module(lora.lora_name, lora)

    def load_weights(self, file: str) -> Any:
        return self.load_state_dict(torch.load(file), strict=False)

    def prepare_optimizer_params(
        self, text_encoder_lr: Any, unet_lr: Any, default_lr: float
    ) -> Any:
        parts: dict[str, dict[str, nn.Parameter]] = {"lora": {}, "plus": {}}
        for lora in self.unet_loras:
            for name, parameter in lora.named_parameters():
                plus = self.ratio is not None and "lora_up" in name
                parts["plus" if plus else "lora"][f"{lora.lora_name}.{name}"] = (
                    parameter
                )
        groups = [
            {"params": part.values(), "lr": default_lr * (ratio or 1.0)}
            for part, ratio in ((parts["lora"], None), (parts["plus"], self.ratio))
            if part
        ]
        return groups, ["unet"] * len(groups)


def networks_module() -> types.ModuleType:
    """What the host's ``networks.lora`` offers."""
    module = types.ModuleType("networks.lora")

    def create_network(
        multiplier: float,
        network_dim: int,
        network_alpha: float | None,
        vae: Any,
        text_encoder: Any,
        unet: nn.Module,
        neuron_dropout: float | None = None,
        **kwargs: str,
    ) -> Network:
        ratio = kwargs.get("loraplus_lr_ratio")
        ratio = None if ratio is None else float(ratio)
        alpha = 1.0 if network_alpha is None else network_alpha
        return Network(unet, network_dim, alpha, ratio)

    module.create_network = create_network  # type: ignore[attr-defined]
    return module


class NetworkTrainer:
    """The part of the trainer that gathers a step's numbers."""

    def generate_step_logs(
        self,
        args: Any,
        current_loss: float,
        avr_loss: float,
        lr_scheduler: Any,
        lr_descriptions: Any,
        optimizer: Any = None,
    ) -> dict[str, float]:
        return {"loss/current": current_loss, "loss/average": avr_loss}
