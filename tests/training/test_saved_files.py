"""LoRA files that are saved during a run, in several data types, with hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.file_hashes import hashes_of_sd_scripts
from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora.config import parse_config
from stiefel_lora.files import inspect_lora, open_lora
from stiefel_lora.files.tools.inspection import OTHER_HASH
from stiefel_lora.files.tools.inspection_facts import facts_of
from stiefel_lora.memory.disk import _saved_at_interval
from stiefel_lora.runs.run_folder import RunFolder
from stiefel_lora.training import read_events
from stiefel_lora.training.kept_files import KeptFiles
from stiefel_lora.training.logging.sinks import SinkGroup
from stiefel_lora.training.trainer import train


def names(run_dir: Path) -> list[str]:
    return sorted(path.stem for path in (run_dir / "lora").iterdir())


@pytest.mark.slow
def test_files_are_saved_at_the_interval_and_the_oldest_removed(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    chosen: dict[str, Any] = {"steps": 8, "output_formats": ["kohya"]}
    plain = train(tiny_config(tiny_sdxl, tmp_path, run_name="plain", **chosen))
    chosen |= {"save_every": 2, "keep_saved": 2, "run_name": "kept"}
    config = tiny_config(tiny_sdxl, tmp_path, **chosen)
    with stop_after(5, "stop"):
        stopped = train(config)
    assert names(stopped.run_dir) == ["kept-step-2", "kept-step-4"]
    resumed = train(config, resume=stopped.run_dir)
    # The last step has the finished file; what was saved before the resume counts.
    assert names(resumed.run_dir) == ["kept", "kept-step-4", "kept-step-6"]
    assert_same_factors(plain, resumed)
    events = [*read_events(resumed.run_dir / "events.jsonl")]
    removed = [e["values"]["files"] for e in events if e["type"] == "lora_removed"]
    assert removed == [["kept-step-2.safetensors"]]


def test_files_of_earlier_settings_are_named_after_a_resume(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"output_formats": ["kohya", "peft"], "output_dtype": "float32"}
    chosen |= {"extra_output_dtypes": ["bfloat16"], "run_name": "keep"}
    first = train(tiny_config(tiny_sdxl, tmp_path, steps=1, **chosen))
    assert "of an earlier step" not in capsys.readouterr().err
    chosen |= {"output_formats": ["kohya"], "extra_output_dtypes": ["float16"]}
    config = tiny_config(tiny_sdxl, tmp_path, steps=2, **chosen)
    # A file of another name is not of this kind.
    (first.run_dir / "lora" / "keep_mine.safetensors").touch()
    train(config, resume=first.run_dir)
    shown = " ".join(capsys.readouterr().err.split())
    old = "keep_bfloat16", "keep_peft", "keep_peft_bfloat16"
    assert ", ".join(f"{name}.safetensors" for name in old) + " in " in shown
    assert shown.count("of an earlier step") == 1
    assert "keep_mine" not in shown


def test_saved_files_are_those_of_a_run_that_ends_there(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    chosen = {"output_formats": ["kohya"], "ema": "cpu", "ema_update_step_interval": 1}
    short = train(tiny_config(tiny_sdxl, tmp_path, steps=2, **chosen))
    config = tiny_config(
        tiny_sdxl, tmp_path, steps=4, run_name="long", save_every=2, **chosen
    )
    long = train(config)
    saved = load_file(long.run_dir / "lora" / "long-step-2.safetensors")
    ended = load_file(short.lora_files[0])
    assert saved.keys() == ended.keys()
    assert all(torch.equal(saved[key], ended[key]) for key in saved)


def test_files_saved_on_request_are_never_removed(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        output_formats=["kohya"],
        save_every=1,
        keep_saved=1,
        steps=5,
    )
    with stop_after(2, "save"):
        result = train(config)
    assert names(result.run_dir) == ["tiny", "tiny-step-2", "tiny-step-4"]


def test_each_data_type_is_a_file(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        steps=1,
        output_dtype="float16",
        extra_output_dtypes=["float32", "bfloat16"],
    )
    result = train(config)
    assert [path.name for path in result.lora_files] == [
        "tiny.safetensors",
        "tiny_float32.safetensors",
        "tiny_bfloat16.safetensors",
        "tiny_peft.safetensors",
        "tiny_peft_float32.safetensors",
        "tiny_peft_bfloat16.safetensors",
    ]
    exact = load_file(result.lora_files[1])
    for path, dtype in (
        (result.lora_files[0], torch.float16),
        (result.lora_files[2], torch.bfloat16),
    ):
        found = load_file(path)
        assert found.keys() == exact.keys()
        for key, value in found.items():
            if key.endswith(".weight"):
                assert value.dtype == dtype
                assert torch.equal(value, exact[key].to(dtype))


def test_both_formats_have_them_and_inspect_shows_them(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    result = train(tiny_config(tiny_sdxl, tmp_path, steps=1))
    for path in result.lora_files:
        with safe_open(path, "pt") as file:
            notes = file.metadata()
        model, legacy = hashes_of_sd_scripts(path)
        assert notes["sshs_model_hash"] == model
        assert notes["sshs_legacy_hash"] == legacy
        report = inspect_lora(open_lora(path))
        assert OTHER_HASH not in report.remarks
        shown = facts_of(report)
        whole = hashlib.sha256(path.read_bytes()).hexdigest()
        assert shown["AutoV2, AutoV3"] == f"{whole[:10]}, {model[:12]}"
        assert shown["sshs_legacy_hash"] == legacy
        assert (
            json.loads(json.dumps(report.to_json()))["hashes"]["autov3"] == model[:12]
        )
    # Weights that another program changed, without the entry of the metadata.
    tensors = load_file(path)
    changed = {key: 2 * tensor for key, tensor in tensors.items()}
    save_file(changed, path, notes)
    assert OTHER_HASH in inspect_lora(open_lora(path)).remarks


class Sink:
    def __init__(self) -> None:
        self.removed: list[str] = []

    def event(self, kind: str, step: int, values: dict[str, Any]) -> None:
        self.removed += values["files"]


def test_the_newest_are_kept_whatever_the_order_of_their_names(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.lora.mkdir(parents=True)
    sink = Sink()
    kept = KeptFiles(folder, SinkGroup([sink]), 2)  # type: ignore[list-item]
    for step in (8, 9, 10, 11):
        paths = [folder.lora / f"a-step-{step}{end}" for end in ("", "_peft")]
        for path in paths:
            path.touch()
        kept.add(step, paths)
    assert sorted(path.name for path in folder.lora.iterdir()) == [
        "a-step-10",
        "a-step-10_peft",
        "a-step-11",
        "a-step-11_peft",
    ]
    assert sink.removed == ["a-step-8", "a-step-8_peft", "a-step-9", "a-step-9_peft"]


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, 0),
        ({"save_every": 100}, 9),
        ({"save_every": 100, "keep_saved": 2}, 3),
        ({"save_every": 400, "keep_saved": 5}, 2),
        ({"save_every": "10 minutes", "keep_saved": 5}, 5),
    ],
)
def test_the_disk_space_includes_them(settings: dict[str, Any], files: int) -> None:
    assert _saved_at_interval(parse_config({"steps": 1000, **settings})) == files
