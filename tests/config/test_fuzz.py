"""3,000 damaged configurations: our own errors come out, whatever goes in.

Each is written to a file and read by the Python functions and by the command line. What
is damaged follows from the number of the configuration alone, so a failure can be run
again by its number.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.runs import make_images
from stiefel_lora import StiefelLoraError
from stiefel_lora._commands import app
from stiefel_lora.config import (
    Concept,
    Sample,
    TrainConfig,
    check_complete,
    check_paths,
    dump_full,
    dump_lean,
    load_config,
    parse_config,
    remarks,
)
from stiefel_lora.config.foreign import FOREIGN_NAMES, WITHOUT_COUNTERPART
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS
from stiefel_lora.config.presets import find_config
from stiefel_lora.data.split import scan_all

OPTIONS = [name for model in OPTIMIZER_MODELS.values() for name in model.model_fields]
KEYS = [
    *TrainConfig.model_fields,
    *Concept.model_fields,
    *Sample.model_fields,
    *OPTIONS,
    *FOREIGN_NAMES,
    *WITHOUT_COUNTERPART,
    "class",
    "extends",
    "$schema",
]
TOP = [*TrainConfig.model_fields, "extends", "$schema"]
LONG = "n" * 300
DEEP = 900
PIECES, PIECE = 6, 500


def nested(chance: random.Random, depth: int = DEEP) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def junk(chance: random.Random, depth: int = 0) -> Any:
    """A value of any type, with what programs trip over more often than chance."""
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.choice([True, False]),
        lambda: chance.choice([0, -1, 1, 2**31, 2**63, -(2**64), 10**400]),
        lambda: chance.choice([0.0, -0.0, 1e-320, 1e308, float("nan"), float("inf")]),
        lambda: chance.choice(["", " ", ".", "..", "~", "~nobody/x", "a/b", "a.b"]),
        lambda: chance.choice(["\0", "a\0b", "\ud800", "\u202e", "\n", "é" * 200]),
        lambda: chance.choice([LONG, f"x/{LONG}", f"{LONG}.safetensors", "a/" * 3000]),
        lambda: chance.choice(
            ["auto", "stiefel_lora", "custom", "adamw", "1e5", "nan"]
        ),
        lambda: chance.choice(["pictures", "pictures/00.png", "config.json", "gone"]),
        lambda: chance.choice(KEYS),
        lambda: nested(chance),
        list,
        dict,
    ]
    if depth < 3:
        kinds += [
            lambda: [junk(chance, depth + 1) for _ in range(chance.randint(1, 3))],
            lambda: {
                chance.choice(KEYS): junk(chance, depth + 1)
                for _ in range(chance.randint(1, 3))
            },
        ] * 2
    return chance.choice(kinds)()


def sound(chance: random.Random) -> dict[str, Any]:
    """A configuration that is in order, with some of its sections."""
    whole = {
        "run_name": "fuzz",
        "steps": 10,
        "lora_rank": 8,
        "concepts": [{"path": "pictures", "repeats": 2}],
        "validation_concepts": ["pictures"],
        "samples": [{"prompt": "a cat", "steps": 2}],
        "sample_every": 5,
        "optimizer": {"name": chance.choice(list(OPTIMIZER_MODELS))},
        "rank_pattern": {"to_q": 4},
        "layer_filter": ["attn"],
        "output_formats": ["kohya"],
        "base_model_name": chance.choice(["junk.safetensors", "pictures", "org/name"]),
    }
    return {key: value for key, value in whole.items() if chance.random() < 0.7}


PATHS = [
    "gone",
    "pictures",
    "pictures/00.png",
    "pictures/00.txt",
    "config.json",
    "junk.safetensors",
    "odd",
    "loop",
    "org/name",
    "a/b/c",
    "",
    "~",
    "~nobody/x",
    "\0",
    "pictures/\0",
    "\ud800",
    LONG,
    f"./{LONG}/x",
    "é" * 130,
    "d/" * 3000,
    "/" + "d" * 250,
    "..",
    "con",
]
PATH_KEYS = [
    "extends",
    "output_dir",
    "cache_dir",
    "run_name",
    "base_model_name",
    "unet_model_name",
    "transformer_model_name",
    "vae_model_name",
    "text_encoder_model_name",
    "text_encoder_2_model_name",
    "tokenizer_2_model_name",
    "concepts",
    "validation_concepts",
]


def misplaced(chance: random.Random) -> dict[str, Any]:
    """A sound configuration with one path that leads elsewhere."""
    data = sound(chance)
    path = chance.choice(PATHS)
    where = chance.randrange(3)
    if where == 0:
        data["concepts"] = [{"path": path, "include_subdirectories": True}]
    elif where == 1:
        source = {"prompt_source": "concept", "prompt_path": path}
        data["concepts"] = [{"path": "pictures", **source}]
    else:
        data[chance.choice(PATH_KEYS)] = path
    return data


def damaged(chance: random.Random) -> dict[str, Any]:
    """Some values of a sound configuration replaced, at any depth."""
    data = sound(chance)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        place: Any = data
        while isinstance(place, dict | list) and place and chance.random() < 0.5:
            inside = chance.choice(list(place) if isinstance(place, dict) else place)
            inside = place[inside] if isinstance(place, dict) else inside
            if not isinstance(inside, dict | list):
                break
            place = inside
        if isinstance(place, list):
            place.append(junk(chance))
        else:
            place[chance.choice(TOP if place is data else KEYS)] = junk(chance)
    return data


def text_of(chance: random.Random) -> bytes:
    """The bytes of a file: JSON of a damaged configuration, or damaged JSON."""
    data = misplaced(chance) if chance.random() < 0.3 else damaged(chance)
    text = json.dumps(data, ensure_ascii=chance.random() < 0.5)
    whole = text.encode("utf-8", "surrogatepass")
    kind = chance.random()
    if kind < 0.8:
        return whole
    if kind < 0.84:
        return whole[: chance.randrange(len(whole) + 1)]
    if kind < 0.88:
        place = chance.randrange(len(whole) or 1)
        return whole[:place] + chance.randbytes(3) + whole[place:]
    if kind < 0.92:
        return text.encode(chance.choice(["utf-16", "utf-32", "utf-16-le"]), "replace")
    digits = b"1" * chance.choice([310, 4299, 4301, 9000])
    deep = b"[" * chance.choice([DEEP, 100_000])
    key = json.dumps(chance.choice(TOP)).encode()
    return chance.choice(
        [
            b"{" + key + b": " + digits + b"}",
            b"{" + key + b": -" + digits + b".5}",
            b"{" + key + b": " + deep + b"]" * len(deep) + b"}",
            b"{" + key + b": 1, " + key + b": 2}",
            deep,
            b"\xef\xbb\xbf" + whole + b"\0",
            b"",
            b"null",
        ]
    )


def overrides_of(chance: random.Random) -> list[str]:
    def one() -> str:
        parts = [chance.choice([*KEYS, "0", "1", "-1", "", LONG]) for _ in range(2)]
        value = chance.choice(
            [str(junk(chance, 3)), "1" * 5000, "[" * DEEP, "{}", "null", "pictures"]
        )
        return f"{'.'.join(parts[: chance.randint(1, 2)])}={value}"

    return [one() for _ in range(chance.choice([0, 0, 0, 0, 0, 1, 2]))]


def by_functions(path: Path, overrides: list[str]) -> str:
    """Read a file with all Python functions; return the error messages."""
    try:
        config = load_config(find_config(str(path)), overrides)
        remarks(config)
        assert parse_config(json.loads(dump_full(config))) == config
        dump_lean(config)
        check_paths(config)
        scan_all(config)
        check_complete(config)
    except StiefelLoraError as error:
        return str(error) or "an error without a message"
    return ""


def by_command_line(verb: str, path: Path, overrides: list[str]) -> None:
    sets = [f"--set={text}" for text in overrides if "\0" not in text]
    done = CliRunner().invoke(app, [verb, str(path), *sets])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1, 2)
    assert "Traceback" not in done.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home" / "runs"
    make_images(place / "pictures", count=2)
    (place / "junk.safetensors").write_bytes(b"\xff" * 100)
    odd = make_images(place / "odd", count=1) / "a.png"
    odd.mkdir()
    (odd / "metadata.jsonl").write_bytes(b"[" * 5000)
    (place / "odd" / "00.txt").write_bytes(b"\xff\xfe\0")
    (place / "loop").symlink_to(place / "loop")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place.parent))
    monkeypatch.setenv("USERPROFILE", str(place.parent))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return place


def check(number: int, path: Path) -> None:
    chance = random.Random(f"configuration {number}")
    path.write_bytes(text_of(chance))
    overrides = overrides_of(chance)
    try:
        wrong = by_functions(path, overrides)
        if number % 2:
            # What is in order would be trained.
            verbs = ["scan", "validate", *(["train"] if wrong else [])]
            by_command_line(chance.choice(verbs), path, overrides)
    except Exception as error:
        shown = [text[:80] for text in overrides], path.read_bytes()[:500]
        raise AssertionError(f"configuration {number}: {shown}") from error
    assert "invalid value" not in wrong, number
    assert "without a message" not in wrong, number


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(PIECES))
def test_only_our_own_errors_come_out(folder: Path, piece: int) -> None:
    for number in range(piece * PIECE, (piece + 1) * PIECE):
        check(number, folder / "config.json")


STRANGE = [object(), {1, 2}, len, b"\xff", 1j, range(3), Path("\0"), {1: 2}, (1,)]


@pytest.mark.slow
def test_python_values_that_no_file_can_hold(folder: Path) -> None:
    """Dictionaries given to ``parse_config``: objects, sets, functions, bytes."""
    for number in range(300):
        chance = random.Random(f"dictionary {number}")
        data = damaged(chance)
        data[chance.choice(TOP)] = chance.choice(STRANGE)
        try:
            remarks(parse_config(data))
        except StiefelLoraError:
            continue
        except Exception as error:
            raise AssertionError(f"dictionary {number}: {str(data)[:500]}") from error
