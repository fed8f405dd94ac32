"""A family is a member of ModelType, its own files, and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

import stiefel_lora
from stiefel_lora.adapters import select_layers
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.config.rules import violations_of
from stiefel_lora.families import FamilyRecord, LoraFileFacts, catalogue, open_family
from stiefel_lora.families.record import KNOWN
from stiefel_lora.families.sd15 import Sd15
from stiefel_lora.files import (
    LoraFactors,
    load_lora,
    open_lora,
    read_tensors,
    save_kohya,
)
from stiefel_lora.files.kohya_names import KohyaNames
from stiefel_lora.files.tools.families import family_of
from stiefel_lora.files.tools.layer_names import StemName
from stiefel_lora.files.tools.verifying import verify_lora
from stiefel_lora.memory import estimate_memory, part_settings
from stiefel_lora.memory.steps import Architecture, Layer

PACKAGE = Path(stiefel_lora.__file__).parent

# Where a family's name is not a fact of the family.
ELSEWHERE = {
    "config/checks.py": "the file name of an example in an error",
    "config/settings/": "explanations of fields, which name the families they are for",
    "config/foreign/": "names of options of other trainers",
    "config/importing/": "models as configurations of other trainers name them",
    "files/tools/other_models.py": "names of models that are not trained here",
    "integrations/": "classes and modules of other trainers",
}


def named_in(tree: ast.AST, family: str) -> list[str]:
    """Words in code, not in docstrings and comments, that hold the family's name."""
    name = re.compile(rf"(?i)(?<![a-z0-9]){family}(?![a-z0-9])")
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        word
        for node in ast.walk(tree)
        if id(node) not in documentation
        for word in words_of(node)
        if name.search(word)
    ]


def words_of(node: ast.AST) -> Iterator[str]:
    for _, value in ast.iter_fields(node):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield item


def is_own(path: str, family: str) -> bool:
    stem = Path(path).stem.split("_")
    return path == "families/catalogue.py" or family in stem


@pytest.mark.parametrize("family", get_args(catalogue.ModelType))
def test_only_its_own_files_name_a_family(family: str) -> None:
    leaks = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not is_own(name, family) and not name.startswith(tuple(ELSEWHERE)):
            found = named_in(ast.parse(path.read_text(encoding="utf-8")), family)
            leaks |= {name: found} if found else {}
    assert not leaks, "put the fact into families/record.py and read the field"


@pytest.mark.parametrize(
    "code",
    [
        "if config.model_type == 'flux': pass",
        "TABLE = {'flux': 1}",
        "from ..families import flux_record",
        "def flux_has_patches(): pass",
        "note = f'{n} is for FLUX.1'",
        "record.flux_step",
    ],
)
def test_a_leak_is_found(code: str) -> None:
    assert named_in(ast.parse(code), "flux")
    assert not named_in(ast.parse('def f():\n    """Of flux."""  # flux\n'), "flux")
    assert not named_in(ast.parse("influx = reflux2"), "flux")


def test_every_exception_is_needed() -> None:
    for place in ELSEWHERE:
        files = [PACKAGE / place] if place.endswith(".py") else PACKAGE / place
        sources = files if isinstance(files, list) else sorted(files.rglob("*.py"))
        texts = [source.read_text(encoding="utf-8").lower() for source in sources]
        assert any(f in text for text in texts for f in catalogue.family_names())


@pytest.mark.parametrize("family", get_args(catalogue.ModelType))
def test_every_member_has_its_record(family: str) -> None:
    record = catalogue.record_of(family)
    assert record.name == family
    assert record.load(record.model).facts.record is record
    assert record.load(record.lora_files.kohya).kohya_names()
    assert isinstance(record.load(record.memory), Architecture)
    assert (record.stock_folder / f"{record.denoiser}.json").is_file()


# A family in one file outside the package ---------------------------------------------


def _walk(config: TrainConfig, settings: Any, side: int) -> list[Any]:
    return [Layer("attn2.to_q", 16, 16, side**2)]


QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
MEMORY = Architecture(_walk, lambda config, settings: 7)
NAMES = KohyaNames(
    lambda: [
        ("unet.mid_block.conv", "lora_unet_pretend_conv"),
        (f"unet.{QUERY}", "lora_unet_pretend_to_q"),
    ],
    model="a pretend",
    spelling="a spelling of its own",
)
WAN_QUERY = "blocks.0.cross_attn.q"
WAN_NAMES = KohyaNames(
    lambda: [(f"unet.{WAN_QUERY}", "lora_unet_blocks_0_cross_attn_q")],
    model="a Wan",
    spelling="a spelling of its own",
)
RECORD = FamilyRecord(
    name="pretend",
    label="Pretend 1",
    model=f"{__name__}:Pretend",
    denoiser="unet",
    memory=f"{__name__}:MEMORY",
    layer_presets={"attn-only": ("attn2.to_q",), "attn-mlp": ("attn2",), "full": ()},
    text_readers={"text_encoder": ("attn2",)},
    pixel_step=64,
    negative_prompts=False,
    lora_files=LoraFileFacts(
        base_version="pretend_v1",
        architecture="pretend/lora",
        implementation="none",
        network="networks.lora",
        kohya=f"{__name__}:NAMES",
        marks=("lora_unet_pretend_",),
        notes=("pretend",),
    ),
)


