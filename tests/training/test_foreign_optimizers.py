"""Optimizers by import path: what is refused, and what torch's protocol allows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.odd_optimizers import ScheduleFree
from helpers.runs import assert_same_factors, factors_of, tiny_config
from stiefel_lora import ConfigError
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.files import load_lora
from stiefel_lora.training.loop import Loop
from stiefel_lora.training.preflight import estimate_run
from stiefel_lora.training.trainer import train
from stiefel_lora.training.validation import Validation

ODD = "helpers.odd_optimizers"
REFUSED = [
    ("os.system", {}, "is not a subclass of torch.optim.Optimizer. Use an optimizer"),
    ("torch.nn.Linear", {"out_features": 3}, "is not a subclass of torch.optim.Opti"),
    ("torch.optim.lr_scheduler.LambdaLR", {}, "is not a subclass of torch.optim.Opti"),
    ("math.pi", {}, "is not a subclass of torch.optim.Optimizer."),
    ("helpers.no_such_file.Lion", {}, "cannot be imported (No module named 'helpers."),
    ("helpers.raises_on_import.Lion", {}, "cannot be imported (a broken line)"),
    ("torch.optim.RAdam", {"eps": -1.0}, "optimizer.options: RAdam(parameters, lr=..."),
    (
        "torch.optim.RAdam",
        {"epss": 1.0},
        "optimizer.options.epss: torch.optim.RAdam has no option 'epss'. Did you mean "
        "'eps'?",
    ),
    (
        "torch.optim.Muon",
        {"momentun": 0.9},
        "torch.optim.Muon has no option 'momentun'. Did you mean 'momentum'?",
    ),
    (
        "torch.optim.Rprop",
        {"params": []},
        "torch.optim.Rprop has no option 'params'. Available: etas, step_sizes, ",
    ),
    (
        "stiefel_lora.optim.StiefelLoRA",
        {"nestorov": True},
        "optimizer.options.nestorov: stiefel_lora.optim.StiefelLoRA has no option "
        "'nestorov'. Did you mean 'nesterov'?",
    ),
    (
        "torch.optim.RAdam",
        {"lr": 1.0},
        "optimizer.options.lr=1.0: the learning rate is not an option. Remove it, and "
        "set learning_rate.",
    ),
    (f"{ODD}.AssertsItsOptions", {"strength": -1}, "failed (AssertionError). Correct"),
    ("torch.optim.Optimizer", {}, "unexpected keyword argument 'lr'"),
    (f"{ODD}.NoRate", {}, "has no lr in its parameter groups"),
    (
        f"{ODD}.NoStep",
        {},
        "in a test of a step with dense gradients (NotImpl",
    ),
    ("torch.optim.LBFGS", {}, "requires a closure, which is not supported"),
    (
        f"{ODD}.WantsClosure",
        {},
        "with dense gradients (sharpness needs a cl",
    ),
    ("torch.optim.SparseAdam", {}, "(SparseAdam does not support dense gradients"),
    (f"{ODD}.TrainWantsMode", {}, "missing 1 required positional argument: 'mode'"),
    (
        f"{ODD}.EvalRaises",
        {},
        "in a test of eval() and train()",
    ),
    (
        f"{ODD}.LoadRaises",
        {},
        "in a test of load_state_dict() (NotIm",
    ),
    (f"{ODD}.StateIsBare", {}, "(its result has no state and no param_groups). Use"),
    (f"{ODD}.DropsParameters", {}, "does not train 7 of 8 parameters"),
    (f"{ODD}.DropsInStep", {}, "does not train 7 of 8 parameters"),
    (f"{ODD}.ExitsWhenMade", {}, "(it exits the program: sys.exit('no license'))"),
    (f"{ODD}.ExitsInStep", {}, "(it exits the program: sys.exit(3)). Use another"),
    (f"{ODD}.MakesNothing", {}, "failed (it returns NoneType, not an optimizer)"),
    (
        f"{ODD}.NeverInitialized",
        {},
        "does not have the param_groups of a torch.optim.Optimizer",
    ),
    (f"{ODD}.StateOfObjects", {}, "has objects in its state that cannot be saved"),
]


def custom(path: str, **options: Any) -> dict[str, Any]:
    return {"name": "custom", "class": path, "options": options}


@pytest.mark.parametrize(("path", "options", "words"), REFUSED)
def test_what_cannot_train_is_refused_before_loading_by_train_and_validate_alike(
    tiny_sdxl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    options: dict[str, Any],
    words: str,
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("nothing of this may be called")

    for name in ("encode_caption", "encode_image"):
        monkeypatch.setattr(Sdxl, name, refuse)
    monkeypatch.setattr(os, "system", refuse)
    messages = []
    for model in (tiny_sdxl, Path("nobody/nothing")):
        config = tiny_config(model, tmp_path, optimizer=custom(path, **options))
        with pytest.raises(ConfigError) as error:
            estimate_run(config)
        messages.append(str(error.value))
    config = tiny_config(tiny_sdxl, tmp_path, optimizer=custom(path, **options))
    with pytest.raises(ConfigError) as error:
        train(config)
    assert messages == 2 * [str(error.value)]
    assert words in messages[0]
    assert "weights_only" not in messages[0]
    assert "\n" not in messages[0]
    assert not (tmp_path / "runs").exists()


def test_an_optimizer_for_matrices_alone_and_layers_that_have_others(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    """Muon takes parameters of two dimensions; DoRA has magnitudes of one."""
    muon = custom("torch.optim.Muon")
    estimate_run(tiny_config(tiny_sdxl, tmp_path, optimizer=muon))
    dora = {"use_dora": True, "output_formats": ["peft"]}
    with pytest.raises(ConfigError, match="only supports 2D parameters"):
        estimate_run(tiny_config(tiny_sdxl, tmp_path, optimizer=muon, **dora))


def test_weights_of_eval_mode_are_measured_shown_and_written_those_of_train_trained(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[str, bool]] = []
    made: list[ScheduleFree] = []
    init, loss = ScheduleFree.__init__, Validation.loss

    def keep(self: ScheduleFree, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        made.append(self)

    def note(what: str, then: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            modes.append((what, made[-1].param_groups[0]["train_mode"]))
            return then(*args, **options)

        return noted

    monkeypatch.setattr(ScheduleFree, "__init__", keep)
    monkeypatch.setattr(Validation, "loss", note("validation", loss))
    monkeypatch.setattr(Sdxl, "sample", note("sample", Sdxl.sample))
    monkeypatch.setattr(Loop, "save", note("checkpoint", Loop.save))
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        optimizer=custom(f"{ODD}.ScheduleFree"),
        validate_every=2,
        sample_every=4,
        samples=[{"prompt": "thing", "steps": 1}],
    )
    result = train(config)
    assert set(modes) == {
        ("validation", False),
        ("sample", False),
        ("checkpoint", True),
    }
    # The file holds x = (y - 0.1 z) / 0.9, the checkpoint y and z.
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    y = factors_of(result)[f"{name}.lora_B.default.weight"]
    up = load_lora(result.lora_files[0])[f"unet.{name}"].up
    parameter = next(
        p for p in made[-1].state if p.shape == y.shape and torch.equal(p, y)
    )
    z = made[-1].state[parameter]["z"]
    assert not torch.equal(up, y)
    torch.testing.assert_close(up, (y - 0.1 * z) / 0.9, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("ema", ["off", "cpu"])
def test_schedule_free_runs_end_the_same_however_often_they_are_measured_or_stopped(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, ema: str
) -> None:
    chosen = {
        "optimizer": custom(f"{ODD}.ScheduleFree"),
        "learning_rate": 1e-2,
        "ema": ema,
        "save_without_ema": ema != "off",
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **chosen))
    config = tiny_config(tiny_sdxl, tmp_path, validate_every=1, **chosen)
    with stop_after(2, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)
    assert [path.name for path in whole.lora_files] == [
        path.name.replace("tiny", "whole") for path in resumed.lora_files
    ]
    for first, second in zip(whole.lora_files, resumed.lora_files, strict=True):
        ours, theirs = load_lora(first), load_lora(second)
        assert all(torch.equal(ours[n].up, theirs[n].up) for n in ours)
