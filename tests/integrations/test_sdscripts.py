"""What sd-scripts calls, in its order, on a stand-in for its networks."""

from __future__ import annotations

import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from kohya_arguments import RANK, arguments
from sdscripts_host import Network, NetworkTrainer, networks_module
from torch import nn

from stiefel_lora import AdamW, ConfigError, OptionError, StiefelLoRA
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations import sdscripts
from stiefel_lora.integrations._kohya_names import shown_name


class SdxlUNet2DConditionModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = {"to_q": nn.Linear(12, 16), "to_out_0": nn.Linear(16, 8)}
        self.input_blocks = nn.ModuleList([nn.ModuleDict(layers)])
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        block = self.input_blocks[0]
        return block["to_out_0"](torch.tanh(block["to_q"](x)))


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> type[NetworkTrainer]:
    monkeypatch.setitem(sys.modules, "networks", types.ModuleType("networks"))
    monkeypatch.setitem(sys.modules, "networks.lora", networks_module())
    trainer = type("Trainer", (NetworkTrainer,), {})
    module = types.ModuleType("train_network")
    module.NetworkTrainer = trainer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "train_network", module)
    return trainer


def start(
    args: Any, unet: nn.Module | None = None, **settings: str
) -> tuple[Network, nn.Module, list[dict[str, Any]]]:
    """From the host's ``create_network`` to its parameter groups."""
    unet = unet or SdxlUNet2DConditionModel()
    network = sdscripts.create_network(
        1.0,
        args.network_dim,
        args.network_alpha,
        None,
        [None, None],
        unet,
        neuron_dropout=None,
        dropout=None,
        **settings,
    )
    network.prepare_network(args)
    network.apply_to([None, None], unet, False, True)
    if args.network_weights is not None:
        network.load_weights(args.network_weights)
    groups, _ = network.prepare_optimizer_params(None, None, args.learning_rate)
    return network, unet, groups


def orthonormal(network: Network) -> bool:
    ups = (up for lora in network.unet_loras for up, _ in lora.factors())
    return all(orthogonality_error(up.detach()) <= 1e-5 for up in ups)


