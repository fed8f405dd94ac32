"""sd-scripts itself, unmodified, trains a narrow FLUX with the network module.

Needs what tests/hosts/test_sd_scripts.py needs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from sd_scripts_run import HERE, HOST, MARKS, train
from unmodified_host import assert_goes_on, replay

from helpers.runs import make_images
from stiefel_lora.geometry import orthogonality_error

# Ten layers of a double block, two of each of two single blocks, one of CLIP's six.
LAYERS, TEXT_LAYERS, STEPS = 16, 6, 5

pytestmark = MARKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux")
    make_images(folder / "pictures" / "1_thing", count=3, side=64)
    HOST.run(HERE / "sd_scripts_flux_model.py", HOST.root, folder)
    return folder


def flux(folder: Path, name: str, *more: str | Path, **changes: object) -> str:
    files = {
        "pretrained_model_name_or_path": folder / "flux.safetensors",
        "ae": folder / "ae.safetensors",
        "clip_l": folder / "clip_l.safetensors",
        "t5xxl": folder / "t5xxl.safetensors",
        "tokenizer_cache_dir": folder / "tokenizers",
    }
    settings = {
        "t5xxl_max_token_length": 16,
        "timestep_sampling": "shift",
        "discrete_flow_shift": 3.1582,
        "model_prediction_type": "raw",
        "guidance_scale": 1.0,
        "max_train_steps": STEPS,
    }
    script = "flux_train_network.py"
    return train(folder, name, *more, script=script, **files | settings | changes)


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    logs = folder / "whole" / "logs"
    return flux(
        folder, "whole", log_with="tensorboard", logging_dir=logs, save_state=True
    )


def test_the_file_holds_orthonormal_factors(folder: Path, printed: str) -> None:
    layers = LAYERS + TEXT_LAYERS
    assert f"--network_alpha differs from --network_dim in {layers} layers" in printed
    weights = load_file(folder / "whole" / "whole.safetensors")
    ups = [value for name, value in weights.items() if name.endswith("lora_up.weight")]
    assert len(ups) == LAYERS
    assert all(orthogonality_error(up.float()) <= 1e-5 for up in ups)
    downs = [v for name, v in weights.items() if name.endswith("lora_down.weight")]
    assert all(down.any() for down in downs)
    assert {float(v) for name, v in weights.items() if name.endswith("alpha")} == {4.0}


def test_its_tensorboard_shows_the_ranks(folder: Path, printed: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (folder / "whole" / "logs").rglob("events.*")
    found = EventAccumulator(str(events), size_guidance={"scalars": 0})
    found.Reload()
    tags = [t for t in found.Tags()["scalars"] if t.startswith("effective_rank.")]
    assert len(tags) == LAYERS
    sections = {tag.split("/")[0].removeprefix("effective_rank.") for tag in tags}
    assert sections == {"double_blocks.0", "single_blocks.0", "single_blocks.1"}


def test_its_steps_are_ours(folder: Path, printed: str) -> None:
    assert replay(folder / "whole.pt", lr=1e-2) == (STEPS, LAYERS)


def test_a_resumed_run_goes_on_from_its_state(folder: Path, printed: str) -> None:
    (state,) = (folder / "whole").glob("*-state")
    flux(
        folder,
        "more",
        resume=state,
        skip_until_initial_step=True,
        max_train_steps=STEPS + 1,
    )
    assert assert_goes_on(folder / "whole.pt", folder / "more.pt") == 1


def test_clip_is_trained_along_with_lora_plus(folder: Path) -> None:
    flux(
        folder,
        "text",
        network_args="loraplus_lr_ratio=4",
        network_train_unet_only=None,
        text_encoder_lr=5e-3,
        max_train_steps=2,
    )
    weights = load_file(folder / "text" / "text.safetensors")
    ups = {n: v for n, v in weights.items() if n.endswith("lora_up.weight")}
    assert sum(name.startswith("lora_te1") for name in ups) == TEXT_LAYERS
    assert all(orthogonality_error(up.float()) <= 1e-5 for up in ups.values())
