"""Sampling from LoRA files without training: a grid of files and weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers.utils.peft_utils import recurse_remove_peft_layers
from PIL import Image
from torch import Tensor, nn

from .._exceptions import ConfigError, OutputError, TrainingError
from .._prompt_weights import read_weights
from .._wording import counted
from ..adapters import add_lora, pairs_of
from ..adapters.given_factors import set_factors
from ..families import Family, SampleRequest
from ..families.latents import has_nan
from ..families.opening import open_family
from ..files.weights import LoraWeights, canonical_name
from ..runs.progress import ProgressBar, say
from .backend import check_hardware, check_quantization, make_accelerator, set_attention
from .image_grid import image_grid
from .lora_reading import check_shapes, layer_shapes, read_loras, set_magnitude
from .png_parameters import png_parameters
from .samples import (
    sample_request,
    save_image,
    unique_titles,
)

if TYPE_CHECKING:
    from ..config import Sample, TrainConfig

__all__ = ["Applied", "sample_loras"]


@dataclasses.dataclass(frozen=True)
class Applied:
    """LoRA files that are applied together: one row of the grid."""

    files: tuple[tuple[Path, float], ...]

    @property
    def title(self) -> str:
        """Names of the files, with weights other than 1."""
        return self.title_with(0)

    def title_with(self, folders: int) -> str:
        """Return the title with some of the folders of each file."""
        return " + ".join(
            "/".join(path.absolute().with_suffix("").parts[-1 - folders :])
            + (f":{weight:g}" if weight != 1 else "")
            for path, weight in self.files
        )

    def at(self, factor: float) -> tuple[tuple[Path, float], ...]:
        """Return the files with their weights multiplied by a factor."""
        return tuple((path, weight * factor) for path, weight in self.files)


def sample_loras(
    config: TrainConfig,
    rows: Sequence[Applied],
    factors: Sequence[float],
    folder: Path,
) -> list[Path]:
    """Generate the samples of a configuration with each LoRA at each weight.

    All files are read and compared with the base model before it is loaded.

    Args:
        config: base model, precision, device and samples.
        rows: LoRA files.
        factors: factors of the weights: the columns of the grid. 0 is the base model.
        folder: folder of the images. It is created.

    Returns:
        Paths of the images, and of a grid for each sample if there are several LoRAs or
        weights.

    Raises:
        InputError: If a file is not a LoRA of the base model, or the folder cannot be
            created.
        TrainingError: If an image contains NaN or infinity.
    """
    check_hardware(config)
    check_quantization(config)
    family = open_family(config, make_accelerator(config).device)
    cells = [_cell(family, row, factor) for row in rows for factor in factors]
    parts = {part for cell in cells for part in cell.layers}
    with _created(folder):
        # With a LoRA in a text encoder, prompts are encoded for every cell.
        texts = {} if parts - {family.component} else _encoded(config, family)
        say(f"Loading {config.base_model_name}.")
        family.release_encoders()
        set_attention(family.denoiser, config.attention_mechanism)
        paths = [*_images(config, family, cells, texts, folder)]
        if len(cells) > 1:
            paths += _grids(config, rows, factors, paths, folder)
    return paths


@contextlib.contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create a folder for a ``with`` block. It is removed if it stays empty."""
    try:
        folder.mkdir(parents=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"--output: the folder {folder} cannot be created ({reason}). Use a new "
            "folder in a writable one."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@dataclasses.dataclass(frozen=True)
class _Cell:
    """LoRA at one weight."""

    row: Applied
    factor: float
    given: LoraWeights
    """Factors by canonical layer name."""

    layers: dict[str, list[str]]
    """Names of the layers in the model by component."""


def _cell(family: Family, row: Applied, factor: float) -> _Cell:
    """Read the files of a row and compare them with the base model."""
    used = [part for part in row.at(factor) if part[1]]
    given = read_loras(used, family.name) if used else {}
    layers = _layers(family, given, row)
    known: dict[str, tuple[int, ...]] = {}
    for part, names in layers.items():
        known |= layer_shapes(family, {part: names})
    check_shapes(given, known)
    return _Cell(row, factor, given, layers)


def _layers(family: Family, given: LoraWeights, row: Applied) -> dict[str, list[str]]:
    left, found = set(given), {}
    for part in sorted({name.partition(".")[0] for name in given}):
        skeleton = _skeleton(family, part)
        names = {canonical_name(part, n): n for n, _ in skeleton.named_modules() if n}
        own = [name for name in names if name in left]
        left.difference_update(own)
        found[part] = [names[name] for name in own]
    if left:
        raise ConfigError(
            f"{row.title}: {counted(len(left), 'layer is', 'layers are')} not in the "
            f"base model, for example {min(left)}. Use a LoRA of this base model."
        )
    return {part: names for part, names in found.items() if names}


def _skeleton(family: Family, part: str) -> nn.Module:
    if part == family.component:
        return family.skeleton()
    if part in family.text_models:
        return family.text_skeleton(part)
    return nn.Module()


def _encoded(config: TrainConfig, family: Family) -> dict[str, dict[str, Tensor]]:
    samples = config.resolved_samples
    texts = [text for s in samples for text in (s.prompt, s.negative_prompt) if text]
    read = read_weights if config.sample_prompt_weights else str
    return {text: family.encode_caption(read(text)) for text in dict.fromkeys(texts)}


def _images(
    config: TrainConfig,
    family: Family,
    cells: Sequence[_Cell],
    texts: dict[str, dict[str, Tensor]],
    folder: Path,
) -> Iterator[Path]:
    samples = config.resolved_samples
    with ProgressBar("Sampling", len(cells) * len(samples)) as bar:
        for number, cell in enumerate(cells):
            with _applied(family, cell):
                known = texts or _encoded(config, family)
                for index, sample in enumerate(samples):
                    request = sample_request(
                        sample, known.__getitem__, config.resolution
                    )
                    path = folder / f"{number:03d}-{index:03d}.png"
                    text = _parameters(config, family, sample, request, cell)
                    image = family.sample(request)
                    if has_nan(image):
                        raise _not_finite(cell, sample)
                    save_image(image, path, text)
                    yield path
                    bar.advance()


def _not_finite(cell: _Cell, sample: Sample) -> TrainingError:
    """Return an error with the weight and the files of an image with NaN."""
    if not cell.given:
        return TrainingError(
            f"weight 0: the image {sample.prompt!r:.80} of the base model contains NaN "
            "or infinity. Use --set train_dtype=bfloat16 or float32."
        )
    names = " + ".join(str(path) for path, _ in cell.row.files)
    return TrainingError(
        f"weight {cell.factor:g}: the image {sample.prompt!r:.80} of {names} contains "
        "NaN or infinity. Use smaller weights, or --set train_dtype=bfloat16 or "
        "float32."
    )


def _parameters(
    config: TrainConfig,
    family: Family,
    sample: Sample,
    request: SampleRequest,
    cell: _Cell,
) -> str:
    used = [(path, weight) for path, weight in cell.row.at(cell.factor) if weight]
    tags = "".join(f" <lora:{path.stem}:{weight:g}>" for path, weight in used)
    return png_parameters(
        sample.prompt + tags,
        sample.negative_prompt,
        request,
        family=family,
        model=Path(config.base_model_name or "").name,
    )


def _row_titles(rows: Sequence[Applied]) -> list[str]:
    """Return titles with as many folders as make them unique."""
    most = max(len(path.absolute().parts) for row in rows for path, _ in row.files)
    for folders in range(most):
        titles = [row.title_with(folders) for row in rows]
        if len(set(titles)) == len(titles):
            return titles
    return unique_titles([row.title for row in rows])


def _grids(
    config: TrainConfig,
    rows: Sequence[Applied],
    factors: Sequence[float],
    paths: Sequence[Path],
    folder: Path,
) -> Iterator[Path]:
    """Save a grid of all LoRAs and weights for each sample."""
    count = len(config.samples)
    headings = [f"weight {factor:g}" for factor in factors]
    titles = _row_titles(rows)
    for index in range(count):
        images = [Image.open(path).convert("RGB") for path in paths[index::count]]
        width = len(factors)
        lines = [images[k : k + width] for k in range(0, len(images), width)]
        path = folder / f"grid-{index:03d}.png"
        save_image(image_grid(headings, titles, lines), path)
        yield path


@contextlib.contextmanager
def _applied(family: Family, cell: _Cell) -> Iterator[None]:
    """Add the LoRA of a cell to the model inside a ``with`` block."""
    models: list[Any] = []
    for part, names in cell.layers.items():
        own = part == family.component
        model = family.denoiser if own else family.text_encoder(part)
        models.append(model)
        _add(model, part, names, cell.given)
    try:
        yield
    finally:
        for model in models:
            recurse_remove_peft_layers(model)
            del model.peft_config
            model._hf_peft_config_loaded = False


def _add(model: nn.Module, part: str, names: list[str], given: LoraWeights) -> None:
    ranks = {path: given[canonical_name(part, path)].rank for path in names}
    rank = max(ranks.values())
    dora = any(given[canonical_name(part, path)].is_dora for path in names)
    # The scale of every layer is 1: alpha is multiplied into A.
    add_lora(
        model,
        rank=rank,
        alpha=rank,
        targets=names,
        method=None,
        seed=0,
        ranks=ranks,
        use_dora=dora,
    )
    for pair in pairs_of(model):
        factors = given[canonical_name(part, pair.name)]
        set_factors(pair, factors, 1.0, orthonormal=False)
        if dora:
            set_magnitude(model, pair, factors)
