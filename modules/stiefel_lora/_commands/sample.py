"""Command ``sample``: generate images with LoRA files, without training."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._entry import hush_libraries
from .._late_bitsandbytes import postpone_bitsandbytes
from .._weighted_path import parse_part
from ._shared import SetOption, echo, needed, unset, user_errors

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["sample"]

FilesArgument = Annotated[
    list[str],
    needed("FILE[:WEIGHT]...", "LoRA files, with a weight if it is not 1."),
]


def sample(
    files: FilesArgument,
    model: Annotated[
        str | None,
        unset(
            "Base model: a folder, a file or a name on the Hugging Face Hub. The "
            "default is the one of the training.",
            "--model",
            metavar="MODEL",
        ),
    ] = None,
    config: Annotated[
        str | None,
        unset(
            "Config file or preset with the base model, precision and samples. The "
            "default is that of the run folder of the first file.",
            "--config",
            metavar="CONFIG",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        unset(
            "Prompt, with flags as in sd-scripts: 'a cat --w 768 --n blurry --ss "
            "euler_a'. Can be repeated.",
            "--prompt",
            metavar="TEXT",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        unset("File with a prompt per line.", "--prompts", metavar="FILE"),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="A,B,...",
            help="Factors of the weights: the columns of a grid. 0 is the base model.",
        ),
    ] = "1",
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="Apply all files at once, instead of one after another."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        unset(
            "New folder for the images. The default is NAME_samples in the current "
            "folder.",
            "--output",
            "-o",
            metavar="DIR",
        ),
    ] = None,
    steps: Annotated[int | None, unset("Number of sampling steps.")] = None,
    guidance: Annotated[float | None, unset("CFG scale.")] = None,
    seed: Annotated[int | None, unset("Seed of the initial noise.")] = None,
    width: Annotated[int | None, unset("Width in pixels.")] = None,
    height: Annotated[int | None, unset("Height in pixels.")] = None,
    negative: Annotated[str | None, unset("Negative prompt.")] = None,
    sampler: Annotated[
        str | None, unset("Sampler, for example euler_a or dpmpp_2m_karras.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Generate images with LoRA files, without training.

    Files and weights are compared in a grid. The settings are stored in the images, as
    A1111 and Forge do.
    """
    with user_errors():
        named = [parse_part(text) for text in files]
        for path, _ in named:
            _check_no_run(path)
        factors = _factors(weights)
        options = {
            "steps": steps,
            "guidance": guidance,
            "seed": seed,
            "width": width,
            "height": height,
            "negative_prompt": negative,
            "sampler": sampler,
        }
        given = _checked(options)
        load = _config(named[0][0], model, config, overrides or [])
        settings = _with_samples(load, prompt or [], prompts, given)
        folder = _new_folder(output, named[0][0])
        hush_libraries()
        postpone_bitsandbytes()
        from ..training.lora_sampling import Applied, sample_loras

        rows = [Applied((part,)) for part in named]
        if together:
            rows = [Applied(tuple(named))]
        with _naming_family(named[0][0], settings, derived=config is None):
            images = sample_loras(settings, rows, factors, folder)
        for path in images:
            echo(str(path))


def _check_no_run(path: Path) -> None:
    """Check that a path is no run folder or other folder of several LoRA files."""
    from .._exceptions import OptionError

    if not os.path.isdir(path) or any(path.glob("adapter_*")):
        return
    files = sorted([*path.glob("*.safetensors"), *path.glob("lora/*.safetensors")])
    names = ", ".join(map(str, files[:5])) + (", ..." if len(files) > 5 else "")
    instead = f"a LoRA file in it: {names}" if files else "a file"
    raise OptionError(f"{path} is a folder. Use {instead}.")