def train(unet: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    torch.manual_seed(1)
    x, goal = torch.randn(64, 12), torch.randn(64, 8)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        (unet(x) - goal).square().mean().backward()
        optimizer.step()


def test_it_starts_orthonormal_with_alpha_the_rank(caplog: Any) -> None:
    x, args = torch.randn(5, 12), arguments()
    plain = SdxlUNet2DConditionModel()(x)
    with caplog.at_level(logging.WARNING):
        network, unet, groups = start(args)
        StiefelLoRA(groups, lr=args.learning_rate)
    assert orthonormal(network)
    assert torch.equal(unet(x), plain)
    assert [float(lora.alpha) for lora in network.unet_loras] == [RANK, RANK]
    assert [lora.scale for lora in network.unet_loras] == [1.0, 1.0]
    # The host's metadata says what the file holds.
    assert args.network_alpha == RANK
    (record,) = caplog.records
    assert "--network_alpha differs from --network_dim in 2 layers" in record.message


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (
            {"learning_rate": 2e-6},
            "--learning_rate is 2e-06, while the default of Stiefel LoRA",
        ),
        ({"unet_lr": 1e-4}, "--unet_lr is 0.0001, while the default of Stiefel LoRA"),
    ],
)
def test_a_rate_for_adamw_is_logged(
    rates: dict[str, float], words: str, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        start(arguments(network_alpha=RANK, **rates))
    (record,) = caplog.records
    assert words in record.message


@pytest.mark.parametrize(
    ("given", "usual"),
    [
        (["step='factors'", "a_rule='adamw'"], 1e-4),
        (["step='factors'", "momentum=0.9", 'a_rule = "sign"'], 1e-3),
        (["step='factors'"], 2e-2),
        (None, 2e-2),
    ],
)
def test_the_usual_rate_is_that_of_the_options(
    given: list[str] | None, usual: float, caplog: Any
) -> None:
    settings = {"network_alpha": RANK, "optimizer_args": given}
    with caplog.at_level(logging.WARNING):
        start(arguments(learning_rate=usual, **settings))
    assert not caplog.records
    start(arguments(learning_rate=usual / 20, **settings))
    assert (
        f"while the default of Stiefel LoRA is {usual:g}." in caplog.records[0].message
    )


@pytest.mark.parametrize("rates", [{"learning_rate": 1e-4}, {"unet_lr": 1.0}])
def test_a_rate_is_logged_once(rates: dict[str, float], caplog: Any) -> None:
    args = arguments(network_alpha=RANK, **rates)
    _, unet, groups = start(args)
    for group in groups:
        group["lr"] = next(iter(rates.values()))
    optimizer = StiefelLoRA(groups, lr=args.learning_rate)
    train(unet, optimizer, 4)
    assert caplog.text.count("while the default of") == 1


def test_a_rate_of_another_part_is_logged_by_the_optimizer(caplog: Any) -> None:
    args = arguments(network_alpha=RANK)
    _, unet, groups = start(args)
    for group in groups:
        group["lr"] = 1e-4
    train(unet, StiefelLoRA(groups, lr=args.learning_rate), 4)
    assert caplog.text.count("lr=0.0001 is 200 times below 0.02") == 1


def test_names_and_pairs_reach_the_optimizer() -> None:
    network, unet, groups = start(arguments(), loraplus_lr_ratio="16")
    assert len(groups) == 2
    optimizer = StiefelLoRA(groups, lr=1e-2)
    names = [pair.name for pair in optimizer.pairs]
    assert names == [
        "lora_unet_input_blocks_0_to_q",
        "lora_unet_input_blocks_0_to_out_0",
    ]
    assert [group["lr"] for group in optimizer.param_groups] == [2e-2, 0.32]
    train(unet, optimizer, 5)
    assert orthonormal(network)
    assert all(lora.lora_down.weight.any() for lora in network.unet_loras)


def test_a_foreign_optimizer_gets_the_hosts_own_network() -> None:
    args = arguments(optimizer_type="AdamW")
    network, unet, groups = start(args)
    assert args.network_alpha == 1
    assert all(not lora.lora_up.weight.any() for lora in network.unet_loras)
    assert [lora.scale for lora in network.unet_loras] == [0.25, 0.25]
    # Keys of ours in a group do not disturb it.
    train(unet, torch.optim.AdamW(groups, lr=1e-3), 2)


def test_our_adamw_keeps_alpha_free() -> None:
    args = arguments(optimizer_type="stiefel_lora.AdamW")
    network, unet, groups = start(args)
    assert [lora.scale for lora in network.unet_loras] == [0.25, 0.25]
    train(unet, AdamW(groups, lr=1e-3), 2)


@pytest.mark.parametrize("parts", [1, 2])
def test_loaded_weights_keep_their_product(tmp_path: Path, parts: int) -> None:
    """A LoRA of another trainer with alpha 2: its scale is folded into A."""
    file = tmp_path / "lora.pt"
    donor = Network(SdxlUNet2DConditionModel(), RANK, 2.0, None, parts)
    donor.apply_to(None, None, False, True)
    for lora in donor.unet_loras:
        for up, _ in lora.factors():
            nn.init.normal_(up)
    torch.save(donor.state_dict(), file)
    args = arguments(network_weights=str(file))
    network, _, groups = start(args, split_qkv=str(parts == 2))
    for mine, theirs in zip(network.unet_loras, donor.unet_loras, strict=True):
        for own, given in zip(mine.factors(), theirs.factors(), strict=True):
            product = mine.scale * own[0] @ own[1]
            torch.testing.assert_close(product, 0.5 * given[0] @ given[1])
        assert float(mine.alpha) == RANK
    assert len(StiefelLoRA(groups, lr=1e-3).pairs) == 2 * parts


def test_ranks_are_among_the_numbers_of_a_step(host: type[NetworkTrainer]) -> None:
    args = arguments()
    _, unet, groups = start(args)
    optimizer = StiefelLoRA(groups, lr=args.learning_rate)
    sent: list[tuple[int, dict[str, float]]] = []
    for step in range(args.max_train_steps):
        # Of two parts of a batch the host sends the first before the step is counted.
        host().step_logging(sent, {"loss/current": 0.5}, step, 1)
        train(unet, optimizer, 1)
        host().step_logging(sent, {"loss/current": 0.5}, step + 1, 1)
    assert all(logs["loss/current"] == 0.5 for _, logs in sent)
    with_ranks = [step for step, logs in sent if len(logs) > 1]
    assert with_ranks == [5, 10, 12]
    last = sent[-1][1]
    assert 1 <= last["effective_rank.input_blocks.0/to_q"] <= RANK
    assert last["orthogonality/largest"] <= 1e-5
    assert {"effective_rank/mean", "stable_rank.input_blocks.0/to_out_0"} <= set(last)


def test_a_second_network_of_the_process_replaces_the_first(
    host: type[NetworkTrainer],
) -> None:
    for _ in range(2):
        args = arguments(max_train_steps=1)
        start(args)
    sent: list[tuple[int, dict[str, float]]] = []
    host().step_logging(sent, {}, 1, 1)
    ((_, logs),) = sent
    assert sum(name.startswith("effective_rank.") for name in logs) == 2


def test_a_changed_trainer_is_refused_with_a_message(
    host: type[NetworkTrainer], caplog: Any
) -> None:
    del sys.modules["train_network"].NetworkTrainer  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        start(arguments(network_alpha=RANK))
    (record,) = caplog.records
    assert "step_logging(accelerator, logs, global_step, ...) was not" in record.message
    assert "sd-scripts 48d368f" in record.message


@pytest.mark.parametrize("name", ["StiefelLoRA", "StelLA", "Riemannion"])
def test_what_breaks_an_orthonormal_factor_is_refused(name: str) -> None:
    changes = {"optimizer_type": f"stiefel_lora.{name}", "scale_weight_norms": 1.0}
    with pytest.raises(OptionError, match="--scale_weight_norms: rescales the factors"):
        start(arguments(**changes))


@pytest.mark.parametrize("option", ["full_bf16", "full_fp16"])
def test_half_precision_is_trained_with_a_warning(
    host: type[NetworkTrainer], caplog: Any, option: str
) -> None:
    args = arguments(**{option: True})
    with caplog.at_level(logging.WARNING):
        network, _, groups = start(args)
        optimizer = StiefelLoRA(groups, lr=args.learning_rate)
    assert f"--{option} keeps the LoRA in half precision" in caplog.text
    # The host casts the network after the optimizer was made.
    network.to(torch.bfloat16 if option == "full_bf16" else torch.float16)
    for pair in optimizer.pairs:
        for factor in (pair.up, pair.down):
            factor.grad = torch.ones_like(factor)
    optimizer.step()
    for pair in optimizer.pairs:
        assert orthogonality_error(optimizer.state[pair.up]["master"]) <= 1e-5
        assert pair.down.any()


def test_layers_below_the_rank_are_left_to_adamw(
    host: type[NetworkTrainer], caplog: Any
) -> None:
    args = arguments(network_dim=10)
    with caplog.at_level(logging.INFO):
        network, unet, groups = start(args)
        optimizer = StiefelLoRA(groups, lr=args.learning_rate)
    fits, wide = network.unet_loras
    assert orthogonality_error(fits.lora_up.weight.detach()) <= 1e-5
    assert not wide.lora_up.weight.any()
    assert wide.lora_down.weight.any()
    assert [pair.name for pair in optimizer.pairs] == [fits.lora_name]
    assert "lora_unet_input_blocks_0_to_out_0" in caplog.text
    train(unet, optimizer, 2)
    sent: list[tuple[int, dict[str, float]]] = []
    host().step_logging(sent, {}, args.max_train_steps, 1)
    ((_, logs),) = sent
    assert logs["orthogonality/largest"] <= 1e-5
    assert "effective_rank.input_blocks.0/to_out_0" in logs
    assert "orthogonality.input_blocks.0/to_out_0" not in logs


def test_an_unknown_model_needs_base_module() -> None:
    class Other(nn.Module):
        pass

    with pytest.raises(
        ConfigError, match=r"module of Other is unknown.*base_module=networks"
    ):
        sdscripts.create_network(1.0, RANK, 1, None, None, Other())


def test_a_network_that_is_no_lora_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("other.kind")
    module.create_network = lambda *args, **kwargs: nn.Linear(2, 2)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "other", types.ModuleType("other"))
    monkeypatch.setitem(sys.modules, "other.kind", module)
    with pytest.raises(ConfigError, match="does not create a supported LoRA network"):
        sdscripts.create_network(
            1.0, RANK, 1, None, None, nn.Module(), base_module="other.kind"
        )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lora_unet_middle_block_1_proj_in", "middle_block.1.proj_in"),
        ("lora_unet_single_blocks_37_linear1", "single_blocks.37.linear1"),
        ("lora_te_text_model_encoder", "te.text_model_encoder"),
        ("lora_unet_time_embed_0", "time_embed_0"),
        ("lora_unet_layers_0_attention_to_q", "layers.0.attention_to_q"),
        ("lora_unet_blocks_9_ffn_0", "blocks.9.ffn_0"),
        (
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
            "down_blocks.1.attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        ("lora_unet_final_layer_linear", "final_layer_linear"),
    ],
)
def test_shown_names(name: str, shown: str) -> None:
    assert shown_name(name) == shown
