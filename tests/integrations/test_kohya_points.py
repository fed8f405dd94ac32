"""Trainers of kohya that changed: refused by name, or warned of, never silent."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import musubi_host
import pytest
import sdscripts_host
import torch
from kohya_arguments import RANK, arguments
from torch import nn

import stiefel_lora
from stiefel_lora import AdamW, ConfigError, LoRAPlus, StelLA, StiefelLoRA
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations import musubi, sdscripts

TESTED = {"sdscripts": "sd-scripts 48d368f", "musubi": "musubi-tuner 30c658c"}
PAIR_METHODS = ("StiefelLoRA", "StelLA", "LoRAPlus")
LAYER = ("lora_name", "lora_dim", "alpha", "scale", "lora_down", "lora_up")


class SdxlUNet2DConditionModel(musubi_host.WanModel):
    """The same layers under the name that sd-scripts gives to its UNet."""


@pytest.fixture(autouse=True)
def trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = {
        "networks": types.ModuleType("networks"),
        "networks.lora": sdscripts_host.networks_module(),
        "train_network": types.ModuleType("train_network"),
        musubi_host.MODULE: musubi_host.networks_module(),
        musubi_host.TRAINER: types.ModuleType(musubi_host.TRAINER),
    }
    modules["train_network"].NetworkTrainer = sdscripts_host.NetworkTrainer
    modules[musubi_host.TRAINER].NetworkTrainer = musubi_host.NetworkTrainer
    for name in (*modules, *TESTED):
        parent = name.rpartition(".")[0]
        while parent and parent not in modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
            parent = parent.rpartition(".")[0]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def made(host: str, rank: int = RANK, alpha: float = 1.0, **settings: str) -> Any:
    """The network that the host gets from our module."""
    if host == "sdscripts":
        unet = SdxlUNet2DConditionModel()
        return sdscripts.create_network(
            1.0, rank, alpha, None, [], unet, neuron_dropout=None, **settings
        )
    return musubi.create_arch_network(
        1.0, rank, alpha, None, None, musubi_host.WanModel(), **settings
    )


def groups_of(host: str, network: Any) -> Any:
    """What the host makes of it for its optimizer."""
    if host == "sdscripts":
        return network.prepare_optimizer_params(None, None, 2e-2)[0]
    return network.prepare_optimizer_params(unet_lr=2e-2)[0]


def renamed(build: Callable[..., Any], change: Callable[[Any], None]) -> Any:
    """A host's function whose networks are of another version."""

    def create(*args: Any, **kwargs: Any) -> Any:
        network = build(*args, **kwargs)
        change(network)
        return network

    return create


def change_host(host: str, change: Callable[[Any], None]) -> None:
    name, function = {
        "sdscripts": ("networks.lora", "create_network"),
        "musubi": (musubi_host.MODULE, "create_arch_network"),
    }[host]
    module = sys.modules[name]
    setattr(module, function, renamed(getattr(module, function), change))


def rename_in_layers(name: str) -> Callable[[Any], None]:
    def change(network: Any) -> None:
        for lora in network.unet_loras:
            setattr(lora, f"new_{name}", getattr(lora, name))
            delattr(lora, name)

    return change


def rename_in_network(name: str) -> Callable[[Any], None]:
    def change(network: Any) -> None:
        setattr(network, f"new_{name}", getattr(network, name))
        delattr(network, name)

    return change


@pytest.mark.parametrize("host", list(TESTED))
@pytest.mark.parametrize("method", PAIR_METHODS)
def test_a_host_that_calls_nothing_is_refused_by_the_optimizer(
    host: str, method: str
) -> None:
    network = made(host)
    network.apply_to(None, None, False, True)
    make = getattr(stiefel_lora, method)
    with pytest.raises(ConfigError, match=r"prepare_network.*prepare_optimizer_params"):
        make(network.parameters(), lr=1e-2)
    with pytest.raises(
        ConfigError, match=rf"{method} is not available.*{TESTED[host]}"
    ):
        make(groups_of(host, network), lr=1e-2)
    # Any other optimizer trains the host's own network, as before.
    torch.optim.AdamW(groups_of(host, network), lr=1e-3)
    AdamW(groups_of(host, network), lr=1e-3)
    assert all(lora.scale == 1 / RANK for lora in network.unet_loras)