@contextlib.contextmanager
def _naming_family(
    file: Path, settings: TrainConfig, *, derived: bool
) -> Iterator[None]:
    """Add the LoRA to an error about another base model, if its family is used."""
    from .._exceptions import ModelError

    try:
        yield
    except ModelError as error:
        found = str(error)
        of_family = "model_type" in found or " is not a " in found
        if not derived or not of_family or str(file) in found:
            raise
        text = f"{file} is a LoRA of {settings.model_type}."
        raise ModelError(f"{text} {error}") from error


def _factors(text: str) -> list[float]:
    from .._exceptions import OptionError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(value) for value in found):
        raise OptionError(
            f"--weights: {text!r} is not a list of numbers. Write for example 0,0.5,1."
        )
    return list(dict.fromkeys(found))


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are set, and check them under their own names."""
    from pydantic import ValidationError

    from .._exceptions import OptionError
    from ..config.errors import violations_in
    from ..config.importing.sampler_names import sampler_called
    from ..config.parts import Sample

    given = {key: value for key, value in options.items() if value is not None}
    if "sampler" in given:
        # Unknown names are in the error message of the setting.
        with contextlib.suppress(ValueError):
            given["sampler"] = sampler_called(given["sampler"])
    try:
        Sample(prompt="-", **given)
    except ValidationError as error:
        found = violations_in(error, list(Sample.model_fields))[0]
        name = "negative" if found.key == "negative_prompt" else found.key
        raise OptionError(f"--{name}: {found.text}") from error
    return given


def _config(
    file: Path, model: str | None, config: str | None, overrides: list[str]
) -> Callable[[list[str]], TrainConfig]:
    """Return a function that loads the settings of the base model with overrides."""
    from .._exceptions import OptionError
    from ..config import load_config, parse_config
    from ..config.presets import find_config
    from ..runs.run_folder import config_of_run

    own = [*overrides, "concepts=[]", "validation_concepts=[]"]
    if model is not None:
        own.append(f"base_model_name={json.dumps(model)}")
    path = find_config(config) if config else config_of_run(file.parent.parent)
    if path is not None:
        return lambda more: load_config(path, [*own, *more])
    if model is None:
        raise OptionError(
            f"{file} is not in a run folder, so its base model is unknown. Add --model "
            "or --config."
        )
    from ..files import open_lora

    family = open_lora(file).family
    if family is None:
        raise OptionError(
            f"{file}: the model family is unknown. Add --config with a model_type."
        )
    return lambda more: parse_config({"model_type": family}, overrides=[*own, *more])


def _with_samples(
    load: Callable[[list[str]], TrainConfig],
    prompt: list[str],
    prompts: Path | None,
    given: dict[str, Any],
) -> TrainConfig:
    """Load the settings with the samples of the command line, if there are any."""
    from .._exceptions import OptionError
    from ..config.dump import lean
    from ..config.importing.sample_files import prompts_of

    config = load([])
    # The flags of a prompt come before options, and options before a configuration.
    found, left_out = prompts_of(prompt, prompts, config.model_type)
    samples = [{**given, **each} for each in found]
    if left_out:
        echo(f"{', '.join(left_out)}: without a counterpart, so not used.", err=True)
    if samples:
        # As in the programs whose flags and weights are used.
        weighted = json.dumps("text_encoder" in config.family.clip_states)
        more = [f"sample_prompt_weights={weighted}"]
    else:
        samples = [{**each, **given} for each in lean(config).get("samples", [])]
        more = []
    if not samples:
        raise OptionError("No prompt is given. Add --prompt TEXT or --prompts FILE.")
    return load([f"samples={json.dumps(samples)}", *more])


def _new_folder(output: Path | None, file: Path) -> Path:
    from .._exceptions import OutputError

    if output is not None:
        # False for paths that are invalid, about which mkdir has the reason.
        if os.path.lexists(output):
            raise OutputError(
                f"--output: {output} exists. Choose a folder that does not exist."
            )
        return output
    stem, number = f"{file.stem}_samples", 1
    folder = Path(stem)
    while folder.exists():
        number += 1
        folder = Path(f"{stem}-{number}")
    return folder