class Pretend(Sd15):
    """SD 1.5 by another name."""

    name = "pretend"
    facts = dataclasses.replace(Sd15.facts, record=RECORD, pipeline="StableDiffusionP")


@pytest.fixture
def config(tiny_sd15: Path) -> Iterator[TrainConfig]:
    settings = {
        "base_model_name": str(tiny_sd15),
        "model_type": "sd15",
        "resolution": 32,
        "bucket_step": 32,
        "lora_rank": 2,
        "weight_dtype": "float32",
        "samples": [{"prompt": "a", "negative_prompt": "b", "width": 64, "height": 64}],
    }
    with catalogue.adding(RECORD):
        # The schema has the members of ModelType alone.
        yield parse_config(settings).model_copy(update={"model_type": "pretend"})


def test_its_model_is_opened(config: TrainConfig) -> None:
    family = open_family(config, torch.device("cpu"))
    assert isinstance(family, Pretend)
    chosen = select_layers(
        family.skeleton(), family="pretend", preset="attn-only", rank=2
    )
    assert chosen
    assert all(name.endswith("attn2.to_q") for name in chosen)


def test_its_rules_hold(config: TrainConfig) -> None:
    found = {v.key: str(v) for v in violations_of(config)}
    assert found["resolution"] == (
        "resolution: must be a multiple of 64 for Pretend 1, but got 32. Use 64."
    )
    assert "has no effect for Pretend 1" in found["samples.0.negative_prompt"]


def test_its_memory_is_its_own(config: TrainConfig) -> None:
    family: Any = open_family(config, torch.device("cpu"))
    found = estimate_memory(config, part_settings(family._source))
    assert found.factors == 2 * (16 + 16) * 4


@pytest.mark.usefixtures("config")
def test_its_files_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    factors = LoraFactors(torch.ones(4, 2), torch.ones(2, 4), 2.0)
    save_kohya(path, {"unet.mid_block.conv": factors}, family="pretend")
    assert read_tensors(path)[1]["ss_base_model_version"] == "pretend_v1"
    assert list(load_lora(path)) == ["unet.mid_block.conv"]


@pytest.mark.usefixtures("config")
def test_programs_that_have_no_names_of_its_layers_are_not_asked(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lora.safetensors"
    factors = LoraFactors(torch.ones(4, 2), torch.ones(2, 4), 2.0)
    save_kohya(path, {"unet.mid_block.conv": factors}, family="pretend")
    file = open_lora(path)
    assert file.family == "pretend"
    assert verify_lora(file) == ()


def test_the_tools_of_files_recognize_and_verify_it(tmp_path: Path) -> None:
    """By its names, or its metadata where another family has them too."""
    factors = LoraFactors(torch.ones(320, 2), torch.ones(2, 320), 2.0)
    with catalogue.adding(dataclasses.replace(RECORD, stock=KNOWN / "sd15")):
        for metadata in ({}, {"ss_base_model_version": "pretend_v1"}):
            path = tmp_path / f"{len(metadata)}.safetensors"
            tensors = {
                f"unet.{QUERY}.lora_A.weight": factors.down,
                f"unet.{QUERY}.lora_B.weight": factors.up,
            }
            save_file(tensors, path, metadata)
            file = open_lora(path)
            assert file.family == ("pretend" if metadata else "sd15")
        (check,) = verify_lora(file)
    assert check.program.startswith("diffusers ")
    assert (check.layers, check.deviation, check.is_right) == (1, 0.0, True)


def test_a_model_that_is_trained_is_no_other_model() -> None:
    stem = StemName("lora_unet_", "model", WAN_QUERY)
    assert family_of({stem: (64, 64)}, {}) == "Wan"
    files = dataclasses.replace(RECORD.lora_files, kohya=f"{__name__}:WAN_NAMES")
    record = dataclasses.replace(RECORD, name="wan", label="Wan", lora_files=files)
    with catalogue.adding(record):
        assert family_of({stem: (64, 64)}, {}) == "wan"


def test_it_is_gone_afterwards() -> None:
    assert "pretend" not in catalogue.family_names()
    with pytest.raises(KeyError):
        catalogue.record_of("pretend")
