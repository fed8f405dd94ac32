"""LoRA files that are merged, converted and extracted in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.browser_page import BrowserPage
from helpers.lora_files import dense, make, stack, write
from helpers.tiny_sd15 import _unet
from helpers.web_server import WebServer
from helpers.written_run import WrittenRun
from stiefel_lora.files import LoraFile, open_lora

KEY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture
def files(tmp_path: Path) -> list[LoraFile]:
    """Two LoRA files of a run."""
    run = WrittenRun(tmp_path / "runs" / "cats")
    run.start()
    lora = run.root / "lora"
    return [write(lora / f"{n}.safetensors", make(seed=n)) for n in (1, 2)]


@pytest.fixture
def checkpoints(tmp_path: Path) -> torch.Tensor:
    """Two checkpoints, and what is added to a layer."""
    folder = tmp_path / "models"
    folder.mkdir()
    state = _unet().state_dict()
    safetensors.torch.save_file(state, folder / "base.safetensors")
    change = torch.outer(torch.ones(state[KEY].shape[0]), state[KEY][0])
    tuned = {name: tensor.clone() for name, tensor in state.items()}
    tuned[KEY] += change
    safetensors.torch.save_file(tuned, folder / "tuned.safetensors")
    return change


@pytest.fixture
def server(
    tmp_path: Path, files: list[LoraFile], checkpoints: torch.Tensor
) -> Iterator[WebServer]:
    options = ("--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"))
    found = WebServer(tmp_path, *options)
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.mark.slow
def test_files_are_merged_with_weights_and_converted(
    server: WebServer,
    files: list[LoraFile],
    tmp_path: Path,
    new_browser: Callable[..., object],
) -> None:
    page = BrowserPage(new_browser(), server.url)
    page.open("lora-files")
    for name in ("1.safetensors", "2.safetensors"):
        page.choose(".sl-runs", f"cats: {name}")
        page.wait(lambda name=name: page.find("td", name))
    weight = page.wait(lambda: page.find("input[aria-label=Weight]"))
    page.wait(lambda: weight.get_attribute("value") == "1")
    page.retype(weight, "0.5")
    page.wait(lambda: page.find("td", "0.5"))
    page.press("Merge")
    page.wait(lambda: page.find("a.sl-file", "2-merged.safetensors"))
    lora = tmp_path / "runs" / "cats" / "lora"
    one, two = (stack(dense(file)) for file in files)
    found = stack(dense(open_lora(lora / "2-merged.safetensors")))
    assert float((found - one - 0.5 * two).norm()) < 1e-5 * float(found.norm())
    page.choose(".sl-unit .q-field__append, [aria-label='Key format']", "peft-folder")
    page.press("Convert")
    page.wait(lambda: page.find("a.sl-file", "adapter_config.json"))
    converted = open_lora(lora / "2-peft-folder")
    assert float((stack(dense(converted)) - two).norm()) < 1e-5
    page.click("a.sl-file", "adapter_model.safetensors")
    page.wait((tmp_path / "downloads" / "adapter_model.safetensors").is_file)
    assert not page.errors


@pytest.mark.slow
def test_a_lora_is_extracted_from_two_checkpoints(
    server: WebServer,
    checkpoints: torch.Tensor,
    tmp_path: Path,
    new_browser: Callable[..., object],
) -> None:
    page = BrowserPage(new_browser(), server.url)
    page.open("lora-files")
    rank = page.wait(lambda: page.find("input[aria-label=Rank]"))
    page.retype(rank, "1")
    page.press("Extract…")
    for label, name in (
        ("Checkpoint before the training", "base"),
        ("Checkpoint after it", "tuned"),
    ):
        box = f".q-dialog input[aria-label='{label}']"
        page.choose(box, f"models: {name}.safetensors")
    page.click(".q-dialog button", "Extract")
    name = "tuned-extracted-rank1.safetensors"
    page.click("a.sl-file", name)
    target = tmp_path / "downloads" / name
    page.wait(target.is_file)
    (layer,) = open_lora(target).layers
    factors = layer.factors
    update = factors.scale * factors.up.float() @ factors.down.float()
    assert float((update - checkpoints).norm()) < 1e-2 * float(checkpoints.norm())
    assert not page.errors
