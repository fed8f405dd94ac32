"""Import of jobs of ai-toolkit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError
from ..foreign import reasons as why
from .ai_toolkit_data import DATASET, DATASET_DEFAULTS
from .ai_toolkit_rules import DEFAULTS, PROCESS, option_rules
from .import_report import Entry
from .key_rules import Scope
from .key_walk import leaves, walk
from .lean_result import Imported, finished, nested
from .list_items import objects_in
from .shared_settings import join_shared, marked
from .unsupported import no_such_family

__all__ = ["from_ai_toolkit", "is_ai_toolkit"]

_FAMILIES = {"flux": "flux", "sd1": "sd15", "sdxl": "sdxl"}
_OTHERS = {
    "chroma": "Chroma",
    "flex1": "Flex.1",
    "flex2": "Flex.2",
    "flux_kontext": "FLUX.1 Kontext",
    "hidream": "HiDream",
    "lumina2": "Lumina 2",
    "omnigen2": "OmniGen 2",
    "qwen_image": "Qwen-Image",
    "qwen_image_edit": "Qwen-Image-Edit",
    "qwen_image_edit_plus": "Qwen-Image-Edit",
    "sd2": "Stable Diffusion 2",
    "sd3": "Stable Diffusion 3",
    "wan21": "Wan 2.1",
    "wan22_14b": "Wan 2.2",
    "wan22_5b": "Wan 2.2",
    "zimage": "Z-Image",
}
_FLAGS = {
    "is_auraflow": "AuraFlow",
    "is_lumina2": "Lumina 2",
    "is_pixart": "PixArt",
    "is_pixart_sigma": "PixArt Sigma",
    "is_ssd": "SSD-1B",
    "is_v2": "Stable Diffusion 2",
    "is_v3": "Stable Diffusion 3",
    "is_vega": "Segmind Vega",
}
_JOBS = ("extension", "train")


def is_ai_toolkit(data: Mapping[str, Any]) -> bool:
    """Return whether a YAML or JSON file is a job of ai-toolkit."""
    config = data.get("config")
    return isinstance(config, Mapping) and isinstance(config.get("process"), list)


def from_ai_toolkit(
    data: Mapping[str, Any], *, path: Path, family: str | None = None
) -> Imported:
    """Import a job.

    Args:
        data: keys and values.
        path: path of the file, for messages.
        family: family of the base model, if the user has chosen it.

    Raises:
        ConfigError: If it does not train, or the family is not supported.
    """
    config = data["config"]
    process = config["process"][0] if config["process"] else None
    if data.get("job", "train") not in _JOBS or not isinstance(process, Mapping):
        raise ConfigError(f"{path} is no training job of ai-toolkit.")
    process = _with_name(process, config.get("name"))
    found = family or _family(process.get("model"))
    source = {key: value for key, value in process.items() if key != "datasets"}
    place = "config.process.0."
    whole = Scope(process, {}, found)
    scope = Scope(source, DEFAULTS, found, whole)
    if scope.has("network.rank") or scope.has("network.alpha"):
        scope = Scope(source, _with_short_names(scope), found, whole)
    rules = {**PROCESS, **option_rules(scope)}
    if scope.get("train.optimizer_params"):
        del rules["train.optimizer_params"]
    entries, flat = walk(scope, rules, prefix=place)
    if scope.get("train.disable_sampling"):
        flat["sample_every"] = 0
    concepts = []
    datasets = process.get("datasets")
    items = objects_in(datasets, f"{place}datasets", entries)
    for index, (number, item) in enumerate(items):
        entry, concept = _concept(item, number, index, found)
        entries += entry
        concepts.append(concept)
    result, unequal = _completed(nested(flat), concepts)
    entries = marked(entries, result, unequal)
    result["run_name"] = str(config.get("name") or "run")
    entries = [*_outside(data), *_without_network(process, place), *entries]
    return finished({"model_type": found, **result}, entries, "ai-toolkit", [])


def _with_name(process: Mapping[str, Any], name: Any) -> dict[str, Any]:
    """Replace [name] in prompts, as ai-toolkit does."""
    found = dict(process)
    sample = found.get("sample")
    if isinstance(sample, Mapping) and isinstance(sample.get("prompts"), list):
        prompts = [str(text).replace("[name]", str(name)) for text in sample["prompts"]]
        found["sample"] = {**sample, "prompts": prompts}
    return found


def _with_short_names(scope: Scope) -> dict[str, Any]:
    """Return the defaults if the short names rank and alpha are used."""
    defaults = dict(scope.defaults)
    rank, alpha = scope.get("network.rank"), scope.get("network.alpha")
    if rank is not None:
        defaults["network.linear"] = rank
    if alpha is not None:
        defaults["network.linear_alpha"] = alpha
    return defaults


def _family(model: Any) -> str:
    given = model if isinstance(model, Mapping) else {}
    for flag, label in _FLAGS.items():
        if given.get(flag) is True:
            raise no_such_family(label, "ai-toolkit")
    arch = str(given.get("arch") or "").partition(":")[0]
    if arch and arch not in _FAMILIES:
        raise no_such_family(_OTHERS.get(arch, arch), "ai-toolkit")
    if arch:
        return _FAMILIES[arch]
    if given.get("is_flux") is True:
        return "flux"
    return "sdxl" if given.get("is_xl") is True else "sd15"


def _concept(
    item: dict[str, Any], number: int, index: int, family: str
) -> tuple[list[Entry], dict[str, Any]]:
    place = f"config.process.0.datasets.{number}."
    scope = Scope(item, DATASET_DEFAULTS, family)
    entries, data = walk(scope, DATASET, prefix=place, target=f"concepts.{index}.")
    return [_named(entry) for entry in entries], data


def _named(entry: Entry) -> Entry:
    sets = tuple((key.split("._", 1)[-1], value) for key, value in entry.sets)
    return dataclasses.replace(entry, sets=sets)


def _completed(
    result: dict[str, Any], concepts: list[dict[str, Any]]
) -> tuple[dict[str, Any], set[str]]:
    """Move settings of datasets that apply to all of them here.

    Returns:
        The settings, and the keys of those that differ between datasets.
    """
    for concept in concepts:
        # In ai-toolkit, a dataset is used once for each of its resolutions.
        if count := len(concept.get("resolutions", ())):
            concept["repeats"] = concept.get("repeats", 1) * count
    sides = [concept.pop("_resolution", 0) for concept in concepts]
    found, unequal = join_shared(concepts, result.get("trigger_word"))
    if any(sides):
        found["resolution"] = max(sides)
    for concept, side in zip(concepts, sides, strict=True):
        if side and side != found["resolution"]:
            concept.setdefault("resolutions", [side])
    found.setdefault("latent_caching", False)
    if found.get("alpha_mask"):
        found |= {"masked_training": True, "unmasked_probability": 0.0}
        found.setdefault("unmasked_weight", 0.0)
    formats = {"concepts": concepts, "output_formats": ["peft"]}
    return {**result, **found, **formats}, unequal


def _without_network(process: Mapping[str, Any], place: str) -> list[Entry]:
    """Return the entry of a job that trains the whole model, as it has no network."""
    if process.get("network") is not None:
        return []
    note = (
        "is not set, so the whole model is trained there. A LoRA is trained instead, "
        f"because {why.ADAPTERS}. The learning rate of a full fine-tune is too low for "
        "a LoRA"
    )
    return [Entry(f"{place}network", None, "ignored", note=note, matters=True)]


def _outside(data: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of keys outside the process."""
    entries = []
    for key, value in leaves({k: v for k, v in data.items() if k != "config"}, {}):
        note = "the kind of job" if key == "job" else why.METADATA
        entries.append(Entry(key, value, "ignored", note=note))
    config = {k: v for k, v in data["config"].items() if k != "process"}
    for key, value in config.items():
        if key == "name":
            name = (("run_name", str(value)),)
            entries.append(Entry("config.name", value, "taken", name))
        else:
            note = "unknown key"
            entries.append(
                Entry(f"config.{key}", value, "ignored", note=note, matters=True)
            )
    for number, value in enumerate(data["config"]["process"][1:], 1):
        note = "only the first process is imported"
        key = f"config.process.{number}"
        entries.append(Entry(key, value, "ignored", note=note, matters=True))
    return entries
