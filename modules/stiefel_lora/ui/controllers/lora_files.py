"""LoRA files in the GUI, which are processed by ``stiefel-lora lora`` commands.

The commands run in a separate process, so that the GUI does not import torch and stays
responsive.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "COLUMNS",
    "MAX_RANK",
    "SINGULAR_VALUES",
    "SPECTRUM_BAR",
    "SPECTRUM_HINT",
    "SPELLINGS",
    "LoraEntry",
    "Result",
    "command",
    "convert_arguments",
    "extract_arguments",
    "inspect_arguments",
    "merge_arguments",
    "parse_checks",
    "parse_entry",
    "resize_arguments",
    "usable_output",
    "verify_arguments",
]

COLUMNS = (
    "File",
    "Weight",
    "Family",
    "Key format",
    "Rank",
    "Effective rank",
    "Norm",
    "MB",
    "Defects",
)
"""Columns of the table: name, weight in a merge, and the facts of an entry."""

MAX_RANK = 1024
"""Largest rank of a result."""

SINGULAR_VALUES = "Singular values of each layer"
SPECTRUM_HINT = (
    "Rows are layers, columns are singular values in descending order. Black is "
    "1/1000 of the largest value in the file or less. Hover for values."
)
SPECTRUM_BAR = (
    "Singular value / largest",
    [(0.0, "1/1000"), (1 / 3, "1/100"), (2 / 3, "1/10"), (1.0, "1")],
)
"""Label of the color bar, and its ticks from 0 to 1."""

SPELLINGS = (
    "kohya",
    "peft",
    "peft-folder",
    "comfyui",
    "kohya-diffusers",
    "onetrainer",
    "onetrainer-legacy",
    "diffusers-old",
    "original",
)
"""Values of ``lora convert --to``."""

_DECADES = 3.0
# Maximum number of names in a text.
_MOST = 6


@dataclasses.dataclass(frozen=True)
class LoraEntry:
    """LoRA file with its statistics."""

    path: Path
    facts: tuple[str, ...]
    """Model family, ranks, size and defects, as texts of the table."""

    layers: tuple[str, ...]
    sections: tuple[tuple[int, str], ...]
    """First row and name of each section of the model."""

    levels: np.ndarray
    """Scaled logarithms of the singular values in [0, 1], or NaN.

    The shape is (singular values, layers).
    """

    spectra: tuple[tuple[float, ...], ...]
    """Singular values of each layer. NaN for layers with NaN or infinity."""

    not_finite: tuple[str, ...] = ()
    """Layers with NaN or infinity. Only ``inspect`` supports such files."""

    notes: tuple[str, ...] = ()
    """Messages that are displayed when the file is selected."""

    def describe(self, column: int, row: int) -> str:
        """Return the text for a singular value. Empty outside of the plot."""
        if not 0 <= row < len(self.layers) or not 0 <= column < len(self.spectra[row]):
            return ""
        value = self.spectra[row][column]
        if math.isnan(value):
            return f"{self.layers[row]}: NaN or infinity"
        return f"{self.layers[row]}: sigma_{column + 1} = {value:.4g}"


@dataclasses.dataclass(frozen=True)
class Result:
    """Error, size and checks of a created LoRA file."""

    error: float
    size: float
    """File size in MB."""

    checks: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Result:
        """Parse the output of ``--json``."""
        found = json.loads(text)
        size, remarks = found["size"] / 1e6, found.get("remarks", ())
        return cls(found["error"], size, tuple(found["checks"]), tuple(remarks))

    def summary(self) -> str:
        """Error and size as text."""
        return f"Relative error {self.error:.4g}, {self.size:.2f} MB."


def command(*arguments: object) -> list[str]:
    """Return the program and arguments of a ``stiefel-lora lora`` command."""
    return [sys.executable, "-m", "stiefel_lora", "lora", *map(str, arguments)]


def usable_output(verb: str, code: int, output: str) -> bool:
    """Return whether a command has printed a result.

    ``inspect`` and ``verify`` print it and end in an error for a file with defects.
    """
    return code == 0 or (verb in ("inspect", "verify") and bool(output.strip()))


def inspect_arguments(path: Path) -> list[str]:
    """Return the arguments that inspect a file."""
    return ["inspect", str(path), "--json", "--allow-unknown"]


def verify_arguments(path: Path) -> list[str]:
    """Return the arguments that check whether other programs can load a file."""
    return ["verify", str(path), "--json", "--allow-unknown"]


def resize_arguments(path: Path, rank: int, output: Path) -> list[str]:
    """Return the arguments that reduce the rank of a file."""
    given = ["resize", str(path), "--rank", str(rank), "--output", str(output)]
    return [*given, "--json", "--allow-unknown"]


def convert_arguments(path: Path, to: str, output: Path) -> list[str]:
    """Return the arguments that convert a file to a key format of ``SPELLINGS``."""
    given = ["convert", str(path), "--to", to, "--output", str(output)]
    return [*given, "--json", "--allow-unknown"]


def merge_arguments(
    files: Sequence[tuple[Path, float]], rank: int | None, output: Path
) -> list[str]:
    """Return the arguments of a merge. ``rank`` is the rank of the result."""
    named = [f"{path}:{weight:g}" for path, weight in files]
    options = [] if rank is None else ["--rank", str(rank)]
    given = ["merge", *named, *options, "--output", str(output)]
    return [*given, "--json", "--allow-unknown"]


def extract_arguments(base: Path, tuned: Path, rank: int, output: Path) -> list[str]:
    """Return the arguments that create a LoRA from two checkpoints."""
    given = ["extract", str(base), str(tuned), "--rank", str(rank)]
    return [*given, "--output", str(output), "--json"]


def parse_checks(text: str) -> tuple[str, ...]:
    """Parse the output of ``lora verify --json``."""
    return tuple(json.loads(text)["checks"])


def parse_entry(text: str) -> LoraEntry:
    """Parse the output of ``lora inspect --json`` for one file."""
    found = json.loads(text)
    layers = found["layers"]
    spectra = tuple(
        tuple(math.nan if s is None else s for s in layer["spectrum"])
        for layer in layers
    )
    sections: list[tuple[int, str]] = []
    for row, layer in enumerate(layers):
        if not sections or sections[-1][1] != layer["section"]:
            sections.append((row, layer["section"]))
    return LoraEntry(
        path=Path(found["path"]),
        facts=_facts(found),
        layers=tuple(layer["name"] for layer in layers),
        sections=tuple(sections),
        levels=_levels(spectra),
        spectra=spectra,
        not_finite=tuple(found["not_finite"]),
        notes=_notes(found),
    )


def _notes(found: dict[str, Any]) -> tuple[str, ...]:
    notes = list(found["remarks"])
    if found["not_finite"]:
        notes.append(
            f"NaN or infinity in {_listed(found['not_finite'])}. This file can only be "
            "inspected. Use an earlier checkpoint of the training."
        )
    if found["unknown_keys"]:
        notes.append(
            "Keys that are not part of an adapter and are not written to results: "
            f"{_listed(found['unknown_keys'])}."
        )
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _facts(found: dict[str, Any]) -> tuple[str, ...]:
    total = found["total"]
    ranks = sorted({layer["rank"] for layer in found["layers"]})
    ends = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else "".join(map(str, ranks))
    broken = len(found["not_finite"])
    faults = [
        f"{count} {label.removesuffix('s') if count == 1 else label}"
        for count, label in (
            (total["spikes"], "spikes"),
            (total["dead"], "dead"),
            (broken, "not finite"),
        )
        if count
    ]
    effective = total["effective_rank"]
    return (
        found["family"] or "unknown",
        found["key_format"],
        ends,
        "" if effective is None else f"{effective:.3g}",
        "" if total["norm"] is None else f"{total['norm']:.4g}",
        f"{found['size'] / 1e6:.1f}",
        ", ".join(faults),
    )


def _levels(spectra: Sequence[Sequence[float]]) -> np.ndarray:
    most = max(map(len, spectra), default=0)
    largest = [values[0] for values in spectra if values]
    top = max((sigma for sigma in largest if sigma > 0), default=0.0)
    levels = np.zeros((max(most, 1), max(len(spectra), 1)))
    for row, values in enumerate(spectra):
        for column, value in enumerate(values):
            if math.isnan(value):
                levels[column, row] = math.nan
            elif value > 0:
                level = 1 + math.log10(value / top) / _DECADES
                levels[column, row] = min(max(level, 0.0), 1.0)
    return levels
