"""What musubi-tuner calls, in its order, on a stand-in for its networks."""

from __future__ import annotations

import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from kohya_arguments import RANK, arguments
from musubi_host import (
    MODULE,
    TRAINER,
    Accelerator,
    MusubiNetwork,
    NetworkTrainer,
    WanModel,
    build_network,
    networks_module,
)
from torch import nn

from stiefel_lora import ConfigError, OptionError, StiefelLoRA
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations import musubi


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> type[NetworkTrainer]:
    trainer = type("Trainer", (NetworkTrainer,), {})
    module = types.ModuleType(TRAINER)
    module.NetworkTrainer = trainer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, TRAINER, module)
    monkeypatch.setitem(sys.modules, MODULE, networks_module())
    for name in (MODULE, TRAINER):
        parent = name.rpartition(".")[0]
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, "musubi_tuner", types.ModuleType("musubi_tuner"))
    return trainer


def orthonormal(network: Any) -> bool:
    ups = (up for lora in network.unet_loras for up, _ in lora.factors())
    return all(orthogonality_error(up.detach()) <= 1e-5 for up in ups)


def test_it_starts_orthonormal_with_alpha_the_rank(caplog: Any) -> None:
    args = arguments()
    with caplog.at_level(logging.WARNING):
        network = build_network(musubi, args, WanModel(), loraplus_lr_ratio="16")
        groups, _ = network.prepare_optimizer_params(unet_lr=2e-2)
        optimizer = StiefelLoRA(groups, lr=2e-2)
    assert orthonormal(network)
    assert [float(lora.alpha) for lora in network.unet_loras] == [RANK, RANK]
    assert args.network_alpha == RANK
    names = [pair.name for pair in optimizer.pairs]
    assert names == ["lora_unet_blocks_0_q", "lora_unet_blocks_0_o"]
    assert [group["lr"] for group in optimizer.param_groups] == [2e-2, 0.32]
    alpha, rates = (record.message for record in caplog.records)
    assert "--network_alpha differs from --network_dim in 2 layers" in alpha
    assert "2 LoRA pairs have two learning rates" in rates


def test_loaded_weights_keep_their_product(tmp_path: Path) -> None:
    donor = MusubiNetwork(WanModel(), RANK, 2.0, None)
    donor.apply_to(None, None, False, True)
    for lora in donor.unet_loras:
        nn.init.normal_(lora.factors()[0][0])
    torch.save(donor.state_dict(), tmp_path / "lora.pt")
    args = arguments(network_weights=str(tmp_path / "lora.pt"))
    network = build_network(musubi, args, WanModel())
    for mine, theirs in zip(network.unet_loras, donor.unet_loras, strict=True):
        (up, down), (given_up, given_down) = mine.factors()[0], theirs.factors()[0]
        torch.testing.assert_close(mine.scale * up @ down, 0.5 * given_up @ given_down)


def test_ranks_are_logged_after_steps(host: type[NetworkTrainer]) -> None:
    args = arguments()
    build_network(musubi, args, WanModel())
    accelerator = Accelerator()
    for step in range(args.max_train_steps):
        # Of two parts of a batch the first ends without a step of the optimizer.
        for whole in (False, True):
            host().on_post_optimizer_step(
                args, accelerator, None, None, whole, global_step=step
            )
    assert [step for step, _ in accelerator.sent] == [5, 10, 12]
    last = accelerator.sent[-1][1]
    assert last["orthogonality/largest"] <= 1e-5
    assert {"effective_rank/mean", "effective_rank.blocks.0/q"} <= set(last)


def test_nothing_is_measured_without_trackers(host: type[NetworkTrainer]) -> None:
    args = arguments(max_train_steps=1)
    build_network(musubi, args, WanModel())
    accelerator = Accelerator(trackers=0)
    host().on_post_optimizer_step(args, accelerator, None, None, True, 0)
    assert not accelerator.sent


def test_a_changed_trainer_is_refused_with_a_message(
    host: type[NetworkTrainer], caplog: Any
) -> None:
    host.on_post_optimizer_step = lambda self, step: None  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        build_network(musubi, arguments(network_alpha=RANK), WanModel())
    (record,) = caplog.records
    assert "NetworkTrainer.on_post_optimizer_step(" in record.message
    assert "musubi-tuner 30c658c" in record.message


def test_base_weights_get_the_hosts_own_network() -> None:
    weights = {"lora_unet_blocks_0_q.lora_down.weight": torch.ones(2, 12)}
    network = musubi.create_arch_network_from_weights(
        1.0, weights, unet=WanModel(), for_inference=True
    )
    assert all(not lora.lora_up.weight.any() for lora in network.unet_loras)
    taken = musubi.create_arch_network_from_weights(1, weights, unet=WanModel())
    taken.prepare_network(arguments())
    assert orthonormal(taken)


def test_what_rescales_b_is_refused() -> None:
    with pytest.raises(OptionError, match="--scale_weight_norms: rescales the factors"):
        build_network(musubi, arguments(scale_weight_norms=1.0), WanModel())


def test_an_unknown_model_needs_base_module() -> None:
    with pytest.raises(
        ConfigError, match=r"module of Linear is unknown.*base_module=networks"
    ):
        build_network(musubi, arguments(), nn.Linear(2, 2))


def test_layers_of_another_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """LoHa and LoKr keep theirs in lists of the same names."""
    network = types.SimpleNamespace(text_encoder_loras=[], unet_loras=[nn.Module()])
    module = types.ModuleType("networks.loha")
    module.create_arch_network = lambda *_, **__: network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "networks", types.ModuleType("networks"))
    monkeypatch.setitem(sys.modules, "networks.loha", module)
    with pytest.raises(ConfigError, match="does not create a supported LoRA network"):
        build_network(musubi, arguments(), WanModel(), base_module="networks.loha")
