"""A stand-in for sd-scripts: its call order and what its networks show, in small.

Imitates train_network.py (create_network to get_optimizer, step_logging) and
networks/lora.py and lora_flux.py (LoRAModule, LoRANetwork) of commit 48d368f, in words
of our own.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn


class Lora(nn.Module):
    """One layer: factors, the alpha buffer, the scale of the product.

    Until it is applied it holds the layer itself, whose weights are then among its
    parameters. A split layer has a list of factors, one for each part of its output.
    """

    def __init__(
        self, name: str, layer: nn.Linear, rank: int, alpha: float, parts: int = 1
    ) -> None:
        super().__init__()
        self.lora_name = name
        self.lora_dim = rank
        width, out = layer.in_features, layer.out_features // parts
        downs = [nn.Linear(width, rank, bias=False) for _ in range(parts)]
        ups = [nn.Linear(rank, out, bias=False) for _ in range(parts)]
        for up in ups:
            nn.init.zeros_(up.weight)
        self.lora_down = downs[0] if parts == 1 else nn.ModuleList(downs)
        self.lora_up = ups[0] if parts == 1 else nn.ModuleList(ups)
        self.scale = alpha / rank
        self.register_buffer("alpha", torch.tensor(alpha))
        self.org_module = layer

    def factors(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        downs, ups = list(self.lora_down.parameters()), list(self.lora_up.parameters())
        return list(zip(ups, downs, strict=True))

    def apply_to(self) -> None:
        forward = self.org_module.forward

        def with_lora(x: torch.Tensor) -> torch.Tensor:
            moved = [x @ (up @ down).mT for up, down in self.factors()]
            return forward(x) + torch.cat(moved, -1) * self.scale

        self.org_module.forward = with_lora
        del self.org_module


class Network(nn.Module):
    """Layers are registered when they are applied, as in the host."""

    def __init__(
        self, unet: nn.Module, rank: int, alpha: float, ratio: Any, parts: int = 1
    ) -> None:
        super().__init__()
        self.text_encoder_loras: list[Lora] = []
        self.unet_loras = [
            Lora("lora_unet_" + name.replace(".", "_"), layer, rank, alpha, parts)
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
        parts = 2 if kwargs.get("split_qkv") == "True" else 1
        return Network(unet, network_dim, alpha, ratio, parts)

    module.create_network = create_network  # type: ignore[attr-defined]
    return module


class NetworkTrainer:
    """The part of the trainer that sends a step's numbers to the trackers."""

    def step_logging(
        self, accelerator: Any, logs: dict[str, float], global_step: int, epoch: int
    ) -> None:
        accelerator.append((global_step, logs))
