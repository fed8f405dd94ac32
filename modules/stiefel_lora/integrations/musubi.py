"""Network module for musubi-tuner.

    --network_module stiefel_lora.integrations.musubi
    --optimizer_type stiefel_lora.StiefelLoRA

It has the same features as :mod:`.sdscripts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor

from ._kohya_network import adopt, host_networks
from ._musubi_logs import TESTED, log_after_steps

__all__ = [
    "create_arch_network",
    "create_arch_network_from_weights",
    "prepare_network",
]

# Model classes of the host -> its network modules.
NETWORKS = {
    model: f"musubi_tuner.networks.{module}"
    for model, module in {
        "HYVideoDiffusionTransformer": "lora",
        "HunyuanVideo_1_5_DiffusionTransformer": "lora_hv_1_5",
        "HunyuanVideoTransformer3DModelPacked": "lora_framepack",
        "WanModel": "lora_wan",
        "Flux": "lora_flux",
        "Flux2": "lora_flux_2",
        "QwenImageTransformer2DModel": "lora_qwen_image",
        "ZImageTransformer2DModel": "lora_zimage",
        "DiffusionTransformer3D": "lora_kandinsky",
        "Ideogram4Transformer": "lora_ideogram4",
        "SingleStreamDiT": "lora_krea2",
        "Qwen3VLForConditionalGeneration": "lora_hidream_o1",
    }.items()
}


def create_arch_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: Any,
    text_encoders: Any,
    unet: Any,
    **settings: Any,
) -> Any:
    """Create a network for ``--network_dim``. This function is called by musubi-tuner.

    ``settings`` are the values of ``--network_args``. For models that are not in the
    list above, ``base_module=networks.NAME`` selects the network module of
    musubi-tuner.

    Raises:
        ConfigError: If the network module of the model is unknown.
    """
    host = _host(unet, settings, "create_arch_network")
    network = host.create_arch_network(
        multiplier, network_dim, network_alpha, vae, text_encoders, unet, **settings
    )
    return _adopt(network, host)


def create_arch_network_from_weights(
    multiplier: float,
    weights_sd: Mapping[str, Tensor],
    text_encoders: Any = None,
    unet: Any = None,
    for_inference: bool = False,
    **settings: Any,
) -> Any:
    """Create a network for ``--base_weights`` and ``--dim_from_weights``.

    Raises:
        ConfigError: If the network module of the model is unknown.
    """
    host = _host(unet, settings, "create_arch_network_from_weights")
    network = host.create_arch_network_from_weights(
        multiplier, weights_sd, text_encoders, unet, for_inference, **settings
    )
    return network if for_inference else _adopt(network, host)


def prepare_network(network: Any, args: Any) -> None:
    """Do nothing. musubi-tuner checks that this function exists."""
    network.prepare_network(args)


def _host(model: Any, settings: dict[str, Any], makes: str) -> ModuleType:
    return host_networks(model, settings, NETWORKS, makes=makes, tested=TESTED)


def _adopt(network: Any, host: ModuleType) -> Any:
    return adopt(network, log_after_steps, module=host.__name__, tested=TESTED)
