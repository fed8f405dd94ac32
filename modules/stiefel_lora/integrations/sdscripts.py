"""sd-scripts: its own LoRA network with the start, alpha and names that a method needs.

    --network_module stiefel_lora.integrations.sdscripts
    --optimizer_type stiefel_lora.StiefelLoRA

The network stays the host's own, so ``--network_args`` and the saved files stay what
they were. What is added: layers start where the optimizer needs them, alpha is the rank
for optimizers that own the scale of the product, the optimizer is told the names of its
parameters, and the host's trackers get the ranks of every block.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor

from ._kohya_network import adopt, host_networks
from ._step_logs import TESTED, add_to_step_logs

__all__ = ["create_network", "create_network_from_weights"]

# The class of the denoiser that the host builds, and its network module for it.
_NETWORKS = {
    "SdxlUNet2DConditionModel": "networks.lora",
    "UNet2DConditionModel": "networks.lora",
    "Flux": "networks.lora_flux",
    "MMDiT": "networks.lora_sd3",
    "NextDiT": "networks.lora_lumina",
    "HYImageDiffusionTransformer": "networks.lora_hunyuan_image",
    "Anima": "networks.lora_anima",
}


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: Any,
    text_encoder: Any,
    unet: Any,
    **settings: Any,
) -> Any:
    """What sd-scripts calls for ``--network_dim``; settings are ``--network_args``.

    ``base_module=networks.NAME`` names the host's network module for a model that is
    not in the list above.

    Raises:
        ConfigError: a model whose network module is not known.
    """
    host = _host(unet, settings, "create_network")
    network = host.create_network(
        multiplier, network_dim, network_alpha, vae, text_encoder, unet, **settings
    )
    return _adopt(network, host)


def create_network_from_weights(
    multiplier: float,
    file: str,
    vae: Any,
    text_encoder: Any,
    unet: Any,
    weights_sd: Mapping[str, Tensor] | None = None,
    for_inference: bool = False,
    **settings: Any,
) -> tuple[Any, Any]:
    """What sd-scripts calls for ``--dim_from_weights`` and ``--base_weights``.

    For the latter it passes no ``--network_args``, so the model must be a listed one.

    Raises:
        ConfigError: a model whose network module is not known.
    """
    host = _host(unet, settings, "create_network_from_weights")
    network, weights = host.create_network_from_weights(
        multiplier,
        file,
        vae,
        text_encoder,
        unet,
        weights_sd=weights_sd,
        for_inference=for_inference,
        **settings,
    )
    if for_inference:
        return network, weights
    return _adopt(network, host), weights


def _host(model: Any, settings: dict[str, Any], makes: str) -> ModuleType:
    return host_networks(model, settings, _NETWORKS, makes=makes, tested=TESTED)


def _adopt(network: Any, host: ModuleType) -> Any:
    return adopt(network, add_to_step_logs, module=host.__name__, tested=TESTED)
