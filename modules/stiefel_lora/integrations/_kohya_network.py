"""LoRA networks of kohya trainers, adapted to the optimizers of this package.

The networks of sd-scripts and musubi-tuner are lists of layers with ``lora_down``,
``lora_up``, an ``alpha`` buffer and a ``scale``. The network of the trainer is used,
and its methods are wrapped to set the initialization, alpha and parameter names.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .._exceptions import ConfigError
from ..methods import Method
from ..optim.alpha import ALPHA_IS_RANK, alpha_note
from ..optim.groups import NOTED_LR
from ..optim.pair_optimizer import PairOptimizer
from ..optim.pairs import Pair, find_pairs
from ..optim.rule import keeps_orthonormal
from ._kohya_names import shown_name
from ._kohya_points import GROUPED, GROUPINGS, PREPARED, find_points, loras_of
from ._kohya_settings import (
    check_settings,
    method_of,
    name_own_module,
    name_rank_as_alpha,
    seed_of,
)
from ._start import start_layers

__all__ = ["adopt", "host_networks"]

log = logging.getLogger("stiefel_lora")

Watch = Callable[[Callable[[], Sequence[Pair]], bool, Any], None]


def host_networks(
    model: Any,
    settings: dict[str, Any],
    known: Mapping[str, str],
    *,
    makes: str,
    tested: str,
) -> ModuleType:
    """Import the network module of the trainer for a model.

    Args:
        model: model that is trained.
        settings: values of ``--network_args``. ``base_module`` is removed.
        known: network modules of the trainer by model class.
        makes: name of the function that creates the network.
        tested: version of the trainer that this integration was tested with.

    Raises:
        ConfigError: If the network module of the model is unknown, does not exist, or
            lacks the function.
    """
    named = settings.pop("base_module", None)
    found = [known.get(kind.__name__) for kind in type(model).__mro__]
    name = named or next((module for module in found if module), None)
    if name is None:
        raise ConfigError(
            f"The network module of {type(model).__name__} is unknown. Specify the "
            "one of your trainer with --network_args base_module=networks.NAME."
        )
    try:
        host = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"base_module: this trainer has no {name} (tested with {tested}). "
            "Specify its network module with --network_args "
            "base_module=networks.NAME."
        ) from error
    if not hasattr(host, makes):
        raise ConfigError(
            f"{name} has no {makes}, which the network module of stiefel_lora "
            f"requires. Use the tested version ({tested}), or {name} without "
            "stiefel_lora."
        )
    return host


def adopt(network: Any, watch: Watch, *, module: str, tested: str) -> Any:
    """Wrap the methods of a network.

    Args:
        network: network that was created by the trainer. It is changed in place.
        watch: function that logs the ranks to the trackers of the trainer. Its
            arguments are a function that returns the pairs, whether B is kept
            orthonormal, and the settings of the trainer.
        module: network module of the trainer that created the network.
        tested: version of the trainer that this integration was tested with.

    Raises:
        ConfigError: If the network is not supported.
    """
    adopted = _Adopted(network, watch, module, tested)
    network.prepare_network = adopted.prepare
    if hasattr(network, "load_weights"):
        network.load_weights = adopted.loading(network.load_weights)
    for name in GROUPINGS:
        if hasattr(network, name):
            setattr(network, name, adopted.naming(getattr(network, name)))
    return network


class _Adopted:
    """Wrappers of the methods of a network."""

    def __init__(self, network: Any, watch: Watch, module: str, tested: str) -> None:
        self._network = network
        self._watch = watch
        self._module = module
        self._points = find_points(network, tested)
        self._earlier = getattr(network, "prepare_network", None)
        self._method: Method | None = None
        self._logged = False
        self._noted_lr: float | None = None

    def prepare(self, args: Any) -> None:
        """Initialize the layers for the optimizer.

        Raises:
            ConfigError: If the trainer lacks a function that the method requires.
            OptionError: If a setting rescales an orthonormal B.
        """
        if self._earlier is not None:
            self._earlier(args)
        points = self._points
        points.called(PREPARED)
        method = method_of(args, points)
        kind = None if method is None else method.load()
        if method is not None and kind is not None and issubclass(kind, PairOptimizer):
            refusal = points.refusal(method.label, points.absent)
            if refusal:
                raise ConfigError(refusal)
        name_own_module(args, self._module, points)
        if points.absent:
            log.warning(
                "This version of the trainer lacks %s. Its network is used without "
                "changes, and the ranks of blocks are not logged. Tested with %s.",
                *(", ".join(points.absent), points.tested),
            )
            return
        constrained = keeps_orthonormal(kind)
        if method is not None:
            self._method = method
            self._noted_lr = check_settings(args, method, constrained, points)
            if self._owns_alpha:
                self._take_rank_as_alpha(args)
            named = _named_parameters(self._network)
            start_layers(named, method, seed_of(args, points))
        self._watch(functools.partial(_shown_pairs, self._network), constrained, args)

    def loading(self, load: Callable[[str], Any]) -> Callable[[str], Any]:
        """Convert a loaded LoRA to alpha = rank if the method requires it."""

        def load_weights(file: str) -> Any:
            info = load(file)
            if self._owns_alpha:
                _fold_alpha(self._network)
            return info

        return load_weights

    def naming(self, grouping: Callable[..., Any]) -> Callable[..., Any]:
        """Add parameter names to the parameter groups of the trainer."""

        def group(*args: Any, **kwargs: Any) -> Any:
            result = grouping(*args, **kwargs)
            self._points.called(GROUPED)
            if self._points.absent:
                return result
            if self._owns_alpha:
                # A host may load a LoRA by other means than load_weights.
                _fold_alpha(self._network)
            self._tell_alpha()
            groups = result[0] if isinstance(result, tuple) else result
            _name(self._network, groups)
            for entry in groups:
                entry[NOTED_LR] = self._noted_lr
            return result

        return group

    @property
    def _owns_alpha(self) -> bool:
        return self._method is not None and self._method.alpha_policy == "rank"

    def _tell_alpha(self) -> None:
        """Log once how alpha affects the updates of a method that does not set it."""
        scales = [float(lora.alpha) / lora.lora_dim for lora in loras_of(self._network)]
        note = alpha_note(self._method, scales) if self._method is not None else None
        if note and not self._logged:
            log.warning(note)
        self._logged = True

    def _take_rank_as_alpha(self, args: Any) -> None:
        """Set alpha to the rank before a LoRA is loaded."""
        loras = loras_of(self._network)
        changed = [lora for lora in loras if float(lora.alpha) != lora.lora_dim]
        for lora in changed:
            _set_alpha(lora)
        if changed:
            log.warning(
                "--network_alpha differs from --network_dim in %d layers and is set "
                "to it, because the optimizer controls the scale of the product.",
                len(changed),
            )
        name_rank_as_alpha(args, self._points)


def _named_parameters(network: Any) -> Iterator[tuple[str, nn.Parameter]]:
    for lora in loras_of(network):
        for name, parameter in lora.named_parameters():
            if "lora_" in name:
                yield f"{lora.lora_name}.{name}", parameter


@torch.no_grad()
def _fold_alpha(network: Any) -> None:
    """Convert a loaded LoRA to alpha = rank. The updates of layers do not change."""
    for lora in loras_of(network):
        scale = float(lora.alpha) / lora.lora_dim
        if scale != 1.0:
            # A module list where the host splits a layer (split_qkv).
            for parameter in lora.lora_down.parameters():
                parameter.mul_(scale)
            _set_alpha(lora)


def _set_alpha(lora: Any) -> None:
    lora.alpha = torch.tensor(float(lora.lora_dim), device=lora.alpha.device)
    lora.scale = 1.0


def _name(network: Any, groups: Sequence[dict[str, Any]]) -> None:
    # Other parameters that the host trains are no pairs and are trained by AdamW.
    names = {id(p): name for name, p in network.named_parameters()}
    names |= {id(p): name for name, p in _named_parameters(network)}
    settled = all(float(lora.alpha) == lora.lora_dim for lora in loras_of(network))
    for group in groups:
        group["params"] = list(group["params"])
        group["lora_param_names"] = [
            names.get(id(p), f"unnamed.{id(p)}") for p in group["params"]
        ]
        group[ALPHA_IS_RANK] = settled


def _shown_pairs(network: Any) -> list[Pair]:
    pairs = find_pairs(_named_parameters(network)).pairs
    return [Pair(shown_name(pair.name), pair.up, pair.down) for pair in pairs]