@pytest.mark.parametrize("host", list(TESTED))
def test_a_host_that_makes_groups_itself_is_refused(host: str) -> None:
    network = made(host)
    network.prepare_network(arguments())
    network.apply_to(None, None, False, True)
    with pytest.raises(
        ConfigError, match=r"lacks the call of .*optimizer_params\("
    ) as e:
        StiefelLoRA([{"params": list(network.parameters())}], lr=1e-2)
    assert "prepare_network" not in str(e.value)
    StiefelLoRA(groups_of(host, network), lr=1e-2)


@pytest.mark.parametrize("host", list(TESTED))
@pytest.mark.parametrize("name", LAYER)
def test_a_renamed_part_of_a_layer_is_named(host: str, name: str, caplog: Any) -> None:
    change_host(host, rename_in_layers(name))
    network = made(host)
    words = rf"Stiefel LoRA is not available.*Lora\.{name}.*{TESTED[host]}"
    with pytest.raises(ConfigError, match=words):
        network.prepare_network(arguments())
    with caplog.at_level(logging.WARNING):
        made(host).prepare_network(arguments(optimizer_type="AdamW"))
    (record,) = caplog.records
    assert f"lacks Lora.{name}. Its network is used without changes" in record.message
    # The host's own call would fail at its own old name; ours is not in its way.
    if name not in ("lora_name", "lora_down", "lora_up"):
        other = made(host)
        other.prepare_network(arguments(optimizer_type="AdamW"))
        torch.optim.AdamW(groups_of(host, other), lr=1e-3)


@pytest.mark.parametrize("host", list(TESTED))
@pytest.mark.parametrize("name", ["unet_loras", "text_encoder_loras"])
def test_a_renamed_list_is_named(host: str, name: str, caplog: Any) -> None:
    change_host(host, rename_in_network(name))
    with pytest.raises(ConfigError, match=rf"lacks network\.{name}, .*{TESTED[host]}"):
        made(host).prepare_network(arguments())
    with caplog.at_level(logging.WARNING):
        made(host).prepare_network(arguments(optimizer_type="AdamW"))
    (record,) = caplog.records
    assert f"lacks network.{name}. " in record.message
    # Even where the host does not call it either.
    network = made(host)
    layers = [
        *vars(network).get(f"new_{name}", []),
        *vars(network).get("unet_loras", []),
    ]
    given = [p for lora in layers for p in lora.parameters() if p.requires_grad]
    with pytest.raises(ConfigError, match=name):
        StiefelLoRA(given, lr=1e-2)


