"""Network module for sd-scripts.

    --network_module stiefel_lora.integrations.sdscripts
    --optimizer_type stiefel_lora.StiefelLoRA

The network of sd-scripts is used, so ``--network_args`` and the format of saved files
are the same. In addition, layers are initialized for the optimizer, alpha is set to the
rank for optimizers that control the scale, the names of the parameters are passed to
the optimizer, and the ranks of every block are logged to the trackers of sd-scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor

from ._kohya_network import adopt, host_networks
from ._step_logs import TESTED, add_to_step_logs

__all__ = ["create_network", "create_network_from_weights"]

# Denoiser class of the host -> its network module.
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
    """Create a network for ``--network_dim``. This function is called by sd-scripts.

    ``settings`` are the values of ``--network_args``. For models that are not in the
    list above, ``base_module=networks.NAME`` selects the network module of sd-scripts.

    Raises:
        ConfigError: If the network module of the model is unknown.
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
    """Create a network for ``--dim_from_weights`` and ``--base_weights``.

    With ``--base_weights``, the model must be in the list above, because
    ``--network_args`` are not available.

    Raises:
        ConfigError: If the network module of the model is unknown.
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
