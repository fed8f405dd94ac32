"""Inside OneTrainer: its dropdown, config, layers, optimizer, curves.

Against a stand-in that calls what OneTrainer calls in its order; tests/hosts runs
OneTrainer itself.
"""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from onetrainer_stand_in import LABELS, configured, factors, started

from helpers.runs import assert_same_tensors
from stiefel_lora import ConfigError, OptionError, find_pairs
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations.onetrainer import HOOKS, _hooks
from stiefel_lora.integrations.onetrainer._choices import OFFERED, _with_switch
from stiefel_lora.integrations.onetrainer._layers import adapters_of, named_parameters
from stiefel_lora.integrations.onetrainer._points import point
from stiefel_lora.methods import CATALOGUE


def test_the_dropdown_holds_every_method_beside_the_hosts(host: Any) -> None:
    shown = [str(member) for member in host.Optimizer]
    assert shown == ["ADAMW", "SGD", *LABELS]
    assert {"Stiefel LoRA", "StelLA", "LoRA-RITE", "Riemannion"} <= set(shown)
    for member in host.Optimizer:
        assert host.Optimizer[str(member)] is member
        assert host.Optimizer(str(member)) is member
        assert pickle.loads(pickle.dumps(member)) is member
    for alias in ("Stiefel_LoRA", "stiefel_lora"):
        assert str(host.Optimizer[alias]) == "Stiefel LoRA"


def test_the_switch_of_the_pull_request_chooses_stiefel_lora(host: Any) -> None:
    saved = configured(host, "ADAMW").to_dict()
    for switch, chosen in ((True, "Stiefel LoRA"), (False, "ADAMW")):
        data = saved | {"use_stiefel": switch}
        config = host.TrainConfig.default_values().from_dict(data)
        assert str(config.optimizer.optimizer) == chosen
    assert saved["optimizer"]["optimizer"] == "ADAMW"


@pytest.mark.parametrize("label", LABELS)
def test_a_config_keeps_its_optimizer_and_options(host: Any, label: str) -> None:
    method = OFFERED[label]
    config = configured(host, label)
    saved = config.to_dict()
    for option in method.options:
        assert saved["optimizer"][f"{method.name}_{option.name}"] == option.default
    again = host.TrainConfig.default_values().from_dict(saved)
    assert again.to_dict() == saved


@pytest.mark.parametrize("direct", [False, True])
def test_an_unknown_optimizer_is_refused_and_the_rest_is_kept(
    host: Any, direct: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = host.TrainConfig.default_values()
    given = {"optimizer": "Stiefel_Lora"}
    if direct:
        config.optimizer.from_dict(given)
    else:
        config.from_dict({"optimizer": given, "lora_rank": 8})
        assert config.lora_rank == 8
    assert "There is no optimizer 'Stiefel_Lora'" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="Did you mean Stiefel LoRA"):
        host.create.create_trainer(config, None, None).start()
    config.optimizer.from_dict({"optimizer": "ADAMW"})
    host.create.create_trainer(config, None, None).start()


def test_the_hosts_own_optimizers_are_left_alone(host: Any) -> None:
    trainer = started(host, "ADAMW")
    assert type(trainer.model.optimizer) is torch.optim.AdamW
    for name, value in factors(trainer).items():
        assert bool(value.any()) == ("lora_down" in name)
    trainer.train(6)
    assert set(trainer.tensorboard) == {"lr/unet_lora"}
    assert trainer.config.lora_alpha == 1.0


def test_the_windows_alpha_is_kept_for_the_next_training(host: Any) -> None:
    config = configured(host, "Stiefel LoRA")
    host.Trainer(config).start()
    config.optimizer.optimizer = host.Optimizer["ADAMW"]
    trainer = host.Trainer(config)
    trainer.start()
    layers = adapters_of(trainer.model.unet_lora)
    assert {float(layer.alpha) for layer in layers} == {1.0}


