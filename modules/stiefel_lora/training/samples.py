"""Sample images during training, and a grid of the first and last samples."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .._exceptions import OutputError
from .._prompt_weights import parse_weights
from ..data.prepare import encode_caption
from ..families.protocol import Family, SampleRequest

if TYPE_CHECKING:
    from ..checkpoints.tokens import Caption
    from ..config import Sample
    from ..data.tensor_store import TensorStore

__all__ = ["Sampler", "before_after_grid", "unique_titles"]

_MARGIN = 8
# Small images (those of the demo have 64 px) are enlarged to make room for captions.
_SHOWN_SIDE = 160


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
    ) -> None:
        self._family = family
        self._folder = folder
        self._resolution = resolution
        self._samples = samples
        self._weighted = weighted
        self.prompts = [sample.prompt for sample in samples]
        negative = [sample.negative_prompt for sample in samples]
        texts = [*self.prompts, *filter(None, negative)] if encodes_text else []
        self._known = {text: _encode(self._read(text), family, store) for text in texts}

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
        """Return a prompt with its weights, if they are used and there are some."""
        if not self._weighted:
            return text
        prompt = parse_weights(text)
        return prompt if prompt.is_weighted else str(prompt)

    def make(self, step: int) -> list[Path]:
        """Generate and save all samples with the current weights.

        Raises:
            OutputError: If the folder is not writable.
        """
        paths = []
        for index, sample in enumerate(self._samples):
            request = _request(sample, self._encoded, self._resolution)
            path = self._folder / f"step-{step:06d}-{index}.png"
            _save(self._family.sample(request), path)
            paths.append(path)
        # A sample may have loaded the VAE, which training does not need.
        self._family.release_encoders()
        return paths

    def grid(self, before: int, after: int) -> Path | None:
        """Save the samples of two steps side by side as ``before_after.png``.

        Returns:
            Path of the file, or None if images of a step are missing.
        """
        first, last = self._images_of(before), self._images_of(after)
        if not first or not last:
            return None
        path = self._folder / "before_after.png"
        headings = (
            "before" if before == 0 else f"step {before}",
            f"after {after} steps",
        )
        _save(before_after_grid(self.prompts, first, last, headings), path)
        return path

    def _images_of(self, step: int) -> list[Image.Image]:
        paths = [self._folder / f"step-{step:06d}-{i}.png" for i in range(len(self))]
        if not all(path.is_file() for path in paths):
            return []
        return [Image.open(path).convert("RGB") for path in paths]


def before_after_grid(
    captions: Sequence[str],
    before: Sequence[Image.Image],
    after: Sequence[Image.Image],
    headings: tuple[str, str] = ("before", "after"),
) -> Image.Image:
    """Create an image with two rows of samples and their captions."""
    scale = max(1, -(-_SHOWN_SIDE // max(image.width for image in before)))
    sizes = [(p.width * scale, p.height * scale) for p in before]
    font = ImageFont.load_default(13)
    letter = font.getlength("n")
    wrapped = [
        textwrap.fill(caption, max(6, int(width / letter)), max_lines=3)
        for caption, (width, _) in zip(captions, sizes, strict=True)
    ]
    left = int(max(font.getlength(heading) for heading in headings)) + 2 * _MARGIN
    top = 3 * 17 + _MARGIN
    height = max(height for _, height in sizes)
    sheet = Image.new(
        "RGB",
        (
            left + sum(width + _MARGIN for width, _ in sizes),
            top + 2 * (height + _MARGIN),
        ),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for row, heading in enumerate(headings):
        middle = top + row * (height + _MARGIN) + height // 2
        draw.text((_MARGIN, middle), heading, fill="black", font=font, anchor="lm")
    x = left
    for column, (caption, size) in enumerate(zip(wrapped, sizes, strict=True)):
        draw.multiline_text((x, _MARGIN // 2), caption, fill="black", font=font)
        for row, images in enumerate((before, after)):
            shown = images[column].resize(size, Image.Resampling.NEAREST)
            sheet.paste(shown, (x, top + row * (height + _MARGIN)))
        x += size[0] + _MARGIN
    return sheet


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


def _request(
    sample: Sample, encode: Callable[[str], dict[str, Tensor]], resolution: int
) -> SampleRequest:
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
    )


def _save(image: Image.Image, path: Path) -> None:
    # Pillow derives the format from the suffix, so it must stay .png.
    temporary = path.with_name(f".{path.name}")
    try:
        image.save(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"The image {path} could not be written ({error.strerror})."
        ) from error
