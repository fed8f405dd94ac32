"""Optimizers of other packages by their names, through the whole trainer."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, factors_of, tiny_config
from stiefel_lora import ConfigError, OptionError
from stiefel_lora._install import install_command
from stiefel_lora.config import parse_config, remarks
from stiefel_lora.config.packages import missing_packages
from stiefel_lora.files import load_lora
from stiefel_lora.methods import CATALOGUE, PACKAGED
from stiefel_lora.optim.factor_groups import by_decay
from stiefel_lora.optim.foreign import create_foreign, rate_estimates
from stiefel_lora.optim.pairs import find_pairs
from stiefel_lora.testing.nets import LoraNet, backward, task
from stiefel_lora.training import read_events
from stiefel_lora.training.preflight import estimate_run
from stiefel_lora.training.trainer import train

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def need(name: str) -> None:
    if importlib.util.find_spec(PACKAGED[name].package) is None:
        pytest.skip(f"{PACKAGED[name].package} is not installed")


def curves(run_dir: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for event in read_events(run_dir / "events.jsonl"):
        if event["type"] == "train":
            for tag, value in event["values"].items():
                found.setdefault(tag, []).append(value)
    return found


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("prodigy", "schedule_free_adamw")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in PACKAGED
    ],
)
def test_it_trains_stops_and_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, name: str
) -> None:
    need(name)
    chosen = {"optimizer": {"name": name}, "validate_every": 2}
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **chosen))
    # Files written during training change nothing.
    config = tiny_config(tiny_sdxl, tmp_path, save_every=1, **chosen)
    assert config.learning_rate == PACKAGED[name].default_lr
    with stop_after(2, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)
    logged = curves(resumed.run_dir)
    assert len(logged["loss/train"]) == 4
    assert ("d/unet" in logged) == PACKAGED[name].has_estimate


def decayed(name: str, **decays: float) -> dict[str, torch.Tensor]:
    """Take steps with weight decays of B and A at a rate that makes them visible."""
    torch.manual_seed(0)
    model = LoraNet()
    for layer in (model.first, model.second, model.third, model.last):
        torch.nn.init.normal_(layer.up)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    entry = PACKAGED[name]
    options = {**entry.defaults(), "weight_decay": 0.0, **decays}
    rate = 0.01
    if entry.has_estimate:
        rate, options["d0"] = 1.0, 0.01
    groups = by_decay([{"params": named}], options, find_pairs(model).pairs)
    for group in groups:
        group["params"] = [parameter for _, parameter in group["params"]]
    keywords = entry.keywords(options)
    optimizer = create_foreign(entry.load(), name, groups, lr=rate, options=keywords)
    # RAdam does not change parameters in its first steps.
    for _ in range(8):
        backward(model, task())
        optimizer.step()
    return {n: p.detach() for n, p in named if "lora" in n}


@pytest.mark.parametrize("name", PACKAGED)
def test_each_factor_has_its_own_decay(name: str) -> None:
    need(name)
    of_b = decayed(name, weight_decay_b=2.0, weight_decay_a=0.0)
    of_a = decayed(name, weight_decay_b=0.0, weight_decay_a=2.0)
    for key, value in of_b.items():
        smaller, larger = (value, of_a[key])[:: 1 if "lora_B" in key else -1]
        assert smaller.norm() < 0.999 * larger.norm(), key


def test_factors_decay_apart_and_the_run_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    need("lion")
    decays = {"weight_decay": 0.1, "weight_decay_b": 0.5, "weight_decay_a": 0.0}
    changes: dict[str, Any] = {
        "optimizer": {"name": "lion", **decays},
        "train_text_encoder": True,
        "learning_rate_pattern": {"attn1": 0.5},
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(2, "stop"):
        stopped = train(config)
    saved = torch.load(
        next(stopped.run_dir.glob("checkpoints/*/optimizer.pt")), weights_only=True
    )
    # B and A of both parts, and of the layers with another rate.
    found = [group["weight_decay"] for group in saved["param_groups"]]
    assert found == [0.5, 0.0] * 3
    assert_same_factors(whole, train(config, resume=stopped.run_dir))


def test_the_estimate_of_prodigy_is_logged(tiny_sdxl: Path, tmp_path: Path) -> None:
    need("prodigy")
    optimizer = {"name": "prodigy", "d0": 1e-5, "d_coef": 1e3}
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        optimizer=optimizer,
        learning_rate=0.5,
        learning_rate_scheduler="linear",
        steps=5,
    )
    logged = curves(train(config).run_dir)
    d = logged["d/unet"]
    assert d[0] == 1e-5
    assert all(a <= b for a, b in itertools.pairwise(d))
    assert d[-1] > d[0]
    # The rate of the next step is already set when a step is logged.
    rates = logged["lr/unet"]
    expected = [a * b for a, b in zip(d, rates, strict=True)]
    assert logged["d_lr/unet"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("group", "found"),
    [
        # As in dadaptation, adv_optm and schedulefree.
        ({"d": 1e-3, "k": 4}, {"d": 1e-3, "d_lr": 5e-4}),
        ({"d": torch.tensor(0.25), "k": 4, "d0": 1e-6}, {"d": 0.25, "d_lr": 0.125}),
        ({"scheduled_lr": 0.1, "k": 4}, {"scheduled_lr": 0.1}),
        ({"k": 4}, {}),
    ],
)
def test_estimates_are_those_of_the_groups(
    group: dict[str, Any], found: dict[str, float]
) -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [parameter], **group}], lr=0.5)
    assert rate_estimates(optimizer) == [pytest.approx(found)]
    other = torch.optim.Adafactor([parameter], d=2.0)
    assert rate_estimates(other) == [{}]


def test_files_of_schedule_free_runs_have_the_average(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    need("schedule_free_adamw")
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        optimizer={"name": "schedule_free_adamw", "beta1": 0.8},
        learning_rate=1e-2,
    )
    result = train(config)
    y = factors_of(result)[f"{LAYER}.lora_B.default.weight"]
    up = load_lora(result.lora_files[0])[f"unet.{LAYER}"].up
    assert result.checkpoint is not None
    state = torch.load(result.checkpoint / "optimizer.pt", weights_only=True)
    assert not torch.equal(up, y)
    # Of the parameters of this shape, one has this average.
    assert any(
        torch.allclose(up, (y - 0.2 * value["z"]) / 0.8, rtol=1e-4, atol=1e-7)
        for value in state["state"].values()
        if value["z"].shape == y.shape
    )
    assert curves(result.run_dir)["scheduled_lr/unet"] == 4 * [1e-2]


PLUS = {"name": "prodigy_plus_schedule_free"}
REMARKS = [
    ({"optimizer": {"name": "prodigy"}, "learning_rate": 1e-4}, "learning_rate"),
    ({"optimizer": {"name": "prodigy"}, "learning_rate": 0.5}, None),
    ({"optimizer": {"name": "lion"}, "learning_rate": 1e-4}, None),
    ({"optimizer": {"name": "lion"}, "learning_rate": 1e-2}, "learning_rate"),
    ({"optimizer": PLUS, "learning_rate_scheduler": "cosine"}, "learning_rate_sche"),
    (
        {
            "optimizer": {**PLUS, "use_schedulefree": False},
            "learning_rate_scheduler": "cosine",
        },
        None,
    ),
    ({"optimizer": {"name": "schedule_free_radam"}, "ema": "cpu"}, "ema"),
    ({"optimizer": {"name": "came"}, "learning_rate_scheduler": "cosine"}, None),
]


@pytest.mark.parametrize(("data", "key"), REMARKS)
def test_rates_and_schedules_that_do_not_fit_are_remarked(
    data: dict[str, Any], key: str | None
) -> None:
    usual = {"base_model_name": "a.safetensors", "concepts": ["b"]}
    found = [remark.key for remark in remarks(parse_config({**usual, **data}))]
    assert len(found) == (key is not None)
    assert all(name.startswith(key or "-") for name in found)


@pytest.mark.parametrize("name", [n for n, e in PACKAGED.items() if e.extra])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find = importlib.util.find_spec
    package = PACKAGED[name].package
    config = tiny_config(Path("nobody/nothing"), tmp_path, optimizer={"name": name})
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, package, None)
        with pytest.raises(OptionError) as error:
            estimate_run(config)
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda other, *more: None if other == package else find(other, *more),
    )
    (found,) = missing_packages(config)
    assert found.key == "optimizer"
    for text in (str(error.value), str(found)):
        assert f"requires the package {package}, which is not installed" in text
        assert f"Install it with: {install_command('optimizers')}" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("raise OSError('no libfoo.so')", "lion_pytorch cannot be used (no libfoo.so)"),
        ("import no_such_module_here", "requires the package no_such_module_here"),
        ("raise SystemExit(3)", "cannot be used (it exits the program: sys.exit(3))"),
        ("Lion2 = None", "cannot be used (has no Lion). Install another version"),
    ],
)
def test_a_broken_package_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    (tmp_path / "lion_pytorch.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lion_pytorch", raising=False)
    with pytest.raises(OptionError) as error:
        PACKAGED["lion"].load()
    monkeypatch.delitem(sys.modules, "lion_pytorch", raising=False)
    message = str(error.value)
    assert message.startswith("Lion")
    assert problem in message
    assert install_command("optimizers") in message


@pytest.mark.parametrize("name", ["prodigy_plus_schedule_free", "prodigy_adv"])
def test_other_estimates_have_several_rates(
    tiny_sdxl: Path, tmp_path: Path, name: str
) -> None:
    need(name)
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        optimizer={"name": name},
        learning_rate_pattern={"to_q": 0.5},
        steps=2,
    )
    logged = curves(train(config).run_dir)
    assert {"d/unet", "d/unet_1", "d_lr/unet", "d_lr/unet_1"} <= logged.keys()
    assert sorted(logged[tag][0] for tag in ("lr/unet", "lr/unet_1")) == [0.5, 1.0]


def test_options_reach_the_class_under_its_names(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    optimizer = {"name": "adafactor", "eps2": 2e-3, "beta1": 0.5}
    config = parse_config({"optimizer": optimizer})
    chosen: Any = config.optimizer
    assert chosen.keywords() == {
        "beta1": 0.5,
        "clip_threshold": 1.0,
        "decay_rate": -0.8,
        "eps": (1e-30, 2e-3),
        "relative_step": False,
        "scale_parameter": False,
        "weight_decay": 0.0,
    }
    made = chosen.load()(
        [torch.nn.Parameter(torch.ones(2))], lr=1.0, **chosen.keywords()
    )
    assert made.defaults["eps"] == (1e-30, 2e-3)
    other = {"name": "prodigy", "options": {"fsdp_in_use": True}}
    chosen = parse_config({"optimizer": other}).optimizer
    assert chosen.keywords()["fsdp_in_use"] is True
    assert chosen.in_effect()["fsdp_in_use"] is True
    assert "growth_rate" not in chosen.keywords()
    unknown = {"name": "adafactor", "options": {"warmth": 1}}
    config = tiny_config(tiny_sdxl, tmp_path, optimizer=unknown)
    with pytest.raises(ConfigError, match="adafactor has no option 'warmth'"):
        estimate_run(config)


def test_validate_prints_nothing_of_the_class(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("prodigy_plus_schedule_free")
    estimate_run(tiny_config(tiny_sdxl, tmp_path, optimizer=PLUS))
    assert capsys.readouterr().out == ""


def test_names_are_those_of_no_method() -> None:
    assert not PACKAGED.keys() & CATALOGUE.keys()
    labels = [entry.label for entry in (*PACKAGED.values(), *CATALOGUE.values())]
    assert len(set(labels)) == len(labels)