@pytest.mark.parametrize("fuse", [False, True])
def test_layers_start_orthonormal_with_alpha_at_the_rank(
    host: Any, fuse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = started(host, "Stiefel LoRA", fuse=fuse)
    assert "LoRA alpha: 1 is replaced by the rank, 4" in capsys.readouterr().out
    first, second, head = adapters_of(trainer.model.unet_lora)
    for layer in (first, second):
        assert float(layer.alpha) == 4
        assert orthogonality_error(layer.lora_up.weight.detach()) <= 1e-6
        assert not layer.lora_down.weight.any()
        assert layer.lora_up.weight._is_lora_B
        assert layer.lora_down.weight._is_lora_A
    # Narrower than the rank: as the host made it, and stepped by AdamW.
    assert not head.lora_up.weight.any()
    assert [pair.name for pair in trainer.model.optimizer.pairs] == [
        "unet.down_blocks.0.proj",
        "unet.down_blocks.1.proj",
    ]


@pytest.mark.parametrize("label", LABELS)
def test_its_steps_are_ours(host: Any, label: str) -> None:
    method = OFFERED[label]
    trainer = started(host, label)
    named = [(n, torch.nn.Parameter(v)) for n, v in factors(trainer).items()]
    alone = method.load()(named, lr=1e-2)
    inside = dict(named_parameters(adapters_of(trainer.model.unet_lora)))

    def step_alone(*_: Any) -> None:
        for name, parameter in named:
            parameter.grad = inside[name].grad.clone()
        alone.step()

    trainer.model.optimizer.register_step_pre_hook(step_alone)
    trainer.train(5)
    assert_same_tensors({n: p.detach() for n, p in named}, factors(trainer))


@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("label", LABELS)
def test_a_resumed_run_ends_with_the_same_bits(
    host: Any, label: str, decompose: bool, tmp_path: Path
) -> None:
    whole = started(host, label, lora_decompose=decompose)
    whole.train(6)
    begun = started(host, label, lora_decompose=decompose)
    begun.train(3)
    saved = begun.backup(tmp_path / "optimizer.pt")
    resumed = started(host, label, saved, lora_decompose=decompose)
    resumed.train(3)
    assert_same_tensors(factors(whole), factors(resumed))
    kind = "_magnitudes" if decompose else ""
    assert f"lr/unet_lora{kind}" in whole.tensorboard


def test_embeddings_train_at_their_own_rate_and_resume(
    host: Any, tmp_path: Path
) -> None:
    changes = {"lora_decompose": True, "embedding_learning_rate": 1e-4}
    whole = started(host, "Stiefel LoRA", **changes)
    groups = {g["name"]: g for g in whole.model.optimizer.param_groups}
    assert groups["embeddings"]["rest_lr_ratio"] == 1.0
    whole.train(6)
    begun = started(host, "Stiefel LoRA", **changes)
    begun.train(3)
    saved = begun.backup(tmp_path / "optimizer.pt")
    resumed = started(host, "Stiefel LoRA", saved, **changes)
    resumed.model.embedding.data.copy_(begun.model.embedding)
    resumed.train(3)
    assert_same_tensors(factors(whole), factors(resumed))
    assert torch.equal(whole.model.embedding, resumed.model.embedding)


def test_step_counts_stay_on_the_cpu_when_state_moves(host: Any) -> None:
    begun = started(host, "Stiefel LoRA", lora_decompose=True)
    begun.train(1)
    optimizer = begun.model.optimizer
    # A dtype stands for the device: Tensor.to takes both, and every machine has it.
    host.defaults.optimizer_to_device_(optimizer, torch.float64)
    kinds: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for state in optimizer.state.values():
        for key, value in state.items():
            kinds["step" in key].add(value.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.float64}}


def test_state_of_another_optimizer_is_not_taken(host: Any, tmp_path: Path) -> None:
    begun = started(host, "LoRA-RITE", lora_alpha=4.0)
    begun.train(3)
    saved = begun.backup(tmp_path / "optimizer.pt")
    resumed = started(host, "Stiefel LoRA", saved)
    resumed.train(1)
    pairs = resumed.model.optimizer.pairs
    assert all(orthogonality_error(pair.up.detach()) <= 1e-6 for pair in pairs)


def test_a_loaded_lora_keeps_its_product(host: Any, tmp_path: Path) -> None:
    begun = started(host, "ADAMW", lora_alpha=2.0)
    begun.train(3)
    weights, *_ = begun.backup(tmp_path / "optimizer.pt")
    before = {
        layer.prefix: layer.product() for layer in adapters_of(begun.model.unet_lora)
    }
    resumed = started(host, "Stiefel LoRA", (weights, None, 0, None))
    for layer in adapters_of(resumed.model.unet_lora):
        assert float(layer.alpha) == 4
        torch.testing.assert_close(layer.product(), before[layer.prefix])


