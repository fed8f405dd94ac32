"""Creation of jobs from config files and sweeps."""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
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
from ..config.epochs import has_epochs, in_steps
from ..config.overrides import parse_override
from ..config.packages import check_packages
from ..config.presets import find_config
from ..config.process_count import check_process_count
from ..data.buckets import buckets_of
from ..data.epoch_length import images_per_epoch, steps_per_epoch
from ..data.folder import scan_concepts
from ..data.split import scan_all
from .naming import unique_names
from .sweep import combinations, ordered

__all__ = ["Plan", "make_plans"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Planned job with its settings and their source."""

    config: TrainConfig
    source: str
    changes: dict[str, Any]
    """Settings from sweeps, by dotted key."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON data."""
        return json.loads(dump_full(self.config))


def make_plans(
    configs: Sequence[str],
    overrides: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> list[Plan]:
    """Combine configs and sweeps into jobs with unique run names.

    Args:
        configs: config files, patterns such as ``jobs/*.json``, or names of presets.
        overrides: ``KEY=VALUE`` settings for all jobs.
        sweeps: ``KEY=V1,V2,...`` settings, see :func:`parse_sweep`.
        plugins: plugin files or modules for all jobs, in addition to those of the
            configurations.

    Raises:
        ConfigError: If a configuration is invalid, or two jobs are identical. The
            message has a line for each invalid configuration.
    """
    points = list(combinations(sweeps, overrides))
    scanned: dict[str, str] = {}
    lengths: dict[str, Fraction] = {}
    plans: list[Plan] = []
    problems: dict[str, None] = {}
    for source in _sources(configs):
        for point in points:
            try:
                settings = ordered(point, overrides)
                config = load_config(find_config(source), settings, plugins)
                plan = _plan(config, source, point, scanned)
                plans.append(_in_steps(plan, lengths))
            except InputError as error:
                problems[_title(source, str(error))] = None
    if problems:
        raise ConfigError(_report(list(problems), alone=not plans))
    return _named(plans)


def _sources(configs: Iterable[str]) -> list[str]:
    """Expand file name patterns, which some shells do not expand."""
    found: list[str] = []
    for config in configs:
        is_pattern = any(sign in config for sign in "*?[") and not Path(config).exists()
        matches = sorted(glob.glob(config, recursive=True)) if is_pattern else [config]
        if not matches:
            raise ConfigError(f"CONFIGS: no file matches {config}. Check the path.")
        found += matches
    doubles = [source for source in found if found.count(source) > 1]
    if doubles:
        raise ConfigError(f"CONFIGS: {doubles[0]} is given twice. Remove one of them.")
    return found


def _plan(
    config: TrainConfig, source: str, point: Sequence[str], scanned: dict[str, str]
) -> Plan:
    check_paths(config)
    check_complete(config)
    check_packages(config)
    # A job is one process.
    check_process_count(config, 1)
    _check_images(config, scanned)
    changes = {".".join(keys): value for keys, value in map(parse_override, point)}
    return Plan(config, source, changes)


def _in_steps(plan: Plan, lengths: dict[str, Fraction]) -> Plan:
    """Convert epochs to steps. The images of an epoch are counted once for all jobs."""
    config = plan.config
    if not has_epochs(config):
        return plan
    concepts = [concept.model_dump_json() for concept in config.concepts]
    split = [config.validation_split, config.validation_seed]
    others = [concept.model_dump_json() for concept in config.validation_concepts]
    key = json.dumps([concepts, others, split, str(buckets_of(config))])
    if key not in lengths:
        train, _ = scan_all(config)
        lengths[key] = images_per_epoch(config, train.images)
    resolved, _ = in_steps(config, steps_per_epoch(config, lengths[key]))
    return dataclasses.replace(plan, config=resolved)


def _check_images(config: TrainConfig, scanned: dict[str, str]) -> None:
    """Check every image folder once."""
    found: dict[str, None] = {}
    for concept in (*config.concepts, *config.validation_concepts):
        # The key holds all fields, as include_subdirectories also counts.
        key = concept.model_dump_json()
        if key not in scanned:
            scanned[key] = _complaint(partial(scan_concepts, [concept]))
        found[scanned[key]] = None
    found.pop("", None)
    if config.validation_split and not found:
        concepts = [concept.model_dump_json() for concept in config.concepts]
        key = json.dumps([config.validation_split, concepts])
        if key not in scanned:
            scanned[key] = _complaint(partial(scan_all, config))
        if scanned[key]:
            found[scanned[key]] = None
    if found:
        raise ConfigError("\n".join(found))


def _complaint(scan: Callable[[], object]) -> str:
    try:
        scan()
    except InputError as error:
        return str(error)
    return ""


def _title(source: str, message: str) -> str:
    return message if source in message else f"{source}: {message}"


def _report(problems: Sequence[str], *, alone: bool) -> str:
    if alone and len(problems) == 1:
        return problems[0]
    lines = "\n".join(f"  {line}" for text in problems for line in text.splitlines())
    return f"No job was started. Fix these errors:\n{lines}"


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
                f"{seen[text].source} and {plan.source} are the same training in "
                f"{plan.config.run_dir}. Remove one of them, or change its seed."
            )
        seen[text] = plan
