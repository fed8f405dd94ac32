"""The DreamBooth scripts of diffusers, with the lines of our page put into a copy.

Needs a checkout and its environment:

    python scripts/setup_host.py diffusers CHECKOUT
    DIFFUSERS_ROOT=CHECKOUT python -m pytest tests/hosts/test_diffusers_examples.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost

from helpers.runs import assert_same_tensors, make_images
from stiefel_lora import effective_rank
from stiefel_lora.geometry import orthogonality_error

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
HOST = UnmodifiedHost("DIFFUSERS_ROOT")
PAGE = CHECKOUT / "docs" / "integrations" / "python.md"
DEMO = CHECKOUT / "modules" / "stiefel_lora" / "demo" / "sdxl"
# The page says: above this line of the script.
PLACE = "    # Dataset and DataLoaders creation:\n"
FENCE = re.DOTALL | re.MULTILINE
MODELS = {"sdxl": "unet", "flux": "transformer"}
RANK, STEPS, PICTURES = 4, 4, 3
OLD = re.compile(r"lora(?:_linear_layer)?\.(up|down)")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="DIFFUSERS_ROOT names no checkout"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusers")
    make_images(folder / "pictures", count=PICTURES, side=64)
    for caption in (folder / "pictures").glob("*.txt"):
        caption.unlink()
    HOST.run(HERE / "diffusers_flux_model.py", folder / "flux")
    (folder / "sdxl").symlink_to(DEMO)
    return folder


def lines_of_page(model: str) -> str:
    """The page's lines for a model's script, as deep as the function they go into."""
    (block,) = (
        textwrap.dedent(text)
        for text in re.findall(
            r"```python\n(.*?)^ *```", PAGE.read_text("utf-8"), FENCE
        )
        if f"cast_training_params({model}," in text
    )
    return textwrap.indent(block, "    ")


def train(
    folder: Path, family: str, name: str, *more: str, model: str | None = None
) -> str:
    """Run the script of a family from a copy that differs in those lines alone."""
    title = f"train_dreambooth_lora_{family}.py"
    text = (HOST.root / "examples" / "dreambooth" / title).read_text("utf-8")
    assert text.count(PLACE) == 1
    lines = lines_of_page(model or MODELS[family])
    copy = folder / title
    copy.write_text(text.replace(PLACE, lines + "\n" + PLACE), "utf-8")
    arguments = {
        "pretrained_model_name_or_path": folder / family,
        "instance_data_dir": folder / "pictures",
        "instance_prompt": "a thing",
        "output_dir": folder / name,
        "resolution": 64,
        "train_batch_size": 1,
        "max_train_steps": STEPS,
        "learning_rate": 2e-2,
        "lr_warmup_steps": 0,
        "rank": RANK,
        "seed": 0,
        "report_to": "tensorboard",
    }
    command: list[str | Path] = [HERE / "diffusers_launch.py", copy]
    for key, value in arguments.items():
        command += [f"--{key}", str(value)]
    return HOST.run(*command, *more)


def pairs_of(file: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """B and A of every layer in a file that diffusers has written."""
    weights = {
        OLD.sub(lambda old: "lora_B" if old[1] == "up" else "lora_A", name): value
        for name, value in load_file(file).items()
    }
    ups = [name for name in weights if name.endswith("lora_B.weight")]
    assert len(weights) == 2 * len(ups)
    return {
        name: (weights[name], weights[name.replace("lora_B", "lora_A")]) for name in ups
    }


def assert_trained(folder: Path, name: str, idle: str = "nothing") -> None:
    """B orthonormal, every layer moved, and of the rank that was asked for.

    Args:
        folder: of all runs.
        name: of the run.
        idle: how names of layers begin that got no gradient and stay as they were.
    """
    pairs = pairs_of(folder / name / "pytorch_lora_weights.safetensors")
    still = [layer for layer in pairs if layer.startswith(idle)]
    assert not any(pairs.pop(layer)[0].any() for layer in still)
    assert pairs
    for layer, (up, down) in pairs.items():
        assert orthogonality_error(up) <= 1e-5, layer
        assert 1 <= effective_rank(up, down) <= RANK + 1e-3, layer
    mean = sum(effective_rank(*pair).item() for pair in pairs.values()) / len(pairs)
    print(f"{name}: {len(pairs)} layers, effective rank {mean:.2f} of {RANK}")
    assert mean >= RANK / 2


def difference(folder: Path, family: str, name: str) -> float:
    """How far a picture of the stock pipeline moves when the file is loaded."""
    printed = HOST.run(HERE / "diffusers_use.py", folder / family, folder / name)
    (found,) = re.findall(r"^difference: (.*)$", printed, re.M)
    return float(found)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_the_script_trains_and_its_file_loads(folder: Path, family: str) -> None:
    train(folder, family, family + "_run")
    assert_trained(folder, family + "_run")
    assert difference(folder, family, family + "_run") > 1e-3


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_half_precision_keeps_b_orthonormal(folder: Path, family: str) -> None:
    # What the page names for a file in float32.
    more = ["--upcast_before_saving"] * (family == "flux")
    train(folder, family, family + "_bf16", "--mixed_precision", "bf16", *more)
    assert_trained(folder, family + "_bf16")


def test_text_encoders_are_trained_along(folder: Path) -> None:
    train(folder, "sdxl", "text", "--train_text_encoder", model="models")
    # SDXL reads its first text encoder before the last of its two layers.
    assert_trained(folder, "text", idle="text_encoder.encoder.layers.1.")
    pairs = pairs_of(folder / "text" / "pytorch_lora_weights.safetensors")
    found = {layer.partition(".")[0] for layer in pairs}
    assert found == {"unet", "text_encoder", "text_encoder_2"}
    assert difference(folder, "sdxl", "text") > 1e-3


def test_an_alpha_that_is_not_the_rank_is_folded(folder: Path) -> None:
    printed = train(folder, "flux", "alpha", "--lora_alpha", "1")
    assert "LoRA alpha was not the rank" in printed
    assert_trained(folder, "alpha")
    assert difference(folder, "flux", "alpha") > 1e-3


def test_a_resumed_run_ends_as_one_that_was_not_stopped(folder: Path) -> None:
    """Stopped at the end of an epoch: the script begins an epoch anew."""
    stops = ("--checkpointing_steps", str(PICTURES))
    train(folder, "sdxl", "whole", *stops, "--max_train_steps", str(2 * PICTURES))
    train(folder, "sdxl", "parts", *stops, "--max_train_steps", str(PICTURES))
    more = ("--max_train_steps", str(2 * PICTURES), "--resume_from_checkpoint=latest")
    train(folder, "sdxl", "parts", *stops, *more)
    file = "pytorch_lora_weights.safetensors"
    whole, parts = (load_file(folder / name / file) for name in ("whole", "parts"))
    assert_same_tensors(whole, parts)
