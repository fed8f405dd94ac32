"""OneTrainer itself, unmodified, trains a tiny SD 1.5 through the launcher.

Needs a checkout and its environment; docs/integrations/onetrainer.md says how to make
them:

    ONETRAINER_ROOT=CHECKOUT python -m pytest tests/hosts/test_onetrainer_host.py
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from onetrainer_runs import EPOCHS, PICTURES, Runs, assert_same_products, products
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost, assert_goes_on, replay

from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations.onetrainer.dropin import install

HERE = Path(__file__).parent
HOST = UnmodifiedHost("ONETRAINER_ROOT")
LAYERS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]


@pytest.fixture(scope="module")
def changes_before() -> str:
    return HOST.changes()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, changes_before: str) -> Runs:
    runs = Runs(HOST, tmp_path_factory.mktemp("onetrainer"))
    runs.make_model("sd15")
    return runs


@pytest.fixture(scope="module")
def flux(runs: Runs) -> Path:
    return runs.make_model("flux")


@pytest.fixture(scope="module")
def printed(runs: Runs) -> str:
    return runs.train("whole")


def test_alpha_becomes_the_rank_with_a_message(printed: str) -> None:
    assert "LoRA alpha: 1 is replaced by the rank, 4" in printed


def test_it_logs_how_many_pairs_it_trains(printed: str) -> None:
    assert f"stiefel-lora: Stiefel LoRA trains {LAYERS} LoRA pairs." in printed


def test_the_file_holds_orthonormal_factors(runs: Runs, printed: str) -> None:
    weights = runs.weights("whole")
    ups = [value for name, value in weights.items() if name.endswith("lora_up.weight")]
    assert len(ups) == LAYERS
    assert all(orthogonality_error(up.flatten(1)) <= 1e-5 for up in ups)
    downs = [v for name, v in weights.items() if name.endswith("lora_down.weight")]
    assert all(down.any() for down in downs)
    assert {float(v) for name, v in weights.items() if name.endswith("alpha")} == {4.0}


def test_its_tensorboard_shows_the_ranks(runs: Runs, printed: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (runs.folder / "whole" / "tensorboard").rglob("events.*")
    found = EventAccumulator(str(events), size_guidance={"scalars": 0})
    found.Reload()
    tags = found.Tags()["scalars"]
    assert len([tag for tag in tags if tag.startswith("effective_rank.")]) == LAYERS
    assert not any(tag.startswith("effective_rank.other") for tag in tags)
    assert [event.step for event in found.Scalars("effective_rank/mean")] == [0, 5, 10]
    assert found.Scalars("orthogonality/largest")[-1].value <= 1e-5
    assert "loss/train_step" in tags


def test_its_steps_are_ours(runs: Runs, printed: str) -> None:
    assert replay(runs.dump("whole"), lr=1e-2) == (PICTURES * EPOCHS, LAYERS)


def test_a_resumed_run_goes_on_from_its_backup(runs: Runs, printed: str) -> None:
    runs.train(
        "more",
        workspace_dir=str(runs.folder / "whole"),
        continue_last_backup=True,
        epochs=EPOCHS + 1,
    )
    assert assert_goes_on(runs.dump("whole"), runs.dump("more")) == PICTURES


def test_bfloat16_layers_are_trained_and_resumed(runs: Runs) -> None:
    changes = {
        "lora_weight_dtype": "BFLOAT_16",
        "train_dtype": "BFLOAT_16",
        "workspace_dir": str(runs.folder / "bfloat16"),
    }
    printed = runs.train("bfloat16", **changes)
    assert "LoRA weight data type is bfloat16" in printed
    more = {"continue_last_backup": True, "epochs": EPOCHS + 1}
    runs.train("bfloat16_more", **changes, **more)
    for name in ("bfloat16", "bfloat16_more"):
        weights = runs.weights(name)
        ups = [v.float() for key, v in weights.items() if key.endswith("up.weight")]
        # The rounding of orthonormal columns.
        assert max(orthogonality_error(up.flatten(1)) for up in ups) <= 1e-2
        downs = {key: v for key, v in weights.items() if "lora_down" in key}
        # q and k of the one token in the middle have no gradient but for rounding.
        moved = [key for key, v in downs.items() if v.any() or "mid_block" in key]
        assert len(moved) == len(downs) == LAYERS
    assert_goes_on(runs.dump("bfloat16"), runs.dump("bfloat16_more"))


FORMATS = ("KOHYA_LORA", "DIFFUSERS_LORA", "ORIGINAL_LORA", "COMFY_LORA", "LEGACY_LORA")


@pytest.fixture(scope="module")
def chain(runs: Runs, printed: str) -> list[str]:
    """Runs that each begin with the file of the one before, one in each format."""
    names = ["whole"]
    for kind in (*FORMATS[1:], FORMATS[0]):
        loaded = str(runs.path(names[-1]))
        names.append(f"to_{kind}")
        more = {"lora_model_name": loaded, "output_model_format": kind, "epochs": 1}
        runs.train(names[-1], **more)
    return names


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_what_was_trained(
    runs: Runs, chain: list[str], kind: str
) -> None:
    place = FORMATS.index(kind)
    last = runs.steps(chain[place])[-1]
    trained = products(dict(zip(last["names"], last["after"], strict=True)))
    assert len(trained) == LAYERS
    assert_same_products(trained, products(runs.weights(chain[place])))
    first = runs.steps(chain[place + 1])[0]
    assert first["names"] == last["names"]
    loaded = products(dict(zip(first["names"], first["before"], strict=True)))
    for before, after in zip(trained, loaded, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("output_axis", [False, True])
def test_dora_trains_on_both_axes_and_in_convolutions(
    runs: Runs, output_axis: bool
) -> None:
    name = f"dora_{output_axis}"
    changes = {"lora_decompose": True, "lora_decompose_output_axis": output_axis}
    changes |= {"layer_filter": "", "epochs": 1}
    runs.train(name, **changes)
    weights, steps = runs.weights(name), runs.steps(name)
    ups = {k: v for k, v in weights.items() if k.endswith("lora_up.weight")}
    assert all(orthogonality_error(up.flatten(1)) <= 1e-5 for up in ups.values())
    kernels = {v.shape[-1] for v in weights.values() if v.dim() == 4}
    assert kernels >= {1, 3}
    for key, up in ups.items():
        scale = weights[key.replace("lora_up.weight", "dora_scale")]
        down = weights[key.replace("lora_up", "lora_down")]
        assert scale.shape[0 if output_axis else 1] in (up.shape[0], down.shape[1])
        assert scale.numel() == (up.shape[0] if output_axis else down.shape[1])
    assert replay(runs.dump(name), lr=1e-2) == (PICTURES, len(ups))
    runs.train(f"{name}_again", lora_model_name=str(runs.path(name)), **changes)
    first = runs.steps(f"{name}_again")[0]
    assert first["names"] == steps[-1]["names"]
    pairs = zip(steps[-1]["after"], first["before"], strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)


def test_ema_is_saved_as_a_lora_and_training_goes_on(runs: Runs) -> None:
    averages = {"ema": "CPU", "ema_decay": 0.9, "ema_update_step_interval": 1}
    saving = {"save_every": 5, "save_every_unit": "STEP"}
    runs.train("ema", learning_rate=0.1, **averages, **saving)
    steps, factors = runs.steps("ema"), runs.weights("ema")
    for step, following in itertools.pairwise(steps):
        pairs = zip(step["after"], following["before"], strict=True)
        assert all(torch.equal(old, new) for old, new in pairs)
    means = [value.clone() for value in steps[0]["before"]]
    for number, step in enumerate(steps):
        decay = min((1 + number) / (10 + number), 0.9)
        for mean, value in zip(means, step["after"], strict=True):
            mean.lerp_(value, 1 - decay)
    named = dict(zip(steps[0]["names"], means, strict=True))
    assert_same_products(products(named), products(factors))
    off = [m.flatten(1) for name, m in named.items() if "lora_up" in name]
    assert min(orthogonality_error(up) for up in off) > 1e-3
    between = sorted((runs.folder / "ema" / "save").glob("*.safetensors"))
    assert len(between) == 2
    for saved in (factors, *map(load_file, between)):
        ups = [up for key, up in saved.items() if key.endswith("lora_up.weight")]
        assert len(ups) == LAYERS
        assert all(orthogonality_error(up.flatten(1)) <= 1e-5 for up in ups)


def test_a_fused_back_pass_ends_with_the_same_factors(runs: Runs) -> None:
    # It clips each gradient on its own, the usual one all of them together.
    usual = {"clip_grad_norm": None, "epochs": 1}
    step = {"stiefel_lora_step": "factors"}
    runs.train("apart", settings=step, **usual)
    runs.train("fused", settings={**step, "fused_back_pass": True}, **usual)
    assert all(grad is None for grad in runs.steps("fused")[-1]["grads"])
    found, expected = runs.weights("fused"), runs.weights("apart")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "changes", "sentence"),
    [
        (
            "StelLA",
            {"settings": {"fused_back_pass": True}},
            "Fused back pass: not supported by StelLA, which updates both factors",
        ),
        (
            "Stifel LoRA",
            {},
            "There is no optimizer 'Stifel LoRA'. Did you mean Stiefel",
        ),
    ],
)
def test_what_can_not_work_is_refused(
    runs: Runs, optimizer: str, changes: dict[str, Any], sentence: str
) -> None:
    assert sentence in runs.refuse("refused", optimizer, **changes)


def test_sdxl_trains_and_its_file_is_read_back(runs: Runs) -> None:
    model = runs.make_model("sdxl")
    changes = {"model_type": "STABLE_DIFFUSION_XL_10_BASE", "epochs": 1}
    changes |= {"base_model_name": str(model), "cache_dir": str(runs.folder / "xl")}
    # Its buckets are multiples of 64, so that the narrow ones of 64 pixels are empty.
    changes |= {"aspect_ratio_bucketing": False}
    runs.train("sdxl", **changes)
    weights, steps = runs.weights("sdxl"), runs.steps("sdxl")
    ups = [key for key in weights if key.endswith("lora_up.weight")]
    assert any("input_blocks" in key for key in ups)
    assert all(orthogonality_error(weights[key].flatten(1)) <= 1e-5 for key in ups)
    assert replay(runs.dump("sdxl"), lr=1e-2) == (PICTURES, len(ups))
    runs.train("sdxl_again", lora_model_name=str(runs.path("sdxl")), **changes)
    first = runs.steps("sdxl_again")[0]
    pairs = zip(steps[-1]["after"], first["before"], strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)


@pytest.mark.parametrize(
    ("kind", "layers"), [("KOHYA_LORA", 7), ("DIFFUSERS_LORA", 14)]
)
def test_flux_trains_with_one_b_for_qkv_and_with_three(
    runs: Runs, flux: Path, kind: str, layers: int
) -> None:
    trained = {"weight_dtype": "FLOAT_32", "train": True}
    runs.train(
        kind,
        model_type="FLUX_DEV_1",
        base_model_name=str(flux),
        cache_dir=str(runs.folder / "flux_cache"),
        transformer=trained,
        unet=trained | {"train": False},
        layer_filter="attn,ff.net,proj_mlp",
        aspect_ratio_bucketing=False,
        output_model_format=kind,
        epochs=1,
    )
    assert replay(runs.dump(kind), lr=1e-2) == (PICTURES, layers)
    last, weights = runs.steps(kind)[-1], runs.weights(kind)
    trained_products = products(dict(zip(last["names"], last["after"], strict=True)))
    assert_same_products(trained_products, products(weights))
    ups = [up for name, up in weights.items() if "lora_up" in name or "lora_B" in name]
    assert len(ups) == layers
    assert all(orthogonality_error(up) <= 1e-5 for up in ups)


def test_two_processes_end_with_the_same_bits(runs: Runs) -> None:
    config = runs.config("two", multi_gpu=True)
    HOST.run(HERE / "onetrainer_two.py", HOST.root, config, runs.folder)
    first, second = (
        torch.load(runs.folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert len(first["factors"]) == 2 * LAYERS
    assert len(first["grads"]) == EPOCHS * PICTURES // 2
    for mine, other in zip(first["factors"], second["factors"], strict=True):
        assert torch.equal(mine, other)


def test_the_dropin_trains_without_our_launcher(runs: Runs) -> None:
    config, dropin = runs.config("dropin", epochs=1), install(HOST.root)
    start = f"import sys; sys.path[:0] = [{str(HERE)!r}, 'scripts']; "
    start += "import loadable_torchvision, train; train.main()"
    try:
        HOST.run("-c", start, "--config-path", config)
    finally:
        dropin.unlink()
    weights = runs.weights("dropin")
    ups = [up for name, up in weights.items() if name.endswith("lora_up.weight")]
    assert len(ups) == LAYERS
    assert all(orthogonality_error(up.flatten(1)) <= 1e-5 for up in ups)


def test_its_own_optimizer_is_left_alone(runs: Runs) -> None:
    runs.train("host", optimizer="ADAMW", epochs=1)
    weights = runs.weights("host")
    assert {float(v) for name, v in weights.items() if name.endswith("alpha")} == {1.0}
    assert runs.steps("host") == []


def test_the_window_shows_the_method(runs: Runs, changes_before: str) -> None:
    output = HOST.run(HERE / "onetrainer_window.py", HOST.root, runs.folder)
    assert "chosen: Stiefel LoRA" in output
    assert "Angle per lr" in output
    assert "alpha with it: [('24', False)]" in output
    assert "alpha at another rank: [('8', False)]" in output
    assert "alpha with ADAMW: [('2.0', True)] 2.0" in output
    assert "alpha in a new tab: [('8', False)]" in output
    assert "rate with it: 0.02 0.02" in output
    assert "rate with ADAMW: 0.0003 0.0003" in output
    assert "rate in a new tab: 0.0001 0.0001" in output
    message = output.partition("refused: ")[2]
    assert "Stiefel LoRA trains LoRA factors, which LOHA does not have" in message
    assert "Traceback" not in output
    for name in ("training_tab.png", "parameters.png", "lora_tab.png"):
        assert (runs.folder / name).stat().st_size > 10_000


def test_the_checkout_is_as_it_was(printed: str, changes_before: str) -> None:
    assert HOST.changes() == changes_before
