"""Our files in ComfyUI, Forge and sd-scripts: their code, their models, small sizes.

Each needs a checkout with an environment (scripts/setup_host.py), named by
COMFYUI_ROOT, FORGE_ROOT or SD_SCRIPTS_ROOT. Every one converts the base weights by its
own table and must then give what diffusers gives with the PEFT file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType

import flux_files
import pytest
import sd15_files
from encoder_files import encoder_weights
from host_folder import HostFolder
from unmodified_host import UnmodifiedHost

from stiefel_lora.files import load_lora

HERE = Path(__file__).parent
# Outputs of about 1 in float32, summed in another order; 1e-6 was found.
TOLERANCE = 1e-5
BOTH, KOHYA = ("", "_peft"), ("",)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclasses.dataclass(frozen=True)
class Tool:
    """A program, and what of our files it is known not to read."""

    variable: str
    script: str
    material: ModuleType
    formats: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Layers, as diffusers names them, whose LoRA it leaves out."""

    unknown: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name of a file -> how the keys begin that it reports as unknown, no others."""

    dora: bool = False
    """Whether it reads a DoRA in kohya's format; none reads one in PEFT's."""

    def files(self, folder: HostFolder) -> list[Path]:
        """The LoRA files of the formats that it reads."""
        ending = "_peft"
        peft = ending in self.formats
        files = [file for file in folder.loras() if peft or ending not in file.stem]
        return [
            file
            for file in files
            if "dora" not in file.stem or (self.dora and file.stem == "dora")
        ]


T5_OF_PEFT = {"encoders_peft": "text_encoder_2."}
TOOLS = {
    "flux-comfyui": Tool(
        "COMFYUI_ROOT",
        "comfyui_flux_files.py",
        flux_files,
        BOTH,
        unknown=T5_OF_PEFT,
        dora=True,
    ),
    "flux-forge": Tool(
        "FORGE_ROOT",
        "forge_flux_files.py",
        flux_files,
        BOTH,
        unknown=T5_OF_PEFT,
        dora=True,
    ),
    "flux-sd-scripts": Tool(
        "SD_SCRIPTS_ROOT",
        "sd_scripts_flux_files.py",
        flux_files,
        KOHYA,
        left_out=("norm_out.linear", "proj_out"),
        unknown={"trained": "lora_unet_final_layer_"},
    ),
    "sd15-comfyui": Tool(
        "COMFYUI_ROOT", "comfyui_sd15_files.py", sd15_files, KOHYA, dora=True
    ),
    "sd15-sd-scripts": Tool(
        "SD_SCRIPTS_ROOT",
        "sd_scripts_sd15_files.py",
        sd15_files,
        KOHYA,
        left_out=("time_embedding.linear_1", "time_embedding.linear_2"),
        unknown={"trained": "lora_unet_time_embedding_"},
    ),
}


@pytest.fixture(scope="module", params=TOOLS)
def tool(request: pytest.FixtureRequest) -> Tool:
    tool = TOOLS[request.param]
    if not UnmodifiedHost(tool.variable).given:
        pytest.skip(f"{tool.variable} names no checkout")
    return tool


@pytest.fixture(scope="module")
def folder(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> HostFolder:
    folder = tool.material.make_folder(tmp_path_factory.mktemp("files"))
    if not tool.dora:
        for file in folder.root.glob("loras/dora*"):
            file.unlink()
    host = UnmodifiedHost(tool.variable)
    before = host.changes()
    host.run(HERE / tool.script, host.root, folder.root)
    assert host.changes() == before
    return folder


def test_the_denoiser_gives_what_diffusers_gives(
    tool: Tool, folder: HostFolder
) -> None:
    alone = tool.material.output(folder, None)
    for file in tool.files(folder):
        peft = file.with_stem(file.stem.removesuffix("_peft") + "_peft")
        names = {name.partition(".")[2] for name in load_lora(peft)}
        without = tuple(name for name in tool.left_out if name in names)
        wanted = tool.material.output(folder, peft, without)
        assert file.stem.startswith("encoders") or (wanted - alone).abs().max() > 0.1
        _, found = folder.read(file)
        outputs = [found[name] for name in found if name.endswith("output")]
        assert outputs
        for output in outputs:
            assert (output - wanted).abs().max() <= TOLERANCE


def test_the_text_encoders_get_their_loras(tool: Tool, folder: HostFolder) -> None:
    compared = 0
    for file in tool.files(folder):
        _, found = folder.read(file)
        for layer, wanted in encoder_weights(folder, file).items():
            left_out = layer.startswith("t5.") and file.stem in tool.unknown
            same = (found[layer] - wanted).abs().max() <= TOLERANCE
            assert same != left_out, layer
            compared += 1
    assert compared


def test_no_other_key_is_left_over(tool: Tool, folder: HostFolder) -> None:
    for file in tool.files(folder):
        unmatched, _ = folder.read(file)
        beginning = tool.unknown.get(file.stem)
        assert bool(unmatched) == (beginning is not None)
        assert all(key.startswith(str(beginning)) for key in unmatched), unmatched
