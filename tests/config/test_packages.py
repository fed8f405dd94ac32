"""Packages and hardware: marked at every setting that requires them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from helpers.jobs import ready_config
from stiefel_lora import _commands
from stiefel_lora._install import install_command
from stiefel_lora.config import SettingsError, parse_config
from stiefel_lora.config.packages import check_packages, missing_packages
from stiefel_lora.jobs import Queue
from stiefel_lora.training.backend import memory_problem
from stiefel_lora.ui.controllers.findings import Findings, examine, with_machine


def run(*args: object):
    return CliRunner().invoke(_commands.app, [str(arg) for arg in args])


@pytest.fixture
def without(monkeypatch):
    """Hide packages."""
    find = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *more: None if name in names else find(name, *more),
        )

    return hide


CASES = [
    ({"weight_dtype": "nfloat4"}, "weight_dtype", "bitsandbytes", "quant"),
    ({"weight_dtype": "int8"}, "weight_dtype", "bitsandbytes", "quant"),
    ({"optimizer": {"name": "adamw_8bit"}}, "optimizer", "bitsandbytes", "quant"),
    (
        {"attention_mechanism": "xformers"},
        "attention_mechanism",
        "xformers",
        "xformers",
    ),
    ({}, "device", "diffusers", "train"),
]


@pytest.mark.parametrize(("data", "key", "package", "extra"), CASES)
def test_a_missing_package_is_marked_at_the_field(without, data, key, package, extra):
    without(package)
    (found,) = missing_packages(parse_config(data))
    assert found.key == key
    assert f"requires the package {package}, which is not installed" in found.message
    assert install_command(extra) in found.fix
    assert list(examine(data).errors) == [key]
    assert package in examine(data).errors[key][0]


def test_nothing_is_missing_for_settings_without_packages(without):
    without("bitsandbytes", "xformers", "flash_attn")
    assert missing_packages(parse_config({})) == []
    check_packages(parse_config({"attention_mechanism": "sdp"}))


def test_all_missing_packages_are_named_at_once(without):
    without("bitsandbytes", "torch", "peft")
    data = {"weight_dtype": "nfloat4", "optimizer": {"name": "adamw_8bit"}}
    with pytest.raises(SettingsError) as error:
        check_packages(parse_config(data))
    assert [found.key for found in error.value.violations] == [
        "device",
        "weight_dtype",
        "optimizer",
    ]
    assert "the packages torch, peft, which are not installed" in str(error.value)


# The command line ---------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("STIEFEL_LORA_QUEUE", str(tmp_path / "queue"))
    return tmp_path / "queue"


@pytest.mark.parametrize("verb", [("queue", "add"), ("validate",)])
def test_queue_add_and_validate_check_packages(without, queue, tmp_path, verb):
    config = ready_config(tmp_path)
    without("bitsandbytes")
    done = run(*verb, config, "--set", "weight_dtype=nfloat4")
    assert done.exit_code == 2
    assert "weight_dtype: 'nfloat4' requires the package bitsandbytes" in done.stderr
    assert done.stdout == ""
    assert not queue.exists() or not Queue(queue).jobs()


HARDWARE = [
    ("device=cuda:7", "device='cuda:7'"),
    ("device=mps", "device='mps': mps is not available"),
    ("train_dtype=float16", 'train_dtype="float16" requires an NVIDIA GPU'),
]


@pytest.mark.parametrize(("setting", "message"), HARDWARE)
def test_queue_add_and_validate_check_hardware(
    queue, tmp_path, monkeypatch, setting, message
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config = ready_config(tmp_path)
    added = run("queue", "add", config, "--set", setting)
    assert added.exit_code == 2
    assert message in added.stderr
    assert str(config) in added.stderr
    assert Queue(queue).jobs() == [] if queue.exists() else True
    # A preset by itself, whose model is not on this machine.
    shown = run("validate", "sdxl_adamw", "--set", setting)
    assert shown.exit_code == 2
    assert message in shown.stderr
    found = json.loads(run("validate", "sdxl_adamw", "--set", setting, "--json").stdout)
    assert [entry["key"] for entry in found["errors"]] == [setting.partition("=")[0]]
    assert message in found["errors"][0]["message"]


def test_queue_add_adds_what_this_machine_can_train(queue, tmp_path):
    assert run("queue", "add", ready_config(tmp_path)).exit_code == 0
    assert len(Queue(queue).jobs()) == 1


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"base_model_name": "empty"}, "base_model_name"),
        ({"concepts": ["empty"]}, "concepts"),
        ({"lora_rank": 0}, "lora_rank"),
    ],
)
def test_validate_prints_errors_by_setting(tmp_path, data, key):
    (tmp_path / "empty").mkdir()
    path = ready_config(tmp_path)
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, **data}), encoding="utf-8")
    done = run("validate", path, "--json")
    assert done.exit_code == 2
    (error,) = json.loads(done.stdout)["errors"]
    assert error["key"] == key
    assert error["message"]


# Memory -------------------------------------------------------------------------------


class Gpu:
    total_memory = 8_000_000_000


def test_too_little_memory_is_marked_at_what_saves_the_most(monkeypatch):
    config = parse_config({"device": "cuda"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Gpu)
    assert memory_problem(config, 8_000_000_000) is None
    found = memory_problem(config, 8_000_000_001)
    assert found.key == "gradient_checkpointing"
    assert "about 8.0 GB of GPU memory, but the GPU has 8.0 GB" in found.message
    assert "gradient_checkpointing=true, weight_dtype=nfloat4" in found.fix
    less = config.model_copy(update={"gradient_checkpointing": True, "batch_size": 4})
    assert memory_problem(less, 9_000_000_000).key == "batch_size"


def test_a_large_model_without_a_gpu_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = memory_problem(parse_config({}), 9_000_000_000)
    assert found.key == "device"
    assert "no GPU was found" in found.message
    assert memory_problem(parse_config({}), 10**9) is None
    assert memory_problem(parse_config({"device": "cpu"}), 9_000_000_000) is None


def test_results_of_the_other_process_are_added_to_the_fields():
    before = Findings(None, {"steps": ["x"]}, {"device": ["y"]})
    found = {
        "errors": [
            {"key": "steps", "message": "x"},
            {"key": "concepts.0.path", "message": "no image"},
        ],
        "warnings": [{"key": "optimizer.name", "message": "too large"}],
    }
    after = with_machine(before, found, "adamw")
    assert after.errors == {"steps": ["x"], "concepts": ["no image"]}
    assert after.remarks == {"device": ["y"], "optimizer": ["too large"]}
    assert before.errors == {"steps": ["x"]}
