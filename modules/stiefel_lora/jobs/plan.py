"""From config files and sweeps to jobs, all checked before anything starts."""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .._exceptions import ConfigError, InputError
from ..config import (
    TrainConfig,
    check_complete,
    check_paths,
    dump_full,
    load_config,
)
from ..config.overrides import parse_override
from ..config.presets import find_config
from ..data.folder import scan_concepts
from .naming import unique_names
from .sweep import combinations, ordered

__all__ = ["Plan", "make_plans"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job to be: its settings and where they came from."""

    config: TrainConfig
    source: str
    changes: dict[str, Any]
    """What a sweep set, by dotted key."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as JSON data."""
        return json.loads(dump_full(self.config))


def make_plans(
    configs: Sequence[str],
    overrides: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> list[Plan]:
    """Combine configs and sweeps, with a run name of its own for every job.

    Args:
        configs: config files, patterns such as ``jobs/*.json``, or names of presets.
        overrides: ``KEY=VALUE`` for all jobs.
        sweeps: see ``sweep``.
        plugins: files or modules for all jobs, beside those of the configs.

    Raises:
        ConfigError: one line a broken config, by name; or two jobs that are the same.
    """
    points = list(combinations(sweeps, overrides))
    scanned: dict[str, str] = {}
    plans: list[Plan] = []
    problems: dict[str, None] = {}
    for source in _sources(configs):
        for point in points:
            try:
                settings = ordered(point, overrides)
                config = load_config(find_config(source), settings, plugins)
                plans.append(_plan(config, source, point, scanned))
            except InputError as error:
                problems[_title(source, str(error))] = None
    if problems:
        raise ConfigError(_report(list(problems), alone=not plans))
    return _named(plans)


def _sources(configs: Iterable[str]) -> list[str]:
    """Patterns spelled out, for shells that do not."""
    found: list[str] = []
    for config in configs:
        is_pattern = any(sign in config for sign in "*?[") and not Path(config).exists()
        matches = sorted(glob.glob(config, recursive=True)) if is_pattern else [config]
        if not matches:
            raise ConfigError(f"No file matches {config}.")
        found += matches
    doubles = [source for source in found if found.count(source) > 1]
    if doubles:
        raise ConfigError(f"The config {doubles[0]} is given twice: give it once.")
    return found


def _plan(
    config: TrainConfig, source: str, point: Sequence[str], scanned: dict[str, str]
) -> Plan:
    check_paths(config)
    check_complete(config)
    _check_pictures(config, scanned)
    changes = {".".join(keys): value for keys, value in map(parse_override, point)}
    return Plan(config, source, changes)


def _check_pictures(config: TrainConfig, scanned: dict[str, str]) -> None:
    """Look into every folder of pictures, once for all jobs."""
    found: dict[str, None] = {}
    for concept in (*config.concepts, *config.validation_concepts):
        key = str(concept.path)
        if key not in scanned:
            scanned[key] = _complaint(concept)
        found[scanned[key]] = None
    found.pop("", None)
    if found:
        raise ConfigError("\n".join(found))


def _complaint(concept: Any) -> str:
    try:
        scan_concepts([concept])
    except InputError as error:
        return str(error)
    return ""


def _title(source: str, sentence: str) -> str:
    return sentence if source in sentence else f"{source}: {sentence}"


def _report(problems: Sequence[str], *, alone: bool) -> str:
    if alone and len(problems) == 1:
        return problems[0]
    lines = "\n".join(f"  {line}" for text in problems for line in text.splitlines())
    return f"Nothing was started; mend first:\n{lines}"


def _named(plans: Sequence[Plan]) -> list[Plan]:
    settings = [plan.settings for plan in plans]
    _check_same(plans, settings)
    wanted = [plan.config.run_name for plan in plans]
    names = unique_names(wanted, settings, [plan.changes for plan in plans])
    return [
        dataclasses.replace(
            plan, config=plan.config.model_copy(update={"run_name": name})
        )
        for plan, name in zip(plans, names, strict=True)
    ]


def _check_same(plans: Sequence[Plan], settings: Sequence[dict[str, Any]]) -> None:
    seen: dict[str, Plan] = {}
    for plan, data in zip(plans, settings, strict=True):
        text = json.dumps({**data, "comment": ""}, sort_keys=True)
        if text in seen:
            raise ConfigError(
                f"{seen[text].source} and {plan.source} are the same training into "
                f"{plan.config.run_dir}: drop one, or give it another seed."
            )
        seen[text] = plan
