"""Sample images during training, and a grid of the first and last samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .._exceptions import OutputError
from .._prompt_weights import read_weights
from ..data.prepare import encode_caption
from ..families.latents import has_nan
from ..families.protocol import Family, SampleRequest
from ..runs.progress import say
from .distributed import ALONE, Processes
from .image_grid import image_grid
from .png_parameters import png_parameters

if TYPE_CHECKING:
    from ..checkpoints.tokens import Caption
    from ..config import Sample
    from ..data.tensor_store import TensorStore

__all__ = [
    "Sampler",
    "sample_request",
    "save_image",
    "unique_titles",
]


class Sampler:
    """Generator of the sample images of a configuration.

    Args:
        samples: samples to generate.
        family: model family. Its text encoders can be released afterwards, unless they
            are trained.
        store: cache of encoded prompts.
        resolution: default width and height of samples in pixels.
        folder: folder in which ``step-N-I.png`` is written.
        encodes_text: whether to encode prompts in advance. False if all text encoders
            are trained.
        weighted: whether prompts contain weights such as ``(word:1.2)``.
        model_name: name of the base model, for the metadata of the images.
        processes: processes that share the samples, unless they are in step. The main
            one saves them.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        family: Family,
        store: TensorStore,
        resolution: int,
        folder: Path,
        *,
        encodes_text: bool = True,
        weighted: bool = False,
        model_name: str = "",
        processes: Processes = ALONE,
    ) -> None:
        self._family = family
        self._model_name = model_name
        self._processes = processes
        self._folder = folder
        self._resolution = resolution
        self._has_noted_nan = False
        self._samples = samples
        self._weighted = weighted
        self.prompts = [sample.prompt for sample in samples]
        negative = [sample.negative_prompt for sample in samples]
        texts = [*self.prompts, *filter(None, negative)] if encodes_text else []
        read = {text: self._read(text) for text in texts}
        for number, caption in enumerate(read.values()):
            if processes.share.takes(number):
                encode_caption(caption, family, store)
        processes.wait()
        self._known = {text: _encode(read[text], family, store) for text in texts}

    @property
    def titles(self) -> list[str]:
        """Prompts, with numbers for repeated ones: ``a cat``, ``a cat (2)``."""
        return unique_titles(self.prompts)

    def __len__(self) -> int:
        return len(self.prompts)

    def _encoded(self, text: str) -> dict[str, Tensor]:
        """Encode a prompt with the text encoders in their current state."""
        return self._family.encode_caption(self._read(text), self._known.get(text))

    def _read(self, text: str) -> Caption:
        return read_weights(text) if self._weighted else text

    def make(self, step: int) -> list[Path]:
        """Generate and save all samples with the current weights.

        Returns:
            Paths of the images. Empty in all processes but the main one.

        Raises:
            OutputError: If the folder is not writable.
        """
        processes = self._processes
        is_main = processes.is_main
        paths = [self._path(step, index) for index in range(len(self))]
        images: dict[int, tuple[Image.Image, str]] = {}
        for index, sample in enumerate(self._samples):
            # Samples have different numbers of steps. Processes in step make all.
            if not (processes.in_step or processes.share.takes(index)):
                continue
            request = sample_request(sample, self._encoded, self._resolution)
            image = self._family.sample(request)
            text = self._text(sample, request)
            if is_main:
                self._save(image, paths[index], text)
            elif not processes.in_step:
                images[index] = image, text
        # A sample may have loaded the VAE, which training does not need.
        self._family.release_encoders()
        for others in processes.gathered(images):
            for index, (image, text) in others.items() if is_main else ():
                self._save(image, paths[index], text)
        return paths if is_main else []

    def _save(self, image: Image.Image, path: Path, text: str) -> None:
        save_image(image, path, text)
        if has_nan(image) and not self._has_noted_nan:
            self._has_noted_nan = True
            say(
                f"{path} contains NaN or infinity, which are black. Set train_dtype to "
                "bfloat16 or float32 if the loss is finite."
            )

    def _path(self, step: int, index: int) -> Path:
        return self._folder / f"step-{step:06d}-{index}.png"

    def _text(self, sample: Sample, request: SampleRequest) -> str:
        return png_parameters(
            sample.prompt,
            sample.negative_prompt,
            request,
            family=self._family,
            model=self._model_name,
        )

    def grid(self, before: int, after: int) -> Path | None:
        """Save the samples of two steps side by side as ``before_after.png``.

        Returns:
            Path of the file, or None if images of a step are missing.
        """
        if not self._processes.is_main:
            return None
        first, last = self._images_of(before), self._images_of(after)
        if not first or not last:
            return None
        path = self._folder / "before_after.png"
        headings = (
            "before" if before == 0 else f"step {before}",
            f"after {after} steps",
        )
        save_image(image_grid(self.prompts, headings, (first, last)), path)
        return path

    def _images_of(self, step: int) -> list[Image.Image]:
        paths = [self._path(step, index) for index in range(len(self))]
        if not all(path.is_file() for path in paths):
            return []
        return [Image.open(path).convert("RGB") for path in paths]


def unique_titles(texts: Sequence[str]) -> list[str]:
    """Append numbers to repeated texts, without creating new duplicates.

    >>> unique_titles(["a cat", "a cat", "a cat (2)"])
    ['a cat', 'a cat (3)', 'a cat (2)']
    """
    found: list[str] = []
    for text in texts:
        name, number = text, 1
        while name in found or (number > 1 and name in texts):
            number += 1
            name = f"{text} ({number})"
        found.append(name)
    return found


def _encode(text: Caption, family: Family, store: TensorStore) -> dict[str, Tensor]:
    found = store.read(encode_caption(text, family, store))
    assert found is not None
    return found


def sample_request(
    sample: Sample, encode: Callable[[str], dict[str, Tensor]], resolution: int
) -> SampleRequest:
    """Create the request of a sample with encoded prompts.

    Args:
        sample: settings of the sample.
        encode: function that encodes a prompt.
        resolution: default width and height in pixels.
    """
    positive = encode(sample.prompt)
    negative = encode(sample.negative_prompt) if sample.negative_prompt else None
    return SampleRequest(
        positive=positive,
        negative=negative,
        seed=sample.seed,
        steps=sample.steps,
        guidance=sample.guidance,
        width=sample.width or resolution,
        height=sample.height or resolution,
        sampler=sample.sampler,
    )


def save_image(image: Image.Image, path: Path, parameters: str = "") -> None:
    """Save a PNG, with the text that A1111, Forge and ComfyUI read as parameters.

    Raises:
        OutputError: If the file is not writable.
    """
    info = PngInfo()
    if parameters:
        info.add_text("parameters", parameters)
    # Pillow derives the format from the suffix, so it must stay .png.
    temporary = path.with_name(f".{path.name}")
    try:
        image.save(temporary, pnginfo=info)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"The image {path} could not be written ({error.strerror})."
        ) from error
