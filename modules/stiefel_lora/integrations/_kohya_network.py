"""A LoRA network of kohya's trainers with the start, alpha and names of a method.

sd-scripts and musubi-tuner make networks of one kind: a list of layers, each with
``lora_down``, ``lora_up``, an ``alpha`` buffer and a ``scale``. The network stays the
host's own; what is ours is put around the methods that the host calls.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .._exceptions import ConfigError, OptionError
from ..methods import CATALOGUE, Method
from ..optim.alpha import ALPHA_IS_RANK
from ..optim.pairs import Pair, find_pairs
from ..optim.rule import keeps_orthonormal
from ._kohya_names import shown_name
from ._start import start_layers

__all__ = ["adopt", "host_networks"]

log = logging.getLogger("stiefel_lora")

Watch = Callable[[Callable[[], Sequence[Pair]], bool, Any], None]

_GROUPINGS = (
    "prepare_optimizer_params",
    "prepare_optimizer_params_with_multiple_te_lrs",
)


def host_networks(
    model: Any, settings: dict[str, Any], known: Mapping[str, str]
) -> Any:
    """Import the host's network module for a model.

    Args:
        model: what the host trains.
        settings: ``--network_args``; ``base_module`` is taken out of them.
        known: class of a model -> the host's network module.

    Raises:
        ConfigError: a model whose network module is not known.
    """
    named = settings.pop("base_module", None)
    found = [known.get(kind.__name__) for kind in type(model).__mro__]
    name = named or next((module for module in found if module), None)
    if name is None:
        raise ConfigError(
            f"The model is a {type(model).__name__}, for which no network module is "
            "known; name the one of your trainer: --network_args "
            "base_module=networks.NAME."
        )
    return importlib.import_module(name)


def adopt(network: Any, watch: Watch) -> Any:
    """Put what is ours around the methods that the host calls.

    Args:
        network: made by the host; changed in place.
        watch: told how to get the pairs, whether B is kept orthonormal, and the host's
            settings, to let the host's trackers show the ranks.

    Raises:
        ConfigError: a network of another kind.
    """
    if not _is_of_pairs(network):
        raise ConfigError(
            f"{type(network).__module__} makes no LoRA network that this module can "
            "start; base_module must be one of the trainer's own networks.lora modules."
        )
    earlier = getattr(network, "prepare_network", None)
    load = network.load_weights
    state = {"method": None}

    def prepare_network(args: Any) -> None:
        if earlier is not None:
            earlier(args)
        state["method"] = method = _method_of(args.optimizer_type)
        constrained = method is not None and keeps_orthonormal(method.load())
        if method is not None:
            _tell_rate(args, method)
            if constrained:
                _refuse_what_breaks_b(args, method)
            if method.alpha_policy == "rank":
                _take_rank_as_alpha(network, args)
            start_layers(_named_parameters(network), method, args.seed or 0)
        watch(functools.partial(_shown_pairs, network), constrained, args)

    def load_weights(file: str) -> Any:
        info = load(file)
        method = state["method"]
        if method is not None and method.alpha_policy == "rank":
            _fold_alpha(network)
        return info

    network.prepare_network = prepare_network
    network.load_weights = load_weights
    for grouping in _GROUPINGS:
        if hasattr(network, grouping):
            setattr(network, grouping, _with_names(network, getattr(network, grouping)))
    return network


def _is_of_pairs(network: Any) -> bool:
    """Whether its layers are LoRA: LoHa and LoKr use the same lists."""
    lists = ("text_encoder_loras", "unet_loras")
    if not all(hasattr(network, name) for name in lists):
        return False
    return all(hasattr(lora, "lora_down") for lora in _loras(network))


def _method_of(optimizer_type: str | None) -> Method | None:
    """The method that ``--optimizer_type`` names; None for a foreign optimizer."""
    module, _, name = (optimizer_type or "").rpartition(".")
    if module.partition(".")[0] != "stiefel_lora":
        return None
    classes = {m.target.partition(":")[2]: m for m in CATALOGUE.values()}
    return classes.get(name)


def _tell_rate(args: Any, method: Method) -> None:
    # The host's own default is one for AdamW, and --unet_lr goes before it.
    name = "unet_lr" if getattr(args, "unet_lr", None) else "learning_rate"
    rate = getattr(args, name)
    if rate and not 0.1 <= rate / method.default_lr <= 10:
        log.warning(
            "--%s is %g, where %s usually begins at %g (%s).",
            *(name, rate, method.label, method.default_lr, method.lr_unit),
        )


def _refuse_what_breaks_b(args: Any, method: Method) -> None:
    if getattr(args, "scale_weight_norms", None):
        raise OptionError(
            f"--scale_weight_norms rescales the factors that {method.label} keeps "
            "orthonormal; leave it out."
        )
    for name in ("full_bf16", "full_fp16"):
        if getattr(args, name, False):
            log.warning(
                "--%s keeps the LoRA in half precision: %s moves float32 copies of it, "
                "so that this saves no memory, and the file holds their rounding.",
                *(name, method.label),
            )


def _loras(network: Any) -> list[Any]:
    """The host's LoRA layers; before ``apply_to`` they are in these lists alone."""
    return [*network.text_encoder_loras, *network.unet_loras]


def _named_parameters(network: Any) -> Iterator[tuple[str, nn.Parameter]]:
    for lora in _loras(network):
        for name, parameter in lora.named_parameters():
            if "lora_" in name:
                yield f"{lora.lora_name}.{name}", parameter


def _take_rank_as_alpha(network: Any, args: Any) -> None:
    """Set alpha before anything is loaded: the product is zero, nothing to fold."""
    changed = [lora for lora in _loras(network) if float(lora.alpha) != lora.lora_dim]
    for lora in changed:
        _set_alpha(lora)
    if changed:
        log.warning(
            "--network_alpha was not --network_dim in %d layers and is taken as equal: "
            "the optimizer owns the scale of the product.",
            len(changed),
        )
    # The host writes this one into the file's metadata.
    args.network_alpha = args.network_dim


@torch.no_grad()
def _fold_alpha(network: Any) -> None:
    """Bring a loaded LoRA to alpha = rank; its product stays what it was."""
    for lora in _loras(network):
        scale = float(lora.alpha) / lora.lora_dim
        if scale != 1.0:
            # A module list where the host splits a layer (split_qkv).
            for parameter in lora.lora_down.parameters():
                parameter.mul_(scale)
            _set_alpha(lora)


def _set_alpha(lora: Any) -> None:
    lora.alpha = torch.tensor(float(lora.lora_dim), device=lora.alpha.device)
    lora.scale = 1.0


def _with_names(network: Any, grouping: Callable[..., Any]) -> Callable[..., Any]:
    """Let the groups that the host makes name their parameters."""

    def group(*args: Any, **kwargs: Any) -> Any:
        result = grouping(*args, **kwargs)
        names = {id(p): name for name, p in _named_parameters(network)}
        settled = all(float(lora.alpha) == lora.lora_dim for lora in _loras(network))
        for found in result[0] if isinstance(result, tuple) else result:
            found["params"] = list(found["params"])
            found["lora_param_names"] = [names[id(p)] for p in found["params"]]
            found[ALPHA_IS_RANK] = settled
        return result

    return group


def _shown_pairs(network: Any) -> list[Pair]:
    pairs = find_pairs(_named_parameters(network)).pairs
    return [Pair(shown_name(pair.name), pair.up, pair.down) for pair in pairs]
