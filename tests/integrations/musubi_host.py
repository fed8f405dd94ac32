"""A stand-in for musubi-tuner: its call order, on the networks of sd-scripts' stand-in.

Imitates training/trainer_base.py (_build_network to get_optimizer, the end of a step)
and networks/lora.py of commit 30c658c, in words of our own.
"""

from __future__ import annotations

import types
from typing import Any

from sdscripts_host import Network
from torch import nn

MODULE = "musubi_tuner.networks.lora_wan"
TRAINER = "musubi_tuner.training.trainer_base"


class WanModel(nn.Module):
    """Two layers under a name that the host gives to a transformer."""

    def __init__(self) -> None:
        super().__init__()
        layers = {"q": nn.Linear(12, 16), "o": nn.Linear(16, 8)}
        self.blocks = nn.ModuleList([nn.ModuleDict(layers)])
        self.requires_grad_(False)


class MusubiNetwork(Network):
    """The same layers; the host asks for its groups in another way."""

    def prepare_network(self, args: Any) -> None:
        """The host's own does nothing."""

    def prepare_optimizer_params(self, unet_lr: float = 1e-4, **_: Any) -> Any:
        return super().prepare_optimizer_params(None, None, unet_lr)


def networks_module() -> types.ModuleType:
    """What the host's ``networks.lora_wan`` offers."""
    module = types.ModuleType(MODULE)

    def create_arch_network(
        multiplier: float,
        network_dim: int,
        network_alpha: float | None,
        vae: Any,
        text_encoders: Any,
        unet: nn.Module,
        neuron_dropout: float | None = None,
        **kwargs: str,
    ) -> MusubiNetwork:
        ratio = kwargs.get("loraplus_lr_ratio")
        ratio = None if ratio is None else float(ratio)
        return MusubiNetwork(unet, network_dim, network_alpha or 1.0, ratio)

    def create_arch_network_from_weights(
        multiplier: float,
        weights_sd: dict[str, Any],
        text_encoders: Any = None,
        unet: Any = None,
        for_inference: bool = False,
        **kwargs: str,
    ) -> MusubiNetwork:
        rank = next(v for k, v in weights_sd.items() if "lora_down" in k).shape[0]
        return MusubiNetwork(unet, rank, 1.0, None)

    module.create_arch_network = create_arch_network  # type: ignore[attr-defined]
    module.create_arch_network_from_weights = (  # type: ignore[attr-defined]
        create_arch_network_from_weights
    )
    return module


def build_network(module: Any, args: Any, model: nn.Module, **settings: str) -> Any:
    """From ``--network_module`` to the applied network."""
    network = module.create_arch_network(
        1.0,
        args.network_dim,
        args.network_alpha,
        None,
        None,
        model,
        neuron_dropout=None,
        **settings,
    )
    # It is the module that the host asks.
    if hasattr(module, "prepare_network"):
        network.prepare_network(args)
    network.apply_to(None, model, False, True)
    if args.network_weights is not None:
        network.load_weights(args.network_weights)
    return network


class Accelerator:
    """Remembers what it is told to log."""

    def __init__(self, trackers: int = 1) -> None:
        self.trackers = ["tensorboard"] * trackers
        self.sent: list[tuple[int, dict[str, float]]] = []

    def log(self, values: dict[str, float], step: int) -> None:
        self.sent.append((step, values))


class NetworkTrainer:
    """The part of the trainer that is told of a step."""

    def on_post_optimizer_step(
        self,
        args: Any,
        accelerator: Any,
        network: Any,
        transformer: Any,
        sync_gradients: bool,
        global_step: int,
    ) -> None:
        """The host's own does nothing."""
