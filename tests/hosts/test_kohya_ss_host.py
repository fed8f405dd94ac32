"""kohya_ss builds the command of sd-scripts from its fields; that command then trains.

Needs a checkout of each and their environments:

    python scripts/setup_host.py kohya_ss CHECKOUT
    python scripts/setup_host.py sd-scripts CHECKOUT_OF_SD_SCRIPTS
    KOHYA_SS_ROOT=CHECKOUT SD_SCRIPTS_ROOT=CHECKOUT_OF_SD_SCRIPTS \
        python -m pytest tests/hosts/test_kohya_ss_host.py
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sd_scripts_run import HERE, make_folder
from sd_scripts_run import HOST as SD_SCRIPTS
from unmodified_host import UnmodifiedHost

from stiefel_lora.geometry import orthogonality_error

HOST = UnmodifiedHost("KOHYA_SS_ROOT")
# What docs/integrations/kohya_ss.md says to write into the window.
FIELDS = {
    "optimizer": "stiefel_lora.StiefelLoRA",
    "optimizer_args": "momentum=0.9 b_rule='spectral'",
    "learning_rate": 2e-2,
    "unet_lr": 2e-2,
    "text_encoder_lr": 0,
}
MODULE = "--network_module stiefel_lora.integrations.sdscripts"
LABELS = {
    "optimizer": "Optimizer",
    "optimizer_args": "Optimizer extra arguments",
    "learning_rate": "Learning rate",
    "unet_lr": "Unet learning rate",
    "text_encoder_lr": "Text Encoder learning rate",
    "additional_parameters": "Additional parameters",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not (HOST.given and SD_SCRIPTS.given),
        reason="KOHYA_SS_ROOT or SD_SCRIPTS_ROOT names no checkout",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("kohya_ss"))


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What the window prints, with the fields above and a model as small as can be."""
    small = {
        "pretrained_model_name_or_path": str(folder / "made" / "model"),
        "sdxl": True,
        "train_data_dir": str(folder / "pictures"),
        "output_dir": str(folder / "out"),
        "output_name": "lora",
        "max_resolution": "64,64",
        "enable_bucket": False,
        "epoch": 1,
        "max_train_steps": 3,
        "network_dim": 4,
        "mixed_precision": "no",
        "xformers": "none",
        "max_data_loader_n_workers": 0,
        "sdxl_cache_text_encoder_outputs": True,
    }
    tokenizers = f"--tokenizer_cache_dir {folder / 'made' / 'tokenizers'}"
    more = {"additional_parameters": f"{MODULE} {tokenizers}"}
    fields = folder / "fields.json"
    fields.write_text(json.dumps(small | FIELDS | more), "utf-8")
    (folder / "out").mkdir()
    return HOST.run(HERE / "kohya_ss_command.py", HOST.root, fields)


def test_the_fields_have_these_labels(printed: str) -> None:
    for name, label in LABELS.items():
        assert f"label of {name}: {label}\n" in printed


def test_its_command_trains(folder: Path, printed: str) -> None:
    (line,) = (line for line in printed.splitlines() if "--config_file" in line)
    command = shlex.split(line)
    script = next(word for word in command if word.endswith("_network.py"))
    assert Path(script).name == "sdxl_train_network.py"
    arguments = command[command.index(script) + 1 :]
    launch = HERE / "sd_scripts_launch.py"
    dump = folder / "steps.pt"
    output = SD_SCRIPTS.run(
        *(launch, SD_SCRIPTS.root, dump, Path(script).name, *arguments)
    )
    assert "StiefelLoRA trains 722 LoRA pairs" in output
    assert "while the default of" not in output
    weights = load_file(folder / "out" / "lora.safetensors")
    ups = [v for name, v in weights.items() if name.endswith("lora_up.weight")]
    assert ups
    # The window saves in float16 unless told otherwise.
    assert {up.dtype for up in ups} == {torch.float16}
    assert all(orthogonality_error(up.flatten(1).float()) <= 1e-3 for up in ups)
