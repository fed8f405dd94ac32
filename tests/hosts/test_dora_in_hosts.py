"""A DoRA of SDXL in ComfyUI and Forge: their code, their UNet, every weight.

Needs what tests/hosts/test_files_in_hosts.py needs, which has FLUX.1 and SD 1.5.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sdxl_files
from unmodified_host import UnmodifiedHost

from stiefel_lora.files import apply_lora, load_lora

HERE = Path(__file__).parent
SCRIPTS = {"COMFYUI_ROOT": "comfyui_sdxl_files.py", "FORGE_ROOT": "forge_sdxl_files.py"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("variable", SCRIPTS)
def test_every_weight_is_the_one_that_was_trained(
    variable: str, tmp_path: Path
) -> None:
    host = UnmodifiedHost(variable)
    if not host.given:
        pytest.skip(f"{variable} names no checkout")
    folder = sdxl_files.make_folder(tmp_path)
    before = host.changes()
    host.run(HERE / SCRIPTS[variable], host.root, folder.root)
    assert host.changes() == before
    (file,) = folder.loras()
    left_over, found = folder.read(file)
    assert not left_over
    base = folder.denoiser("unet")
    trained = load_lora(folder.root / "peft.safetensors")
    kinds = {factors.up.ndim for factors in trained.values()}
    assert kinds == {2, 4}
    for name, weight in base.items():
        factors = trained.get(f"unet.{name.removesuffix('.weight')}")
        is_weight = name.endswith(".weight")
        wanted = apply_lora(weight, factors) if factors and is_weight else weight
        assert (wanted - weight).abs().max() > 1e-3 or not (factors and is_weight)
        assert (found[name] - wanted).abs().max() <= 1e-6, name
