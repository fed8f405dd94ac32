"""Damaged model folders, shards, tables and settings: only the package's own errors."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from families.single_file_cases import Twins, twins
from stiefel_lora import ModelError
from stiefel_lora.config import parse_config
from stiefel_lora.families import check_model, open_family

__all__ = ["twins"]

Damage = Callable[[Path, random.Random], None]
JUNK = (
    None,
    True,
    "",
    "x\0",
    [],
    {},
    [[]],
    -1,
    0,
    3,
    1.5,
    10**9,
    10**400,
    "UNet2DModel",
    [1, 2],
    {"a": 1},
    float("nan"),
)


# Any file --------------------------------------------------------------------------


def cut(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def add(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 50)))


def flip(path: Path, chance: random.Random) -> None:
    """Change bytes, most of them in the beginning, where the table is."""
    data = bytearray(path.read_bytes())
    reach = len(data) if chance.random() < 0.3 else min(len(data), 2000)
    for _ in range(chance.choice((1, 1, 5, 100))):
        data[chance.randrange(reach)] = chance.randrange(256)
    path.write_bytes(data)


def blank(path: Path, chance: random.Random) -> None:
    """Zeros from a place on, as after a download that ran out of disk."""
    data = path.read_bytes()
    place = chance.choice((0, 8, chance.randrange(len(data))))
    path.write_bytes(data[:place] + b"\0" * (len(data) - place))


def empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def other(path: Path, chance: random.Random) -> None:
    """Put another file of the model in the place of this one."""
    files = [file for file in path.parents[1].rglob("*") if file.is_file()]
    shutil.copy(chance.choice(sorted(set(files) - {path})), path)


def folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def gone(path: Path, chance: random.Random) -> None:
    path.unlink()


def renamed(path: Path, chance: random.Random) -> None:
    name = chance.choice((f"{path.stem}.fp16{path.suffix}", f"x{path.name}"))
    path.rename(path.with_name(name))


# Tables ----------------------------------------------------------------------------


def table(path: Path, chance: random.Random) -> None:
    """Change an entry of the table of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    name = chance.choice(sorted(entries))
    kind = chance.randrange(6)
    if kind == 0:
        del entries[name]
    elif kind == 1:
        entries[chance.choice(("x", name + ".y", ""))] = entries.pop(name)
    elif kind == 2:
        entries[name] = chance.choice(JUNK)
    else:
        key = chance.choice(("dtype", "shape", "data_offsets"))
        value = chance.choice((*JUNK, [2**63, 0], [-1, 4], "F8_E4M3", "Q4", [0, 2**64]))
        entries[name] = {**entries[name], key: value}
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def tensors(path: Path, chance: random.Random) -> None:
    """Write a sound file with other tensors."""
    found = load_file(path)
    for name in chance.sample(sorted(found), min(len(found), chance.choice((1, 3)))):
        kind = chance.randrange(4)
        tensor = found.pop(name)
        if kind == 1:
            found[name] = tensor.flatten()[: chance.randrange(tensor.numel())].clone()
        elif kind == 2:
            found[name] = torch.zeros(())
        elif kind == 3:
            found[name] = tensor[None].to(chance.choice((torch.int8, torch.bool)))
    save_file(found, path)


# Settings ----------------------------------------------------------------------------


def value(path: Path, chance: random.Random) -> None:
    """Change a value of a JSON file, or take its key away."""
    data: Any = json.loads(path.read_text(encoding="utf-8"))
    inner, key = data, chance.choice(sorted(data))
    while isinstance(inner[key], dict) and inner[key] and chance.random() < 0.8:
        inner = inner[key]
        key = chance.choice(sorted(inner))
    if chance.random() < 0.2:
        del inner[key]
    else:
        inner[key] = chance.choice(JUNK)
    path.write_text(json.dumps(data), encoding="utf-8")


def whole(path: Path, chance: random.Random) -> None:
    junk = chance.choice(("null", "[]", "{}", "3", '"x"', "[" * 90_000, "1" * 9000))
    path.write_text(junk)


ANY: tuple[Damage, ...] = (cut, add, flip, blank, empty, other, folder, gone, renamed)


def damage(path: Path, chance: random.Random) -> None:
    kinds = ANY
    if path.suffix == ".safetensors":
        kinds = (*ANY, table, table, table, tensors, tensors)
    elif path.suffix == ".json":
        kinds = (*ANY, value, value, value, value, value, whole)
    chance.choice(kinds)(path, chance)


# -------------------------------------------------------------------------------------


def use(model: Path, family: str, chance: random.Random) -> None:
    """Examine, open, and load everything that training loads."""
    config = parse_config(
        {
            "base_model_name": str(model),
            "model_type": family,
            "weight_dtype": "float32",
            "allow_pickled_weights": chance.random() < 0.5,
        }
    )
    source = check_model(config)
    opened = open_family(config, torch.device("cpu"), source)
    opened.skeleton()
    opened.encode_caption("a cat")
    assert opened.denoiser is not None


def shards(path: Path) -> None:
    """Two shards and their index in the place of a file."""
    found = load_file(path)
    where: dict[str, str] = {}
    for number in (1, 2):
        name = f"{path.stem}-0000{number}-of-00002.safetensors"
        own = sorted(found)[number - 1 :: 2]
        save_file({n: found[n] for n in own}, path.with_name(name))
        where |= dict.fromkeys(own, name)
    path.unlink()
    index = path.with_name(f"{path.name}.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sdxl", "sd15", "flux"])
@pytest.mark.parametrize("start", range(0, 80, 20))
def test_folders(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, start: int
) -> None:
    sound: Path = request.getfixturevalue(f"tiny_{family}")
    refused = 0
    for seed in range(start, start + 20):
        chance = random.Random(f"{family}/{seed}")
        model = tmp_path / str(seed)
        shutil.copytree(sound, model)
        if chance.random() < 0.4:
            shards(chance.choice(sorted(model.glob("*/*.safetensors"))))
        files = sorted(path for path in model.rglob("*") if path.is_file())
        for path in chance.sample(files, chance.choice((1, 1, 2))):
            if path.is_file():
                damage(path, chance)
        refused += outcome(model, family, chance, f"{family}/{seed}")
        shutil.rmtree(model)
    assert refused > 5


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 60, 30))
def test_single_files(twins: Twins, tmp_path: Path, start: int) -> None:
    refused = 0
    for seed in range(start, start + 30):
        chance = random.Random(f"file/{seed}")
        model = tmp_path / f"{seed}.safetensors"
        shutil.copy(twins.file, model)
        chance.choice((cut, add, flip, blank, empty, table, table, tensors))(
            model, chance
        )
        refused += outcome(model, "sdxl", chance, f"file/{seed}")
        model.unlink()
    assert refused > 20


def outcome(model: Path, family: str, chance: random.Random, seed: str) -> bool:
    """Return whether the model was rejected; other exceptions fail with the seed."""
    message = None
    try:
        use(model, family, chance)
    except ModelError as error:
        message = str(error)
    except Exception as error:
        pytest.fail(f"{seed}: {type(error).__name__}: {error}")
    assert message is None or (len(message) < 2000 and "\n" not in message), seed
    return message is not None
