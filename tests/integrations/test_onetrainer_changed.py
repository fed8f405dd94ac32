"""A OneTrainer that has changed: refused or warned of, and its own runs go on."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from onetrainer_changed import Changed

from stiefel_lora import ConfigError
from stiefel_lora.integrations.onetrainer import HOOKS, launch
from stiefel_lora.integrations.onetrainer._points import TESTED

CREATE = "modules.util.create"
LAYERS = "modules.module.LoRAModule"
CONFIG = "modules.util.config.TrainConfig"
ENUM = "modules.util.enum.Optimizer"
EMA = "modules.module.EMAModule"
NUMBERS = "modules.modelSetup.BaseModelSetup"
UTIL = "modules.util.optimizer_util"
BOTH = {ENUM: "modules.util.enum.Kinds", CONFIG: "modules.util.config.Config"}
MOVED_EMA = {EMA: "modules.module.Averages"}
ON = {"ema": "CPU"}
FUSED = {"settings": {"fused_back_pass": True}}

# What is renamed or moved -> the name that the refusal must hold, and settings.
NEEDED: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "create_optimizer": (
        {"renamed": {"create_optimizer": "make_optimizer"}},
        "modules.util.create.create_optimizer",
        {},
    ),
    "argument of create_optimizer": (
        {"renamed": {"parameter_group_collection": "groups"}},
        "argument parameter_group_collection of create_optimizer",
        {},
    ),
    "create": ({"moved": {CREATE: "modules.util.make"}}, CREATE, {}),
    "LoRAModule": ({"moved": {LAYERS: "modules.module.Layers"}}, LAYERS, {}),
    "LoRAModuleWrapper": (
        {"renamed": {"LoRAModuleWrapper": "AdapterWrapper"}},
        "LoRAModuleWrapper",
        {},
    ),
    "Optimizer": ({"moved": {ENUM: "modules.util.enum.Kinds"}}, ENUM, {}),
    "class Optimizer": (
        {
            "renamed": {
                "import Optimizer": "import Kind as Optimizer",
                "class Optimizer": "class Kind",
                "self is Optimizer": "self is Kind",
            }
        },
        "modules.util.enum.Optimizer.Optimizer",
        {},
    ),
    "TrainConfig": ({"moved": {CONFIG: "modules.util.config.Config"}}, CONFIG, {}),
    "TrainOptimizerConfig": (
        {"renamed": {"TrainOptimizerConfig": "OptimizerConfig"}},
        "TrainOptimizerConfig",
        {},
    ),
    "from_dict": (
        {"renamed": {"from_dict": "load_dict"}},
        "TrainOptimizerConfig.from_dict",
        {},
    ),
    "enum and configuration": (
        {
            "moved": {
                ENUM: "modules.util.enum.Kinds",
                CONFIG: "modules.util.config.Config",
            }
        },
        ENUM,
        {},
    ),
    "EMAModule": ({"moved": {EMA: "modules.module.Averages"}}, EMA, ON),
    "copy_ema_to": (
        {"renamed": {"copy_ema_to": "use_average"}},
        "EMAModuleWrapper.copy_ema_to",
        ON,
    ),
    "create_ema": (
        {"renamed": {"create_ema": "make_ema"}},
        "modules.util.create.create_ema",
        ON,
    ),
    "supports_fused_back_pass": (
        {"renamed": {"supports_fused_back_pass": "can_fuse"}},
        "Optimizer.supports_fused_back_pass",
        FUSED,
    ),
}
COSMETIC: dict[str, tuple[dict[str, Any], str]] = {
    "EMAModule without averages": ({"moved": {EMA: "modules.module.Averages"}}, ""),
    "BaseModelSetup": (
        {"moved": {NUMBERS: "modules.modelSetup.Numbers"}},
        f"no module {NUMBERS}: TensorBoard shows no ranks",
    ),
    "report_to_tensorboard": (
        {"renamed": {"report_to_tensorboard": "report"}},
        "no BaseModelSetup.report_to_tensorboard: TensorBoard shows no ranks",
    ),
    "argument of report_to_tensorboard": (
        {"renamed": {r"(?<!self\.)(?<!trainer\.)tensorboard": "writer"}},
        "no argument tensorboard of BaseModelSetup.report_to_tensorboard",
    ),
    "train_progress": (
        {"renamed": {"train_progress": "progress"}},
        "the ranks of blocks are not shown in TensorBoard",
    ),
    "create_trainer": (
        {"renamed": {"create_trainer": "make_trainer"}},
        "create.create_trainer: unsupported settings are only reported",
    ),
    "optimizer_util": (
        {"moved": {UTIL: "modules.util.optimizers"}},
        f"no module {UTIL}",
    ),
    "defaults": (
        {"renamed": {"OPTIMIZER_DEFAULT_PARAMETERS": "DEFAULTS"}},
        "no modules.util.optimizer_util.OPTIMIZER_DEFAULT_PARAMETERS: the defaults",
    ),
    "optimizer_to_device_": (
        {"renamed": {"optimizer_to_device_": "move_optimizer"}},
        "no modules.util.optimizer_util.optimizer_to_device_: the step count",
    ),
    "supports_fused_back_pass": (
        {"renamed": {"supports_fused_back_pass": "can_fuse"}},
        "no Optimizer.supports_fused_back_pass: the fused back pass",
    ),
    **{
        module: (
            {"moved": {module: f"modules.ui.New{module.rpartition('.')[2]}"}},
            f"no module {module}: ",
        )
        for module in sorted({h.module for h in HOOKS if ".ui." in h.module})
    },
}


@pytest.mark.parametrize("case", NEEDED)
def test_a_needed_point_refuses_our_method_and_not_the_hosts_own(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, name, settings = NEEDED[case]
    host = Changed(tmp_path, **change)
    assert host.train("Stiefel LoRA", learning_rate=0.02, **settings) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert name in printed.err
    assert TESTED in printed.err
    assert "loading the model" not in printed.out
    assert "optimizer:" not in printed.out
    assert host.train("ADAMW", learning_rate=1e-4, ema=settings.get("ema", "OFF")) == 0
    printed = capsys.readouterr()
    assert "optimizer: AdamW" in printed.out
    assert "stiefel-lora" not in printed.out + printed.err


@pytest.mark.parametrize("case", COSMETIC)
def test_a_point_that_a_run_can_do_without_is_warned_of(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = COSMETIC[case]
    host = Changed(tmp_path, **change)
    assert host.train("Stiefel LoRA", learning_rate=0.02, steps=7) == 0
    printed = capsys.readouterr()
    assert "optimizer: StiefelLoRA" in printed.out
    warnings = [line for line in printed.out.splitlines() if TESTED in line]
    assert len(warnings) == len(set(warnings))
    assert all("This version of OneTrainer has no" in line for line in warnings)
    assert any(message in line for line in warnings) if message else not warnings
    assert host.train("ADAMW", learning_rate=1e-4) == 0
    printed = capsys.readouterr()
    assert "optimizer: AdamW" in printed.out
    assert "stiefel-lora" not in printed.out + printed.err


@pytest.mark.parametrize("case", NEEDED)
def test_the_dropin_never_lets_adamw_train_at_our_rate(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, name, settings = NEEDED[case]
    host = Changed(tmp_path, **change)
    with pytest.raises(ConfigError) as caught:
        host.train_by_dropin("Stiefel LoRA", learning_rate=0.02, **settings)
    assert name in str(caught.value)
    assert TESTED in str(caught.value)
    assert "optimizer:" not in capsys.readouterr().out
    host.train_by_dropin("ADAMW", learning_rate=1e-4)
    printed = capsys.readouterr().out
    assert "optimizer: AdamW" in printed


@pytest.mark.parametrize("label", ["LoRA-RITE", "LoRA+"])
def test_averages_of_a_free_b_need_none_of_our_points(
    label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Changed(tmp_path, {"create_ema": "make_ema"}, MOVED_EMA)
    assert host.train(label, learning_rate=1e-4, **ON) == 0
    printed = capsys.readouterr().out
    assert f"{label} trains 2 LoRA pairs" in printed
    assert "no modules.util.create.create_ema: EMA continues with" in printed


def test_several_missing_points_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed = {"create_optimizer": "make_optimizer", "LoRAModuleWrapper": "Adapters"}
    assert Changed(tmp_path, renamed).train("Riemannion", learning_rate=0.01) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "LoRAModuleWrapper and no modules.util.create.create_optimizer," in error


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({"use_stiefel": True}, ()),
        ({}, ("--config-value", "optimizer.optimizer=StelLA")),
        ({}, ("--config-value=optimizer.optimizer=Stiefel_LoRA",)),
    ],
)
def test_every_way_to_name_a_method_is_refused_where_the_host_lost_it(
    config: dict[str, Any],
    more: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host = Changed(tmp_path, moved=BOTH)
    assert host.train("ADAMW", *more, learning_rate=0.02, **config) == 2
    assert f"no module {ENUM} and no module {CONFIG}" in capsys.readouterr().err


def test_a_method_that_is_overridden_by_the_command_line_is_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Changed(tmp_path, moved={ENUM: "modules.util.enum.Kinds"})
    override = ("--config-value", "optimizer.optimizer=SGD")
    assert host.train("Stiefel LoRA", *override, learning_rate=1e-4) == 0
    assert "optimizer: SGD" in capsys.readouterr().out


def test_an_unknown_optimizer_is_refused_without_create_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Changed(tmp_path, {"create_trainer": "make_trainer"})
    assert host.train("Stifel LoRA", learning_rate=0.02) == 2
    printed = capsys.readouterr()
    assert "Did you mean Stiefel LoRA" in printed.err
    assert "optimizer:" not in printed.out


@pytest.mark.parametrize("moved", [{ENUM: "modules.util.enum.Kinds"}])
def test_a_window_whose_host_lost_our_optimizer_refuses_once(
    moved: dict[str, str], tmp_path: Path
) -> None:
    """It copies what it has loaded field by field, and shows ADAMW at our rate."""
    host = Changed(tmp_path, moved=moved)
    with host.entered():
        launch.enter(host.root)
        create = importlib.import_module("modules.util.create")
        settings = importlib.import_module(CONFIG).TrainConfig
        saved = {"optimizer": {"optimizer": "Stiefel LoRA"}, "learning_rate": 0.02}
        loaded = settings.default_values().from_dict(saved)
        shown = settings.default_values().from_dict(loaded.to_dict())
        assert str(shown.optimizer.optimizer) == "ADAMW"
        with pytest.raises(
            ConfigError, match=rf"uses ADAMW instead: it has no module {ENUM}"
        ):
            create.create_trainer(shown, None, None).start()
        create.create_trainer(shown, None, None).start()


@pytest.mark.parametrize("optimizer", ["Stiefel LoRA", "stella", "Stiefel_LoRA"])
def test_the_dropin_without_the_package_trains_no_adamw_for_ours(
    optimizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after OneTrainer's environment was made again."""
    host = Changed(tmp_path)
    package = "stiefel_lora.integrations.onetrainer"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=f"the optimizer '{optimizer}' is not inst"):
        host.train_by_dropin(optimizer, learning_rate=0.02)
    assert "run: pip install stiefel-lora" in capsys.readouterr().out
    host.train_by_dropin("ADAMW", learning_rate=1e-4)
    assert "optimizer: AdamW" in capsys.readouterr().out
