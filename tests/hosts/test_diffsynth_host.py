"""DiffSynth-Studio itself, unmodified, trains a small SDXL with --customized_optimizer.

Needs a checkout and its environment:

    python scripts/setup_host.py diffsynth CHECKOUT
    DIFFSYNTH_ROOT=CHECKOUT python -m pytest tests/hosts/test_diffsynth_host.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost

from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.methods import CATALOGUE

HERE = Path(__file__).parent
HOST = UnmodifiedHost("DIFFSYNTH_ROOT")
RANK, LAYERS = 4, 56

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not HOST.given, reason="DIFFSYNTH_ROOT names no checkout"),
]


def train(folder: Path, name: str, **changes: object) -> str:
    """Train into ``folder / name``, and give what the host printed."""
    arguments = {
        "dataset_base_path": ".",
        "output_path": folder / name,
        "remove_prefix_in_ckpt": "pipe.unet.",
        "lora_base_model": "unet",
        "lora_target_modules": "to_q,to_k,to_v,to_out.0",
        "lora_rank": RANK,
        "customized_optimizer": "stiefel_lora.StiefelLoRA",
        "learning_rate": 2e-2,
        "weight_decay": 0,
        "num_epochs": 2,
        **changes,
    }
    pairs = [(f"--{key}", str(value)) for key, value in arguments.items()]
    command = [part for pair in pairs for part in pair]
    return HOST.run(HERE / "diffsynth_launch.py", *command)


# 8-bit AdamW needs a package that the host does not ask for.
@pytest.mark.parametrize("name", [n for n, m in CATALOGUE.items() if not m.extra])
def test_every_method_trains_by_import_path(tmp_path: Path, name: str) -> None:
    before = HOST.changes()
    entry = CATALOGUE[name]
    kind = entry.target.partition(":")[2]
    printed = train(
        tmp_path,
        name,
        customized_optimizer=f"stiefel_lora.{kind}",
        learning_rate=entry.default_lr,
    )
    assert f"`stiefel_lora.{kind}` imported" in printed
    weights = load_file(tmp_path / name / "epoch-1.safetensors")
    ups = [value for key, value in weights.items() if "lora_B" in key]
    downs = [value for key, value in weights.items() if "lora_A" in key]
    assert len(ups) == len(downs) == LAYERS
    assert all(value.any() for value in (*ups, *downs))
    if entry.start == "stiefel":
        assert all(orthogonality_error(up) <= 1e-5 for up in ups)
    assert HOST.changes() == before
