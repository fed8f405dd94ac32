"""Image folders of the study's tasks, made from the pinned emoji packages of the demo.

``style``
    Fluent 3D drawings of 160 concepts, as in the demo; validated on 160 other concepts.
    120 steps of 8 images are six passes, and the images are learned by heart.
``large``
    The same style and the same validation images, with 1,164 concepts to train on: 120
    steps are less than one pass. The UNet and the transformer know 160 of these
    concepts, and all validation concepts, from other drawings; the text encoders and
    the VAE have seen every one.
``concepts``
    48 emoji that the UNet and the transformer have never seen, in Noto's drawing, each
    under an invented word, all in one LoRA: they compete for its capacity. Validated on
    Twemoji's drawing of the same concepts, and on Noto's, mirrored and cropped. The
    text encoders know the real names, but not the words.
``stack``
    Nothing to train on: the same 48 emoji as Fluent 3D draws them, each under its word
    alone, to measure a LoRA of ``large`` and one of ``concepts`` together.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from demo_runs import ROOT
from PIL import Image, ImageOps

sys.path.append(str(ROOT / "scripts"))

from demo_parts import packages
from demo_parts.concepts import (
    Concept,
    load_concepts,
    shared_single_concepts,
)
from demo_parts.image_set import choose
from demo_parts.rasters import SIDE, load_image

__all__ = [
    "PACKAGES",
    "TASKS",
    "all_concepts",
    "task_folder",
    "task_settings",
    "validation_drawings",
]

PACKAGES = ROOT / "build" / "packages"
DATA = ROOT / "build" / "study_data"
DRAWINGS = ROOT / "modules" / "stiefel_lora" / "demo" / "pictures" / "validation"
SEED, CONCEPTS = 0, 48
# A crop keeps this share of each side.
KEPT = 0.85
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]

Entry = tuple[str, str, Image.Image]
"""File stem, caption and image."""


def task_settings(task: str) -> dict[str, Any]:
    """Settings of a config that train on `task`, whose images are made if missing."""
    if TASKS[task] is None:
        return {}
    folder = task_folder(task)
    train = {"path": str(folder / "train"), "enable_random_flip": task == "concepts"}
    return {
        "concepts": [train],
        "validation_concepts": [{"path": str(folder / "validation")}],
    }


def task_folder(task: str) -> Path:
    """Folder of a task with its subsets, made if it is missing."""
    folder, make = DATA / task, TASKS[task]
    assert make is not None
    if not (folder / "complete").exists():
        packages.fetch(PACKAGES)
        for subset, entries in make().items():
            _write(folder / subset, entries)
        (folder / "complete").touch()
    return folder


def validation_drawings() -> list[Path]:
    """Images of the validation concepts in the style, beside their captions."""
    return sorted(DRAWINGS.glob("*.png"))


def all_concepts() -> list[Concept]:
    """Concepts of the base model and of ``large``, by code points."""
    packages.fetch(PACKAGES)
    known, new, _ = _concepts()
    return sorted([*known["train"], *known["validation"], *new], key=lambda c: c.points)


def _write(folder: Path, entries: Iterable[Entry]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for stem, caption, image in entries:
        image.save(folder / f"{stem}.png")
        (folder / f"{stem}.txt").write_text(f"{caption}\n", "utf-8")


def _large() -> dict[str, list[Entry]]:
    known, new, _ = _concepts()
    trained = sorted([*known["train"], *new], key=lambda concept: concept.points)
    chosen = {"train": trained, "validation": known["validation"]}
    return {
        subset: [(c.stem, c.name, _drawing(c, "fluent")) for c in concepts]
        for subset, concepts in chosen.items()
    }


def _invented() -> dict[str, list[Entry]]:
    train, validation = [], []
    reserved = _concepts()[2]
    for concept, word in zip(reserved, _words(len(reserved)), strict=True):
        noto, twemoji = _drawing(concept, "noto"), _drawing(concept, "twemoji")
        train.append((word, f"noto {word}", noto))
        validation += [
            (f"{word}_noto", f"noto {word}", _mirrored_crop(noto)),
            (f"{word}_twemoji", f"twemoji {word}", twemoji),
        ]
    return {"train": train, "validation": validation}


def _stacked() -> dict[str, list[Entry]]:
    reserved = _concepts()[2]
    words = _words(len(reserved))
    named = zip(reserved, words, strict=True)
    return {"validation": [(word, word, _drawing(c, "fluent")) for c, word in named]}


def _concepts() -> tuple[dict[str, list[Concept]], list[Concept], list[Concept]]:
    """Those of the base by subset; new ones; new ones kept for the invented words."""
    found = load_concepts(PACKAGES)
    known = choose(found, SEED)
    seen = {c.points for concepts in known.values() for c in concepts}
    new = [c for c in shared_single_concepts(found) if c.points not in seen]
    random.Random(SEED).shuffle(new)
    return known, new[CONCEPTS:], new[:CONCEPTS]


def _drawing(concept: Concept, style: str) -> Image.Image:
    key = concept.image(style)
    assert key is not None
    return load_image(PACKAGES, style, key)


def _words(count: int) -> list[str]:
    """Invented words of three syllables, all different."""
    rng, words = random.Random(SEED), dict[str, None]()
    while len(words) < count:
        words["".join(rng.choices(SYLLABLES, k=3))] = None
    return list(words)


def _mirrored_crop(image: Image.Image) -> Image.Image:
    margin = round(SIDE * (1 - KEPT) / 2)
    box = (margin, margin, SIDE - margin, SIDE - margin)
    cropped = ImageOps.mirror(image).crop(box)
    return cropped.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


TASKS = {"style": None, "large": _large, "concepts": _invented, "stack": _stacked}
