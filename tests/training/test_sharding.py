"""A base model divided among two processes: the run of an undivided one."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.runs import make_images, tiny_config, tiny_flux_config
from helpers.team_runs import distance, events, factors, run
from helpers.training_process import SIGKILL, kill_at, start_team
from helpers.varied import varied_settings
from stiefel_lora import ConfigError
from stiefel_lora.config.process_count import check_process_count
from stiefel_lora.training.sharding import check_sharding
from stiefel_lora.training.trainer import train

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs fork (not on Windows)"
)

SGD = {"optimizer": {"name": "custom", "class": "torch.optim.SGD"}}
SHARED = {"shard_base_model": True}


def _write_sizes(folder: Path, index: int) -> None:
    """Write the sizes of all weights, and of the parts that a process holds."""
    from stiefel_lora.training import trainer

    plain = trainer.build_state

    def build_state(*arguments: Any) -> Any:
        state = plain(*arguments)
        sizes = {
            name: (weight.numel(), getattr(weight, "to_local", lambda w=weight: w)())
            for name, weight in state.denoiser.named_parameters()
        }
        found = {name: (whole, part.numel()) for name, (whole, part) in sizes.items()}
        (folder / f"sizes-{index}.json").write_text(json.dumps(found))
        return state

    trainer.build_state = build_state


def test_each_process_holds_half_of_each_weight_and_all_factors(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=1, **SHARED)
    logs = tmp_path / "logs"
    run(config, logs, check_every=1, before=functools.partial(_write_sizes, logs))
    first, second = (
        json.loads((logs / f"sizes-{index}.json").read_text()) for index in (0, 1)
    )
    base = [name for name in first if ".lora_" not in name]
    assert len(base) > 100
    for name in first:
        (whole, own), (_, other) = first[name], second[name]
        if name in base:
            # Rows are divided: of three, one process has two.
            assert own + other == whole
            assert own - other in (0, whole // 3), name
        else:
            assert own == other == whole
    total = sum(first[name][0] for name in base)
    assert sum(first[name][1] for name in base) == pytest.approx(total / 2, rel=0.01)


def both(root: Path, make: Any, model: Path, **settings: Any) -> tuple[Path, Path]:
    """Train on two processes without sharding and with it."""
    found = []
    for name, is_shared in (("whole", False), ("shared", True)):
        config = make(
            model, root, run_name=name, shard_base_model=is_shared, **settings
        )
        found.append(run(config, root / "logs" / name, check_every=1))
    return found[0], found[1]


# The gradients of some inputs are sums of three branches, and hooks of FSDP change the
# order of the sums in a U-Net.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "optimizer", "limit"),
    [
        ("sdxl", "sgd", 1e-5),
        ("sdxl", "adamw", 2e-2),
        ("sdxl", "stiefel_lora", 2e-2),
        ("flux", "adamw", 2e-2),
    ],
)
def test_factors_validation_and_samples_are_those_of_an_undivided_model(
    tiny_sdxl: Path,
    tiny_flux: Path,
    tmp_path: Path,
    family: str,
    optimizer: str,
    limit: float,
) -> None:
    chosen = SGD if optimizer == "sgd" else {"optimizer": {"name": optimizer}}
    # Three samples and three validation batches of one image: process 1 has fewer.
    one_image = str(make_images(tmp_path / "one", count=1, seed=2))
    settings = {
        **chosen,
        "samples": [{"prompt": text, "steps": len(text)} for text in ("a", "bb", "c")],
        "sample_every": 4,
        "validate_every": 2,
        "validation_concepts": [{"path": one_image}],
        "validation_timesteps_per_picture": 3,
        "learning_rate": 1e-2,
        "gradient_checkpointing": family == "flux",
    }
    make, model = (
        (tiny_config, tiny_sdxl) if family == "sdxl" else (tiny_flux_config, tiny_flux)
    )
    whole, shared = both(tmp_path, make, model, **settings)
    assert distance(factors(whole), factors(shared)) < limit
    first, second = (events(folder, "validation") for folder in (whole, shared))
    assert len(first) == 3
    # Before training to the bit: weights are gathered as they were.
    assert first[0] == second[0]
    for a, b in zip(first, second, strict=True):
        assert b["validation/loss"] == pytest.approx(a["validation/loss"], rel=1e-4)
    for number in range(3):
        images = [
            Image.open(folder / f"samples/step-000000-{number}.png").tobytes()
            for folder in (whole, shared)
        ]
        assert images[0] == images[1]
    assert sorted(p.name for p in (whole / "samples").iterdir()) == sorted(
        p.name for p in (shared / "samples").iterdir()
    )


# Both processes run the denoiser equally often, although only some images have a mask
# or are targets of prior preservation.
EVERYTHING = {
    "masked_prior_preservation_weight": 0.5,
    "module_dropout": 0.2,
    "rank_dropout": 0.2,
    "train_text_encoder": True,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": True,
    "ema": "cpu",
    "ema_update_step_interval": 1,
    "validate_every": 2,
    "lora_rank": 2,
    "conv_rank": 2,
    "layer_filter": [],
    "layer_filter_preset": "full",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [EVERYTHING, {"weight_dtype": "nfloat4"}],
    ids=["everything", "nfloat4"],
)
def test_so_is_a_run_with_other_settings(
    tiny_sdxl: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = {**varied_settings(tmp_path), **SGD, "learning_rate": 1e-2, **changes}
    whole, shared = both(tmp_path, tiny_config, tiny_sdxl, **settings)
    assert distance(factors(whole), factors(shared)) < 1e-4
    assert [e["loss/train"] for e in events(shared, "train")] == pytest.approx(
        [e["loss/train"] for e in events(whole, "train")], rel=1e-5
    )


@pytest.mark.slow
def test_loi_starts_from_the_same_singular_values(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    """Signs of singular vectors depend on rounding, their spaces do not."""
    settings = {"lora_init": "loi", "loi_batches": 3, "steps": 1, "learning_rate": 1e-9}
    whole, shared = both(tmp_path, tiny_config, tiny_sdxl, **SGD, **settings)
    starts = [
        {name: abs(value) for name, value in factors(folder).items()}
        for folder in (whole, shared)
    ]
    assert distance(*starts) < 1e-2
    (first,), (second,) = (events(folder, "train") for folder in (whole, shared))
    assert second["loss/train"] == pytest.approx(first["loss/train"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_process_leaves_a_checkpoint_for_any_number_of_processes(
    tiny_sdxl: Path, tmp_path: Path, number: int
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=6, **SHARED)
    end = functools.partial(kill_at, 3, number, SIGKILL)
    team = start_team(config, tmp_path / "logs", before=end)
    codes = team.codes()
    assert codes[number] == -SIGKILL
    printed = team.printed(1 - number)
    assert codes[1 - number] == 1, printed
    folder = tmp_path / "runs" / "tiny"
    assert [path.name for path in folder.glob("checkpoints/*")] == ["step-3"]
    assert printed.count("ended unexpectedly at step 3. The last checkpoint is") == 1
    assert "Traceback" not in printed
    whole = config.model_copy(update={"run_name": "whole"})
    expected = factors(run(whole, tmp_path / "w", 2))
    alone = config.model_copy(update={"shard_base_model": False, "device": "cpu"})
    # Resumed copies, since the first would move the checkpoint of the second.
    for name, settings, count, limit in (
        ("shared", config, 2, 0.0),
        ("alone", alone, 1, 2e-2),
    ):
        copy = tmp_path / name / "runs"
        shutil.copytree(tmp_path / "runs", copy)
        moved = settings.model_copy(update={"output_dir": copy})
        resumed = run(moved, tmp_path / name / "logs", count, resume=str(copy / "tiny"))
        assert distance(expected, factors(resumed)) <= limit


def test_one_process_and_an_old_torch_are_refused(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, **SHARED)
    with pytest.raises(ConfigError, match="requires several processes") as error:
        train(config)
    assert error.value.key == "shard_base_model"
    assert not (tmp_path / "runs").exists()
    check_process_count(config, 2)
    check_sharding(config)
    monkeypatch.setattr("torch.distributed.fsdp.fully_shard", lambda module: module)
    with pytest.raises(ConfigError, match=r"requires torch 2\.7"):
        check_sharding(config)
