"""Images from LoRA files: those of the training, in grids, with all settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from helpers.runs import tiny_config
from stiefel_lora import OptionError, _commands
from stiefel_lora.config.importing.sample_files import prompts_of
from stiefel_lora.families import pipeline_family, record_of
from stiefel_lora.families.protocol import SampleRequest
from stiefel_lora.families.samplers import SAMPLERS
from stiefel_lora.training import TrainResult
from stiefel_lora.training.lora_sampling import Applied, _row_titles
from stiefel_lora.training.png_parameters import png_parameters
from stiefel_lora.training.trainer import train

SAMPLES = [
    {"prompt": "thing 1", "steps": 2},
    {"prompt": "a (b)", "negative_prompt": "dull", "steps": 3, "seed": 5},
]
RATE = 0.5
# A key and a value as A1111 and Forge split the last line of the parameters.
_FORGE = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


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


def test_values_with_separators_are_quoted() -> None:
    request = SampleRequest({}, None, seed=1, steps=2, guidance=3.0, width=8, height=8)
    facts = SimpleNamespace(record=record_of("sdxl"))
    family: Any = SimpleNamespace(own_sampler="euler", facts=facts)
    text = png_parameters(
        "a cat\n Negative prompt: x",
        "Negative prompt: y",
        request,
        family=family,
        model='sd xl, v1: "a"',
    )
    lines = text.splitlines()
    # A1111 and Forge start the negative prompt at a line that begins with it.
    assert lines[1] == " negative prompt: x"
    assert lines[2] == "Negative prompt: negative prompt: y"
    pairs = dict(_FORGE.findall(lines[3]))
    assert json.loads(pairs["Model"]) == 'sd xl, v1: "a"'
    assert (pairs["Steps"], pairs["RNG"]) == ("2", "CPU")


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
        (["--prompt", "a --q x"], "--prompt: --q x: unknown flag. Use --w, --h, --d"),
        (["--prompt", "a --w abc"], "--prompt: --w abc: Must be a whole number."),
        (["--prompt", "a --l"], "--prompt: --l: Must be a number."),
        (["--prompt", "a --h 65"], "--h 65: Must be a multiple of 8, but got 65."),
        (["--prompt", "a --ss x"], "--prompt: --ss x: Must be one of ddim, "),
        (["--prompt", "--n ugly"], "--prompt: '--n ugly' contains no prompt."),
        (["--prompt", ""], "--prompt: '' contains no prompt."),
        (
            ["-o", "/dev/null/x/y"],
            "--output: the folder /dev/null/x/y cannot be created",
        ),
        (["-o", "x" * 300], "cannot be created (File name too long)"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\n--n ugly --w 32", ", line 2: '--n ugly --w 32' contains no prompt."),
        ("# one\n\ncat --w abc", ", line 3: --w abc: Must be a whole number."),
        ("", " contains no prompt. Write a prompt per line."),
        ("# one", " contains no prompt. Write a prompt per line."),
        (" \n", " is empty."),
        (None, " is a folder. Use a file with a prompt per line."),
    ],
)
def test_a_fault_in_a_file_of_prompts_has_its_line(
    content: str | None, message: str, plain: TrainResult, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.txt"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content, encoding="utf-8")
    found = _sample(_file(plain), "--prompts", path, "-o", tmp_path / "images")
    assert found.exit_code == 2
    assert f"{path}{message}" in found.stderr.replace("\n", " ")
    assert "config" not in found.stderr
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("cat --l 3", "--l 3: FLUX has no CFG scale. Use --g for the guidance"),
        ("cat --ss euler_a", "--ss euler_a: FLUX has one sampler. Remove it."),
        ("cat --n bad", "--n bad: FLUX has no negative prompt. Remove it."),
        ("cat --q", "--q: unknown flag. Use --w, --h, --d, --s, --g."),
        ("cat --g -1", "--g -1.0: Must be "),
    ],
)
def test_flux_recommends_its_own_flags(prompt: str, message: str) -> None:
    with pytest.raises(OptionError) as found:
        prompts_of([prompt], None, "flux")
    assert str(found.value).startswith(f"--prompt: {message}")


def test_a_prompt_of_several_lines_is_one_sample(plain: TrainResult) -> None:
    found, left_out = prompts_of(
        ["one\ntwo --s 3 --am 0.5 --OW 64", "# three"], None, "sdxl"
    )
    assert left_out == ["--am", "--OW"]
    assert found == [
        {"prompt": "one\ntwo", "steps": 3},
        {"prompt": "# three"},
    ]


def _changed(file: Path, path: Path, value: float) -> Path:
    tensors = load_file(file)
    tensors[next(key for key in tensors if "up" in key)].view(-1)[0] = value
    save_file(tensors, path, {"ss_base_model_version": "sdxl_base_v1-0"})
    return path


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_file_with_nan_is_refused(
    value: float, plain: TrainResult, tmp_path: Path
) -> None:
    broken = _changed(_file(plain), tmp_path / "broken.safetensors", value)
    config = plain.run_dir / "config.json"
    folder = tmp_path / "images"
    found = _sample(_file(plain), broken, "--config", config, "-o", folder)
    assert found.exit_code == 2
    assert "broken.safetensors: NaN or infinity in " in found.stderr
    assert not folder.exists()


def test_an_overflow_is_no_black_image(plain: TrainResult, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    found = _sample(_file(plain), "--weights", "1e30", "-o", folder)
    assert found.exit_code == 1
    shown = " ".join(found.stderr.split())
    assert "weight 1e+30: the image 'thing 1' of " in shown
    assert "tiny.safetensors contains NaN or infinity." in shown
    # A folder without images is removed.
    assert not folder.exists()


def test_black_images_of_a_training_are_stated_once(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    decoded = pipeline_family.decode_latents
    monkeypatch.setattr(
        pipeline_family, "decode_latents", lambda *a: decoded(*a) * float("nan")
    )
    result = _train(tiny_sdxl, tmp_path)
    assert _of_training(result, 0).max() == 0
    assert capsys.readouterr().err.count("contains NaN or infinity") == 1


def test_files_of_equal_names_have_different_titles() -> None:
    paths = ["a/lora/x.safetensors", "b/lora/x.safetensors", "b/y.safetensors"]
    rows = [Applied(((Path(path), 1.0),)) for path in paths]
    assert _row_titles(rows[1:]) == ["x", "y"]
    assert _row_titles(rows[:2]) == ["a/lora/x", "b/lora/x"]
    assert _row_titles([rows[0], rows[0]]) == ["x", "x (2)"]


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


def test_a_base_model_of_another_family_than_the_lora(
    plain: TrainResult, tiny_flux: Path, tmp_path: Path
) -> None:
    found = _sample(
        _file(plain), "--model", tiny_flux, "--prompt", "a", "-o", tmp_path / "images"
    )
    assert found.exit_code == 2
    shown = " ".join(found.stderr.split())
    assert shown.startswith(f"{_file(plain)} is a LoRA of sdxl. The base model ")


@pytest.mark.parametrize("folder", ["", "lora", "samples"])
def test_a_folder_of_a_run_names_its_files(folder: str, plain: TrainResult) -> None:
    found = _sample(plain.run_dir / folder, "--prompt", "a")
    assert found.exit_code == 2
    shown = " ".join(found.stderr.split())
    assert shown.startswith(f"{plain.run_dir / folder} is a folder. Use a")
    assert (str(_file(plain)) in shown) == (folder != "samples")


def test_a_dora_has_one_weight(tiny_sdxl: Path, tmp_path: Path) -> None:
    result = _train(tiny_sdxl, tmp_path, use_dora=True)
    folder = tmp_path / "images"
    found = _sample(f"{_file(result)}:0.5", "-o", folder)
    assert found.exit_code == 2
    assert "Use it alone with weight 1 (0 is the base model)" in " ".join(
        found.stderr.split()
    )
    assert not folder.exists()
