"""The demo images: Fluent 3D concepts for training and for validation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from demo_parts.concepts import Concept, load_concepts, shared_single_concepts
from demo_parts.rasters import load_image

COUNT = 160
SUBSETS = ("train", "validation")


def choose(concepts: list[Concept], seed: int) -> dict[str, list[Concept]]:
    """Draw `COUNT` concepts for each subset by one seeded shuffle.

    Raises:
        ValueError: if the packages share too few concepts.
    """
    shared = shared_single_concepts(concepts)
    if len(shared) < COUNT * len(SUBSETS):
        raise ValueError(
            f"The packages share {len(shared)} concepts, but "
            f"{COUNT * len(SUBSETS)} are needed: check the package versions."
        )
    random.Random(seed).shuffle(shared)
    chosen = {}
    for index, subset in enumerate(SUBSETS):
        part = shared[index * COUNT : (index + 1) * COUNT]
        chosen[subset] = sorted(part, key=lambda concept: concept.points)
    return chosen


def base_concepts(concepts: list[Concept], seed: int) -> list[Concept]:
    """Return the concepts of the base model in code-point order: both subsets.

    An hour of two CPU cores teaches 320 concepts well or 1,600 badly.
    """
    chosen = choose(concepts, seed)
    both = [concept for subset in SUBSETS for concept in chosen[subset]]
    return sorted(both, key=lambda concept: concept.points)


def write_images(packages_folder: Path, target: Path, seed: int) -> None:
    """Write `<target>/<subset>/<stem>.png` with a caption file beside each."""
    chosen = choose(load_concepts(packages_folder), seed)
    for subset, concepts in chosen.items():
        folder = target / subset
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for concept in concepts:
            key = concept.image("fluent")
            assert key is not None
            image = load_image(packages_folder, "fluent", key)
            image.save(folder / f"{concept.stem}.png", optimize=True)
            caption = folder / f"{concept.stem}.txt"
            caption.write_text(concept.name + "\n", "utf-8")
        print(f"{subset}: {len(concepts)} images in {folder}")