def test_tensorboard_shows_the_ranks(host: Any) -> None:
    trainer = started(host, "Stiefel LoRA")
    trainer.train(12)
    curves = trainer.tensorboard
    assert [step for step, _ in curves["effective_rank.down_blocks.0/proj"]] == [
        1,
        6,
        11,
    ]
    assert curves["orthogonality/largest"][-1][1] <= 1e-5
    pairs = find_pairs(factors(trainer).items()).pairs
    assert len(pairs) == len([tag for tag in curves if tag.startswith("stable_rank.")])
    free = started(host, "LoRA-RITE")
    free.train(1)
    assert "effective_rank/mean" in free.tensorboard
    assert "orthogonality/largest" not in free.tensorboard


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "trains LoRA factors, which LOHA does not have"),
        ({"lora_weight_dtype": "FLOAT_16"}, "float32 or bfloat16, but got FLOAT_16"),
    ],
)
def test_settings_that_cannot_work_are_one_message(
    host: Any, changes: Any, message: str
) -> None:
    with pytest.raises((ConfigError, OptionError), match=message):
        started(host, "Stiefel LoRA", **changes)


@pytest.mark.parametrize("fused", [False, True])
def test_bfloat16_layers_are_trained_and_resumed(
    host: Any, tmp_path: Path, capsys: Any, fused: bool
) -> None:
    config = configured(host, "Stiefel LoRA", lora_weight_dtype="BFLOAT_16")
    config.optimizer.fused_back_pass = fused
    config.optimizer.stiefel_lora_step = "factors" if fused else "product"
    whole, resumed = host.Trainer(config), host.Trainer(config)
    whole.start()
    assert "LoRA weight data type is bfloat16" in capsys.readouterr().out
    whole.train(3)
    backup = whole.backup(tmp_path / "backup.pt")
    whole.train(3)
    resumed.start(backup)
    resumed.train(3)
    for pair in resumed.model.optimizer.pairs:
        master = resumed.model.optimizer.state[pair.up]["master"]
        assert orthogonality_error(master.flatten(1)) <= 1e-5
        assert pair.down.any()
    found = factors(resumed)
    for name, value in factors(whole).items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(found[name], value)


def test_the_cloud_is_refused_when_training_starts(host: Any) -> None:
    config = configured(host, "Stiefel LoRA")
    config.cloud.enabled = True
    trainer = host.create.create_trainer(config, None, None)
    with pytest.raises(ConfigError, match="is not available on the cloud machine"):
        trainer.start()
    trainer.end()


def test_without_lora_layers_the_method_is_refused(host: Any) -> None:
    config = configured(host, "Stiefel LoRA", training_method="FINE_TUNE")
    weight = torch.nn.Parameter(torch.ones(3, 3))
    group = {"name": "unet", "params": [weight], "lr": 1e-2, "initial_lr": 1e-2}
    groups = SimpleNamespace(parameters_for_optimizer=lambda _: [group])
    with pytest.raises(ConfigError, match="the training method is FINE_TUNE"):
        host.create.create_optimizer(groups, None, config)


def test_layers_that_the_host_made_otherwise_are_refused_by_name(host: Any) -> None:
    config = configured(host, "Stiefel LoRA")
    weight = torch.nn.Parameter(torch.ones(3, 3))
    group = {"name": "unet", "params": [weight], "lr": 1e-2, "initial_lr": 1e-2}
    groups = SimpleNamespace(parameters_for_optimizer=lambda _: [group])
    with pytest.raises(ConfigError, match="no LoRA layers made by modules"):
        host.create.create_optimizer(groups, None, config)


def test_a_changed_host_is_met_with_the_missing_point(host: Any) -> None:
    with pytest.raises(ConfigError, match=r"no .*create\.make_optimizer.*tested with"):
        point(host.create, "make_optimizer")


def test_all_points_of_the_host_are_seen(host: Any) -> None:
    for hook in HOOKS:
        importlib.import_module(hook.module)
    assert set(_hooks._found) == set(HOOKS)
    assert set(_hooks._found.values()) == {None}