@pytest.mark.parametrize("host", list(TESTED))
def test_renamed_groups_and_settings_are_named(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = made(host)
    changed = arguments()
    del changed.optimizer_type
    network.prepare_network(changed)
    torch.optim.AdamW(groups_of(host, network), lr=1e-3)
    with pytest.raises(ConfigError, match=r"lacks args\.optimizer_type, "):
        StiefelLoRA(groups_of(host, network), lr=1e-2)
    for kind in (sdscripts_host.Network, musubi_host.MusubiNetwork):
        monkeypatch.delattr(kind, "prepare_optimizer_params")
    with pytest.raises(ConfigError, match=r"lacks network\.prepare_optimizer_params, "):
        made(host).prepare_network(arguments())


@pytest.mark.parametrize("host", list(TESTED))
@pytest.mark.parametrize(
    "name",
    [
        *("seed", "learning_rate", "scale_weight_norms"),
        *("network_alpha", "network_module", "max_train_steps"),
    ],
)
def test_a_renamed_setting_that_is_nice_to_have_is_warned_of(
    host: str, name: str, caplog: Any
) -> None:
    given = arguments(network_alpha=RANK)
    delattr(given, name)
    network = made(host, alpha=RANK)
    with caplog.at_level(logging.WARNING):
        network.prepare_network(given)
        network.apply_to(None, None, False, True)
        StiefelLoRA(groups_of(host, network), lr=2e-2)
    (record,) = caplog.records
    assert f"--{name} is not a setting of this trainer" in record.message
    assert TESTED[host] in record.message
    for lora in network.unet_loras:
        assert orthogonality_error(lora.lora_up.weight.detach()) <= 1e-5


@pytest.mark.parametrize("host", list(TESTED))
def test_a_lora_that_is_loaded_by_another_name_keeps_its_product(
    host: str, tmp_path: Path
) -> None:
    change_host(host, lambda network: None)
    network = made(host)
    network.prepare_network(arguments())
    network.apply_to(None, None, False, True)
    donor = {}
    for name, value in network.state_dict().items():
        donor[name] = torch.tensor(2.0) if "alpha" in name else torch.randn(value.shape)
    # What a host does that no longer calls load_weights.
    network.load_state_dict(donor)
    StiefelLoRA(groups_of(host, network), lr=2e-2)
    for lora in network.unet_loras:
        up, down = (donor[f"{lora.lora_name}.lora_{h}.weight"] for h in ("up", "down"))
        product = lora.scale * lora.lora_up.weight @ lora.lora_down.weight
        torch.testing.assert_close(product, 2.0 / RANK * up @ down)
        assert float(lora.alpha) == RANK


@pytest.mark.parametrize("host", list(TESTED))
def test_network_modules_that_are_gone_are_named(host: str) -> None:
    with pytest.raises(ConfigError, match=rf"no networks\.old .*{TESTED[host]}"):
        made(host, base_module="networks.old")
    sys.modules["networks.new"] = types.ModuleType("networks.new")
    try:
        with pytest.raises(ConfigError, match=r"networks\.new has no create_"):
            made(host, base_module="networks.new")
    finally:
        del sys.modules["networks.new"]


@pytest.mark.parametrize(
    ("host", "module"),
    [("sdscripts", "networks.lora"), ("musubi", "networks.lora_wan")],
)
@pytest.mark.parametrize("optimizer", ["stiefel_lora.StiefelLoRA", "AdamW"])
def test_metadata_names_the_network_of_the_host(
    host: str, module: str, optimizer: str
) -> None:
    args = arguments(optimizer_type=optimizer)
    made(host).prepare_network(args)
    # The host writes it as ss_network_module.
    assert args.network_module == module


@pytest.mark.parametrize("host", list(TESTED))
@pytest.mark.parametrize(("alpha", "shown"), [(1.0, "0.25"), (2.0, "0.5"), (8.0, "2")])
def test_alpha_and_its_effect_on_the_rate_are_logged_once(
    host: str, alpha: float, shown: str, caplog: Any
) -> None:
    method = {"sdscripts": StelLA, "musubi": LoRAPlus}[host]
    args = arguments(
        optimizer_type=f"stiefel_lora.{method.__name__}",
        learning_rate=5e-4 if host == "sdscripts" else 5e-5,
        network_alpha=alpha,
    )
    network = made(host, alpha=alpha)
    with caplog.at_level(logging.WARNING):
        network.prepare_network(args)
        network.apply_to(None, None, False, True)
        groups_of(host, network)
        method(groups_of(host, network), lr=args.learning_rate)
    notes = [r.message for r in caplog.records if "alpha / rank" in r.message]
    assert len(notes) == 1
    assert f"alpha / rank is {shown} in 2 layers" in notes[0]
    assert all(lora.scale == alpha / RANK for lora in network.unet_loras)


@pytest.mark.parametrize("host", list(TESTED))
def test_nothing_is_logged_about_alpha_if_it_is_the_rank(
    host: str, caplog: Any
) -> None:
    args = arguments(optimizer_type="stiefel_lora.StelLA", network_alpha=RANK)
    args.learning_rate = 5e-4
    network = made(host, alpha=RANK)
    with caplog.at_level(logging.WARNING):
        network.prepare_network(args)
        network.apply_to(None, None, False, True)
        StelLA(groups_of(host, network), lr=5e-4)
    assert not caplog.records


def test_another_network_is_refused_with_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = types.SimpleNamespace(text_encoder_loras=[], unet_loras=[nn.Module()])
    module = types.ModuleType("networks.loha")
    module.create_network = lambda *_, **__: network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "networks.loha", module)
    words = (
        "does not create a supported LoRA network.*neither lora_down nor lora_up"
        ".*sd-scripts 48d368f"
    )
    with pytest.raises(ConfigError, match=words):
        made("sdscripts", base_module="networks.loha")
