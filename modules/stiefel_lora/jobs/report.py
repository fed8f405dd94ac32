"""Files with the results of a batch: CSV, JSON and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .job import Job
from .page import write_page
from .results import Result, collect
from .tables import write_csv, write_json

__all__ = ["write_report"]


def write_report(
    folder: Path, jobs: Sequence[Job], title: str, *, links: bool = True
) -> tuple[list[Result], Path]:
    """Write the results of several jobs to a folder.

    Args:
        folder: output folder. It is created if missing.
        jobs: jobs in the order of the report.
        title: heading of the page.
        links: whether the page has links to run folders and files.

    Returns:
            The results and the path of the page.

    Raises:
        OutputError: If the folder is not writable.
    """
    results, page = collect(jobs), folder / "index.html"
    write_csv(folder / "results.csv", results)
    write_json(folder / "results.json", results)
    write_page(page, results, title, links=links)
    return results, page
