"""Programs that bring a copy of sd-scripts along: their files, their copy, a tiny SDXL.

Needs the environment of sd-scripts and checkouts with their submodules:

    python scripts/setup_host.py sd-scripts CHECKOUT_OF_SD_SCRIPTS
    SD_SCRIPTS_ROOT=CHECKOUT_OF_SD_SCRIPTS LORA_SCRIPTS_ROOT=CHECKOUT \
        EASY_SCRIPTS_ROOT=CHECKOUT python -m pytest tests/hosts/test_kohya_frontends.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from sd_scripts_run import HERE, HOST, NETWORK, make_folder
from unmodified_host import UnmodifiedHost

from stiefel_lora.files import read_tensors
from stiefel_lora.geometry import orthogonality_error

LORA_SCRIPTS = UnmodifiedHost("LORA_SCRIPTS_ROOT")
EASY_SCRIPTS = UnmodifiedHost("EASY_SCRIPTS_ROOT")
LAYERS = 722

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not HOST.given, reason="SD_SCRIPTS_ROOT names no checkout"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("frontends"))


def settings_of(folder: Path, name: str) -> dict[str, Any]:
    """What a user fills in for the tiny model."""
    (folder / name).mkdir()
    return {
        "pretrained_model_name_or_path": str(folder / "made" / "model"),
        "tokenizer_cache_dir": str(folder / "made" / "tokenizers"),
        "output_dir": str(folder / name),
        "output_name": name,
        "network_dim": 4,
        "max_train_steps": 2,
        "mixed_precision": "no",
        "save_precision": "float",
        "max_data_loader_n_workers": 1,
        "persistent_data_loader_workers": False,
        "network_train_unet_only": True,
        "cache_latents": True,
    }


def launch(root: Path, folder: Path, name: str, *files: str) -> str:
    script = HERE / "sd_scripts_launch.py"
    dump = folder / f"{name}.pt"
    return HOST.run(script, root, dump, "sdxl_train_network.py", *files)


def assert_trained(folder: Path, name: str, printed: str) -> None:
    assert "--network_alpha differs from --network_dim in 806 layers" in printed
    assert f"StiefelLoRA trains {LAYERS} LoRA pairs." in printed
    file = folder / name / f"{name}.safetensors"
    weights = load_file(file)
    ups = [value for key, value in weights.items() if key.endswith("lora_up.weight")]
    assert len(ups) == LAYERS
    assert all(orthogonality_error(up.flatten(1)) <= 1e-5 for up in ups)
    metadata = read_tensors(file)[1]
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_network_alpha"] == "4"


def test_lora_scripts_trains_with_its_own_copy(folder: Path) -> None:
    """The file is what its window writes: the settings, in TOML."""
    if not LORA_SCRIPTS.given:
        pytest.skip("LORA_SCRIPTS_ROOT names no checkout")
    before = LORA_SCRIPTS.changes()
    settings = settings_of(folder, "lora_scripts") | {
        "train_data_dir": str(folder / "pictures"),
        "resolution": "64,64",
        "network_alpha": 1,
        "learning_rate": "2e-2",
        "unet_lr": "2e-2",
        "text_encoder_lr": "2e-2",
        "optimizer_type": "stiefel_lora.StiefelLoRA",
        "network_module": NETWORK,
    }
    file = folder / "autosave.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    file.write_text("\n".join(lines).replace('"2e-2"', "2e-2"))
    root = LORA_SCRIPTS.root / "scripts" / "stable"
    printed = launch(root, folder, "lora_scripts", "--config_file", str(file))
    assert_trained(folder, "lora_scripts", printed)
    assert LORA_SCRIPTS.changes() == before


def test_easy_training_scripts_train_from_window_to_file(folder: Path) -> None:
    if not EASY_SCRIPTS.given:
        pytest.skip("EASY_SCRIPTS_ROOT names no checkout")
    before, root = EASY_SCRIPTS.changes(), EASY_SCRIPTS.root
    place = folder / "easy_work"
    place.mkdir()
    window = place / "window.json"
    subprocess.run(
        [sys.executable, HERE / "easy_window.py", root, window],
        check=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    sent = json.loads(window.read_text())
    sent["args"]["general_args"] |= settings_of(folder, "easy")
    sent["dataset"]["general_args"] |= {"resolution": 64}
    sent["dataset"]["bucket_args"] |= {"min_bucket_reso": 64, "max_bucket_reso": 128}
    sent["args"]["saving_args"].pop("save_precision")
    sent["args"]["network_args"]["network_dim"] = 4
    pictures = str(folder / "pictures" / "1_thing")
    kept = {"image_dir": pictures, "num_repeats": 1, "caption_extension": ".txt"}
    sent["dataset"]["subsets"] = [kept]
    window.write_text(json.dumps(sent))
    HOST.run(HERE / "easy_backend.py", root, window, place)
    files = [
        f"--{option}={place / 'runtime_store' / name}.toml"
        for option, name in (("config_file", "config"), ("dataset_config", "dataset"))
    ]
    own = root / "backend" / "sd_scripts"
    assert_trained(folder, "easy", launch(own, folder, "easy", *files))
    assert EASY_SCRIPTS.changes() == before
