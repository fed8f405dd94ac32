"""Images from LoRA files: those of the training, in grids, with all settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.runs import tiny_config
from stiefel_lora import _commands
from stiefel_lora.families.samplers import SAMPLERS
from stiefel_lora.training import TrainResult
from stiefel_lora.training.trainer import train

SAMPLES = [
    {"prompt": "thing 1", "steps": 2},
    {"prompt": "a (b)", "negative_prompt": "dull", "steps": 3, "seed": 5},
]
RATE = 0.5


def _train(tiny: Path, root: Path, **settings) -> TrainResult:
    config = tiny_config(
        tiny,
        root,
        steps=2,
        sample_every=2,
        validate_every=0,
        samples=SAMPLES,
        learning_rate=RATE,
        **settings,
    )
    return train(config)


@pytest.fixture(scope="module")
def plain(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return _train(tiny_sdxl, tmp_path_factory.mktemp("plain"))


def _sample(*arguments: object):
    return CliRunner().invoke(_commands.app, ["sample", *map(str, arguments)])


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.int16)


def _file(result: TrainResult) -> Path:
    return result.lora_files[0]


def _of_training(result: TrainResult, index: int, step: int = 2) -> np.ndarray:
    return _pixels(result.run_dir / "samples" / f"step-{step:06d}-{index}.png")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True},
        {"train_text_encoder": True, "train_text_encoder_2": True},
    ],
    ids=["lora", "dora", "text encoders"],
)
def test_images_are_those_of_the_training(
    settings: dict, tiny_sdxl: Path, tmp_path: Path
) -> None:
    result = _train(tiny_sdxl, tmp_path, **settings)
    # The base model, the precision and the samples are those of the run.
    found = _sample(_file(result), "-o", tmp_path / "images")
    assert found.exit_code == 0, found.stderr
    images = found.stdout.split()
    assert len(images) == 2
    for index, path in enumerate(map(Path, images)):
        own = _of_training(result, index)
        assert np.abs(own - _of_training(result, index, 0)).max() > 8
        # Files are in float32 as well, but alpha is folded at another place.
        assert np.abs(_pixels(path) - own).max() <= 1


def test_a_grid_of_files_and_weights(plain: TrainResult, tmp_path: Path) -> None:
    second = tmp_path / "second.safetensors"
    second.write_bytes(_file(plain).read_bytes())
    folder = tmp_path / "images"
    found = _sample(_file(plain), f"{second}:-1", "--weights", "0,1,-1", "-o", folder)
    assert found.exit_code == 0, found.stderr
    # Two files, three weights, two samples.
    assert len(found.stdout.split()) == 12 + 2
    for index in range(2):
        image = {n: _pixels(folder / f"{n:03d}-{index:03d}.png") for n in range(6)}
        base = _of_training(plain, index, 0)
        assert (image[0] == base).all()
        assert (image[3] == base).all()
        assert np.abs(image[1] - image[2]).max() > 8
        # The weight of the second file is -1, times the factor.
        assert (image[1] == image[5]).all()
        assert (image[2] == image[4]).all()
    grid = Image.open(folder / "grid-000.png")
    cell = image[0].shape[1] * -(-160 // image[0].shape[1])
    assert grid.width > 3 * cell
    assert grid.height > 2 * cell


def test_files_together_are_their_sum(plain: TrainResult, tmp_path: Path) -> None:
    file = _file(plain)
    one, sum_ = tmp_path / "one", tmp_path / "sum"
    assert _sample(f"{file}:0.75", "-o", one).exit_code == 0
    both = _sample(f"{file}:0.25", f"{file}:0.5", "--together", "-o", sum_)
    assert both.exit_code == 0, both.stderr
    assert len(both.stdout.split()) == 2
    for index in range(2):
        name = f"000-{index:03d}.png"
        assert np.abs(_pixels(one / name) - _pixels(sum_ / name)).max() <= 1


def test_settings_are_stored_as_forge_reads_them(
    plain: TrainResult, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    prompt = "a cat --n dull --s 3 --d 7 --l 2.5 --ss k_euler_a"
    found = _sample(
        f"{_file(plain)}:0.5", "--prompt", prompt, "--seed", 1, "-o", folder
    )
    assert found.exit_code == 0, found.stderr
    lines = Image.open(folder / "000-000.png").text["parameters"].splitlines()
    assert lines[:2] == ["a cat <lora:tiny:0.5>", "Negative prompt: dull"]
    fields = dict(part.split(": ") for part in lines[2].split(", "))
    assert fields["Sampler"] == "Euler a"
    # A flag of the prompt comes before an option.
    assert (fields["Steps"], fields["Seed"], fields["CFG scale"]) == ("3", "7", "2.5")
    assert fields["Size"] == "32x32"
    # The training stores them, too.
    own = Image.open(plain.run_dir / "samples" / "step-000002-0.png")
    assert own.text["parameters"].startswith("thing 1\nSteps: 2, Sampler: Euler,")


def test_prompts_have_weights(plain: TrainResult, tmp_path: Path) -> None:
    shown = {}
    for number, text in enumerate(("a cat", "(a cat:1.0)", "(a cat:1.6)")):
        folder = tmp_path / str(number)
        found = _sample(_file(plain), "--prompt", f"{text} --s 2", "-o", folder)
        assert found.exit_code == 0, found.stderr
        shown[number] = _pixels(folder / "000-000.png")
    assert (shown[0] == shown[1]).all()
    assert (shown[0] != shown[2]).any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler(name: str, plain: TrainResult, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    found = _sample(
        _file(plain), "--prompt", "thing 1", "--steps", 4, "--sampler", name,
        "-o", folder,
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    image = _pixels(folder / "000-000.png")
    assert image.std() > 1


def test_the_own_sampler_of_the_model_is_the_default(
    plain: TrainResult, tmp_path: Path
) -> None:
    shown = {}
    for name in ("", "euler", "euler_a"):
        folder = tmp_path / f"images {name}"
        more = ["--sampler", name] if name else []
        found = _sample(_file(plain), "--prompt", "a --s 3", "-o", folder, *more)
        assert found.exit_code == 0, found.stderr
        shown[name] = _pixels(folder / "000-000.png")
    assert (shown[""] == shown["euler"]).all()
    assert np.abs(shown[""] - shown["euler_a"]).max() > 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a --cn x"], "--cn: unknown flag or invalid value in a prompt"),
        (["--weights", "1,x"], "--weights: '1,x' is not a list of numbers."),
        (["--sampler", "eulr"], "--sampler: Must be one of ddim, "),
        (["--width", "65"], "--width: Must be a multiple of 8, but got 65."),
        (["-o", "."], "--output: . exists. Choose a folder that does not exist."),
        (["--set", "samples=[]"], "No prompt is given. Add --prompt TEXT"),
        (["--prompts", "none.txt"], "none.txt"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    plain: TrainResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = _sample(_file(plain), *arguments)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) <= 2
    assert not list(tmp_path.iterdir())


def test_the_base_model_must_be_known(plain: TrainResult, tmp_path: Path) -> None:
    alone = tmp_path / "deep" / "alone.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(_file(plain).read_bytes())
    found = _sample(alone, "--prompt", "a")
    assert found.exit_code == 2
    assert "its base model is unknown. Add --model or --config." in found.stderr


def test_a_lora_of_another_model(
    plain: TrainResult, tiny_flux: Path, tmp_path: Path
) -> None:
    config = tmp_path / "flux.json"
    text = f'{{"model_type": "flux", "base_model_name": "{tiny_flux.as_posix()}"}}'
    config.write_text(text)
    found = _sample(_file(plain), "--config", config, "--prompt", "a")
    assert found.exit_code == 2
    assert "is a LoRA of sdxl, but model_type is flux" in found.stderr


def test_a_dora_has_one_weight(tiny_sdxl: Path, tmp_path: Path) -> None:
    result = _train(tiny_sdxl, tmp_path, use_dora=True)
    folder = tmp_path / "images"
    found = _sample(f"{_file(result)}:0.5", "-o", folder)
    assert found.exit_code == 2
    assert "DoRA" in found.stderr
    assert not folder.exists()
