"""HTML page with the results of several jobs."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import io
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..config.dump import flat
from ..config.trigger import with_trigger
from ..files.atomic import atomic_write
from .charts import Chart, Frame
from .results import CURVES, Curve, Result
from .tables import link, shown

__all__ = ["write_page"]

_TEMPLATE = "page.html.jinja"
_THUMBNAIL_SIDE = 160
_MOST_SAMPLES = 8
# Jobs of different configs may differ in too many settings for a table; the rest is
# shown per job.
_MOST_COLUMNS = 5
_LONGEST_CELL = 32


def write_page(
    path: Path, results: Sequence[Result], title: str, *, links: bool = True
) -> None:
    """Write an HTML page with the results of several jobs.

    Args:
        path: path of the file.
        results: results in the order of the page.
        title: heading of the page.
        links: whether to add links to run folders and files. Disable it for pages that
            are shared.

    Raises:
        OutputError: If the file cannot be written. An existing file is not changed.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__ or "stiefel_lora.jobs", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    frames = _frames(results)
    keys = list(dict.fromkeys(key for result in results for key in result.differs))
    text = environment.get_template(_TEMPLATE).render(
        title=title,
        results=results,
        keys=keys[:_MOST_COLUMNS],
        frames=frames,
        ghosts={title: _ghosts(frame, results) for title, frame in frames.items()},
        charts=[_charts(frames, result) for result in results],
        samples=[_last_samples(result) for result in results],
        before=_before(results),
        common=_common(results, keys),
        one_seed="seed" not in keys,
        made=_made(),
        shown=shown,
        short=_short,
        link=(lambda target: link(target, path.parent)) if links else None,
    )
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _frames(results: Sequence[Result]) -> dict[str, Frame]:
    found = {}
    for title in CURVES:
        curves = [result.curves[title] for result in results]
        is_rank = title == "effective rank"
        if title == "validation loss":
            # The initial drop would hide the differences between jobs.
            curves = [_trained(curve) for curve in curves]
        if is_rank:
            curves += [[(0, _rank(result))] for result in results if any(curves)]
        frame = Frame.around(title, curves, floor=0.0 if is_rank else None)
        if frame:
            found[title] = frame
    return found


def _trained(curve: Curve) -> Curve:
    return [(step, value) for step, value in curve if step > 0] or curve


def _rank(result: Result) -> float:
    return float(result.job.config["lora_rank"])


def _ghosts(frame: Frame, results: Sequence[Result]) -> list[str]:
    curves = [result.curves[frame.title] for result in results]
    return [frame.path(curve) for curve in curves if curve]


def _charts(frames: dict[str, Frame], result: Result) -> list[Chart]:
    return [
        Chart(
            frame,
            result.curves[title],
            _rank(result) if title == "effective rank" else None,
        )
        for title, frame in frames.items()
    ]


def _last_samples(result: Result) -> list[tuple[str, str]]:
    steps = [step for step in result.samples if step > 0]
    return _images(result, max(steps)) if steps else []


def _before(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return the samples before training if they are the same for all jobs."""
    with_samples = [result for result in results if result.samples.get(0)]
    kinds = {repr(_drawn_from(result.job.config)) for result in with_samples}
    return _images(with_samples[0], 0) if len(kinds) == 1 else []


def _drawn_from(config: dict[str, Any]) -> list[Any]:
    keys = ("base_model_name", "samples", "resolution", "lora_init", "model_type")
    return [config.get(key) for key in (*keys, "trigger_word")]


def _images(result: Result, step: int) -> list[tuple[str, str]]:
    """Return the prompts and images of the first samples of a step."""
    word = result.job.config.get("trigger_word")
    samples = result.job.config["samples"]
    prompts = [with_trigger(sample["prompt"], word) for sample in samples]
    pairs = list(zip(prompts, result.samples[step], strict=False))[:_MOST_SAMPLES]
    return [(prompt, _embedded(path)) for prompt, path in pairs if path.is_file()]


def _embedded(path: Path) -> str:
    """Return a small copy of an image as a data URL."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _common(results: Sequence[Result], keys: Sequence[str]) -> dict[str, str]:
    """Return the settings that are the same for all jobs, without local paths."""
    places = {"run_name", "output_dir", "cache_dir", "comment", "schema_version"}
    places |= {"base_model_name", "concepts", "validation_concepts"}
    flats = [flat(result.job.config) for result in results]
    first = flats[0] if flats else {}
    return {
        key: shown(value)
        for key, value in first.items()
        if key not in places
        and key not in keys
        and all(key in other for other in flats)
        and shown(value)
    }


def _short(value: Any) -> str:
    """Format a setting for a table. Only the end of long values is shown."""
    text = shown(value)
    return text if len(text) <= _LONGEST_CELL else f"...{text[3 - _LONGEST_CELL :]}"


def _made() -> str:
    date = datetime.date.today().isoformat()
    torch = importlib.metadata.version("torch")
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{date}, stiefel-lora {__version__}, torch {torch}, {machine}"
