"""Results of jobs as a table in the terminal, CSV and JSON."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.atomic import atomic_write
from .results import Result

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["link", "result_table", "shown", "write_csv", "write_json"]

FIGURES = (
    "held_out_before",
    "held_out_loss",
    "effective_rank",
    "lowest_effective_rank",
    "seconds",
)


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write a CSV file with a row per job. Values that were not measured are empty.

    Raises:
        OutputError: If the file cannot be written. An existing file is not changed.
    """
    keys = _keys(results)
    with (
        atomic_write(path) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["job", "state", *keys, *FIGURES, "file", "message"])
        for result in results:
            values = [_cell(result.differs.get(key)) for key in keys]
            figures = [getattr(result, name) for name in FIGURES]
            file_ = link(result.files[0], path.parent) if result.files else ""
            job = result.job
            writer.writerow(
                [job.name, job.state.value, *values, *figures, file_, job.message]
            )


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Write a JSON file with an object per job, including its curves.

    Raises:
        OutputError: If the file cannot be written. An existing file is not changed.
    """
    data = [
        {
            "job": result.job.name,
            "state": result.job.state.value,
            "message": result.job.message,
            "differs": result.differs,
            **{name: getattr(result, name) for name in FIGURES},
            "files": [link(file, path.parent) for file in result.files],
            "run_dir": link(result.job.run_dir, path.parent),
            # "held-out loss" is the name until 0.2.
            "curves": result.curves
            | {"held-out loss": result.curves["validation loss"]},
        }
        for result in results
    ]
    with atomic_write(path) as part:
        part.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")


def result_table(results: Sequence[Result]) -> Table:
    """Return a table of results for the terminal."""
    from rich.table import Table

    keys = _keys(results)
    heads = ("validation loss", "effective rank", "time", "file")
    table = Table("job", "state", *keys, *heads)
    for column in table.columns:
        # Names must not be truncated: they differ in their suffixes.
        column.overflow = "fold"
    for result in results:
        file_ = result.files[0].name if result.files else ""
        table.add_row(
            result.job.name,
            result.job.state.value,
            *(shown(result.differs.get(key)) for key in keys),
            _number(result.held_out_loss, ".4f"),
            _number(result.effective_rank, ".1f"),
            _number(result.seconds or None, ".0f", " s"),
            file_,
        )
    return table


def link(path: Path, folder: Path) -> str:
    """Return ``path`` relative to ``folder``, with forward slashes."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        # Another drive on Windows.
        return path.as_uri()


def shown(value: Any) -> str:
    """Format a setting as in a config file. Empty if it is not set."""
    if value is None:
        return ""
    if isinstance(value, list) and value and _is_folder(value[0]):
        # Image folders.
        return ", ".join(item["path"] for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_folder(item: Any) -> bool:
    return isinstance(item, dict) and "path" in item


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "not measured" if value is None else f"{value:{form}}{unit}"


def _cell(value: Any) -> Any:
    return (
        value if isinstance(value, int | float | str) or value is None else shown(value)
    )


def _keys(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(key for result in results for key in result.differs))