def test_trained_pairs_are_logged_once(
    host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    started(host, "Stiefel LoRA", learning_rate=0.02)
    printed = capsys.readouterr().out
    assert printed.count("Stiefel LoRA trains 2 LoRA pairs and 2 other param") == 1
    assert "The learning rate is" not in printed
    started(host, "LoRA-RITE", learning_rate=0.02, lora_rank=2)
    printed = capsys.readouterr().out
    assert printed.count("LoRA-RITE trains 3 LoRA pairs.") == 1
    assert (
        "The learning rate is 0.02, while the default of LoRA-RITE is 0.0002" in printed
    )


@pytest.mark.parametrize(("a_rule", "usual"), [("adamw", "0.0001"), ("sign", "0.001")])
def test_the_usual_rate_is_that_of_the_options(
    host: Any, capsys: pytest.CaptureFixture[str], a_rule: str, usual: str
) -> None:
    config = configured(host, "Stiefel LoRA", learning_rate=float(usual))
    config.optimizer.stiefel_lora_step = "factors"
    config.optimizer.stiefel_lora_a_rule = a_rule
    host.Trainer(config).start()
    assert "The learning rate is" not in capsys.readouterr().out
    config.learning_rate = 0.02
    host.Trainer(config).start()
    assert (
        f"the default of Stiefel LoRA is {usual}. Learning rates"
        in capsys.readouterr().out
    )


def test_a_rate_is_logged_once(
    host: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = started(host, "Stiefel LoRA", learning_rate=1e-4)
    trainer.train(4)
    assert capsys.readouterr().out.count("The learning rate is 0.0001, while") == 1
    assert "while the default of" not in caplog.text


@pytest.mark.parametrize(
    ("alpha", "rank", "scale", "times"), [(1.0, 4, "0.25", "4"), (4.0, 2, "2", "0.5")]
)
@pytest.mark.parametrize(
    "label", [x for x in LABELS if OFFERED[x].alpha_policy != "rank"]
)
def test_alpha_over_rank_is_logged_once_if_it_stays(
    host: Any,
    capsys: pytest.CaptureFixture[str],
    label: str,
    alpha: float,
    rank: int,
    scale: str,
    times: str,
) -> None:
    trainer = started(host, label, lora_alpha=alpha, lora_rank=rank)
    line = f"alpha / rank is {scale} in 3 layers, and {label} does not change it."
    printed = capsys.readouterr().out
    assert printed.count(line) == 1
    assert f"rank or multiply the learning rate by {times}." in printed
    layers = adapters_of(trainer.model.unet_lora)
    assert {float(layer.alpha) for layer in layers} == {alpha}
    started(host, label, lora_alpha=float(rank), lora_rank=rank)
    assert "alpha /" not in capsys.readouterr().out


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "Stiefel LoRA",
        {"peft_type": "LOHA"},
        {},
        "factors, which LOHA does not have",
    ),
    ("Stiefel LoRA", {"training_method": "FINE_TUNE"}, {}, "method is FINE_TUNE"),
    ("StelLA", {"lora_weight_dtype": "FLOAT_16"}, {}, "bfloat16, but got FLOAT_16"),
    (
        "StelLA",
        {},
        {"fused_back_pass": True},
        "Fused back pass: not supported by StelLA",
    ),
    (
        "Stiefel LoRA",
        {"learning_rate": None},
        {},
        "Learning rate: must be a number of at least 0, but got empty",
    ),
    (
        "LoRA+",
        {"learning_rate": -1.0},
        {},
        "Learning rate: must be a number of at least 0, but got -1",
    ),
    (
        "LoRA+",
        {"learning_rate": float("nan")},
        {},
        "Learning rate: must be a number of at least 0, but got nan",
    ),
    ("LoRA-RITE", {}, {"lora_rite_beta1": 2.0}, "lora_rite: beta1=2.0 must be in"),
]


@pytest.mark.parametrize(("label", "changes", "settings", "message"), BAD)
def test_what_a_config_alone_forbids_is_refused_before_the_model_is_loaded(
    host: Any,
    capsys: pytest.CaptureFixture[str],
    label: str,
    changes: dict[str, Any],
    settings: dict[str, Any],
    message: str,
) -> None:
    config = configured(host, label, **changes)
    for name, value in settings.items():
        setattr(config.optimizer, name, value)
    trainer = host.create.create_trainer(config, None, None)
    with pytest.raises((ConfigError, OptionError), match=message):
        trainer.start()
    assert "loading the model" not in capsys.readouterr().out
    trainer.end()
    # The host's own optimizer trains with the same settings, or fails by itself.
    config.optimizer.optimizer = host.Optimizer["ADAMW"]
    assert isinstance(host.create.create_trainer(config, None, None), host.Trainer)


@pytest.mark.parametrize(
    ("data", "chosen"),
    [
        ({"use_stiefel": True, "optimizer": "ADAMW"}, "Stiefel LoRA"),
        ({"use_stiefel": True}, {"optimizer": "Stiefel LoRA"}),
        (
            {"use_stiefel": True, "optimizer": {"beta1": 0.5}},
            {"optimizer": "Stiefel LoRA", "beta1": 0.5},
        ),
    ],
)
def test_the_switch_keeps_the_form_of_the_configuration(
    host: Any, data: dict[str, Any], chosen: object
) -> None:
    seen = []
    _with_switch(lambda _, read: seen.append(read["optimizer"]), None, data)
    assert seen == [chosen]


def test_every_method_but_the_hosts_own_is_offered() -> None:
    assert len(OFFERED) == len(CATALOGUE) - 2
