"""Taggers of the WD14 kind (``SmilingWolf/wd-*-tagger-*``), run by onnxruntime.

Input, table of tags and thresholds follow the demo of these taggers
(``SmilingWolf/wd-tagger`` on the Hugging Face Hub) and ``tag_images_by_wd14_tagger.py``
of kohya's sd-scripts: the image on white, padded with white to a square, resized to the
input size of the model (448), in BGR order, as float32 in [0, 255], without further
normalization. The output has a probability for each row of ``selected_tags.csv``
(``tag_id,name,category,count``), whose category is 9 for ratings, 4 for characters and
0 for general tags.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .._exceptions import ConfigError, ModelError
from .._install import install_command
from .captioner import CaptionOptions
from .captioner_location import CaptionerFiles

__all__ = ["WdTagger", "readable_tag", "tagger_input"]

_GENERAL, _CHARACTER = "0", "4"


@dataclasses.dataclass(frozen=True)
class _Tag:
    name: str
    category: str


class WdTagger:
    """Tagger whose captions are tags, separated by commas.

    Names of characters are first, then general tags, each by probability. Ratings and
    other categories are left out.

    Args:
        files: ONNX file and table of tags.
        options: thresholds, tags to leave out, and the device.

    Raises:
        ConfigError: If onnxruntime is not installed, or the device is not available.
        ModelError: If the files do not form a tagger of this kind.
    """

    def __init__(self, files: CaptionerFiles, options: CaptionOptions) -> None:
        assert files.tags is not None
        assert files.onnx is not None
        self._options = options
        self._tags = _read_tags(files.tags)
        self._session = _session(files.onnx, options.device)
        self._input = self._session.get_inputs()[0]
        self._side = _side(self._input, files.onnx)
        self._excluded = {readable_tag(tag.strip()) for tag in options.exclude}
        self._path = files.onnx

    def caption(self, image: Image.Image) -> str:
        """Return the tags of an RGB image."""
        pixels = tagger_input(image, self._side)
        output = np.asarray(self._session.run(None, {self._input.name: pixels})[0])
        scores = output.reshape(-1)
        if len(scores) != len(self._tags):
            raise ModelError(
                f"--model: {self._path} has {len(scores)} outputs, but its table "
                f"{len(self._tags)} tags. Use the files of the same model."
            )
        if not (scores.min() >= 0 and scores.max() <= 1):
            raise ModelError(
                f"--model: the outputs of {self._path} are not probabilities. Models "
                "without a sigmoid at the end are not supported."
            )
        # Stable: tags of equal probability are in the order of the table.
        order = np.argsort(-scores, kind="stable")
        found = [
            readable_tag(tag.name)
            for category, least in (
                (_CHARACTER, self._options.character_threshold),
                (_GENERAL, self._options.threshold),
            )
            for place in order
            if (tag := self._tags[place]).category == category
            and scores[place] >= least
        ]
        return ", ".join(tag for tag in found if tag not in self._excluded)


def tagger_input(image: Image.Image, side: int) -> np.ndarray:
    """Convert an RGB image to the input of a tagger.

    Returns:
        ``(1, side, side, 3)`` float32 in [0, 255], in BGR order.
    """
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), (255, 255, 255))
    place = (longest - image.width) // 2, (longest - image.height) // 2
    square.paste(image, place)
    if longest != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.float32)[None, :, :, ::-1].copy()


def readable_tag(name: str) -> str:
    """Replace underscores by spaces, except in emoticons, which have no words.

    >>> readable_tag("long_hair"), readable_tag("(o)_(o)"), readable_tag("6_9")
    ('long hair', '(o)_(o)', '6_9')
    """
    return name.replace("_", " ") if re.search(r"[^\W_]{2}", name) else name


def _read_tags(path: Path) -> list[_Tag]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [_Tag(row["name"], row["category"].strip()) for row in rows]
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        raise ModelError(
            f"--model: {path} is not a table of tags with the columns name and "
            "category."
        ) from error


def _session(path: Path, device: str) -> Any:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise ConfigError(
            "A tagger requires onnxruntime, which is not installed. Install it with: "
            f"{install_command('captions')}"
        ) from None
    present = runtime.get_available_providers()
    wanted = {
        "auto": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "cuda": ["CUDAExecutionProvider"],
    }.get(device.partition(":")[0], ["CPUExecutionProvider"])
    usable = [name for name in wanted if name in present]
    if not usable:
        raise ConfigError(
            "--device: this onnxruntime does not support cuda. Use cpu, or install "
            "onnxruntime-gpu."
        )
    options = runtime.SessionOptions()
    # Errors only; they are raised as well.
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=usable)
    # onnxruntime raises several unrelated classes for damaged files.
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"--model: {path} cannot be loaded ({reason}).") from error


def _side(found: Any, path: Path) -> int:
    shape = found.shape
    whole = (
        len(shape) == 4
        and isinstance(shape[1], int)
        and shape[1:]
        == [
            shape[1],
            shape[1],
            3,
        ]
    )
    if not whole:
        raise ModelError(
            f"--model: the input of {path} has the shape {shape}, but that of a WD14 "
            "tagger is [batch, side, side, 3]."
        )
    return shape[1]
