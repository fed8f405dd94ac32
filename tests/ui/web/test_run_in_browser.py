"""A real training of the demo, started and watched in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from test_settings_in_browser import few_images

from helpers.browser_page import BrowserPage
from helpers.web_server import WebServer
from helpers.written_run import WrittenRun
from stiefel_lora.config.presets import find_config
from stiefel_lora.jobs import JobState, Queue, cancel_jobs
from stiefel_lora.ui.controllers.document import Document

# Loading the demo takes seconds, on a busy machine minutes.
TRAINING_SECONDS = 900.0
SMALL = {
    "steps": 40,
    "batch_size": 2,
    "rank_every": 2,
    "samples": [{"prompt": "cherry blossom", "steps": 2}],
    "sample_every": 20,
    "validate_every": 0,
    "validation_concepts": [],
    "checkpoint_every": 0,
    "device": "cpu",
}


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server with a demo run of seconds. Its trainings are ended afterward."""
    document = Document()
    document.load(find_config("demo_adamw"))
    for key, value in SMALL.items():
        document.set(key, value)
    images = few_images(tmp_path / "images", 6)
    document.set("concepts", [{"path": str(images)}])
    document.set("output_dir", str(tmp_path / "runs"))
    document.set("run_name", "icons")
    document.save(tmp_path / "small.json")
    found = WebServer(tmp_path, str(tmp_path / "small.json"))
    monkeypatch.setenv("STIEFEL_LORA_QUEUE", str(found.home / "queue"))
    try:
        yield found.start()
    finally:
        cancel_jobs(Queue(), now=True)
        found.stop()


def state() -> JobState:
    (job,) = Queue().jobs()
    return job.state


@pytest.mark.slow
def test_train_reload_stop_resume_and_download(
    training: WebServer, new_browser: Callable[..., object], tmp_path: Path
) -> None:
    page = BrowserPage(new_browser(), training.url)
    page.open("optimizer")
    page.choose("[data-key=optimizer]", "Stiefel LoRA")
    page.tab("LoRA")
    page.wait(lambda: not page.input("lora_alpha").is_enabled())
    page.press("Start training")
    page.wait(lambda: page.find(".sl-run-state", "icons"), TRAINING_SECONDS)
    page.wait(lambda: page.columns >= 2, TRAINING_SECONDS)
    page.browser.refresh()
    page.wait(lambda: page.columns >= 3, TRAINING_SECONDS)
    page.press("Stop")
    page.wait(lambda: page.find(".sl-run-state", "checkpoint saved"), TRAINING_SECONDS)
    assert state() is JobState.PAUSED
    seen = page.columns
    page.press("Resume")
    page.wait(lambda: page.find(".sl-run-state", "icons: done"), TRAINING_SECONDS)
    page.wait(lambda: page.columns > seen)
    assert page.find(".sl-run-state", "100 %")
    assert page.find(".sl-sample-table img")
    page.click(".q-tab", "Log")
    page.wait(lambda: "Run folder" in page.find(".sl-log").text)
    page.press("Download")
    page.click("a.sl-file", "icons.safetensors")
    target = tmp_path / "downloads" / "icons.safetensors"
    page.wait(target.is_file)
    written = tmp_path / "runs" / "icons" / "lora" / "icons.safetensors"
    tensors = load_file(target)
    assert tensors.keys() == load_file(written).keys()
    assert any("lora_up" in name for name in tensors)
    page.tab("LoRA files")
    page.wait(lambda: page.find(".sl-spectrum") and not page.find(".sl-run-state"))
    page.choose(".sl-runs", "icons.safetensors")
    page.wait(lambda: page.find("td", "icons.safetensors"))
    assert page.find("td", "sdxl")
    page.press("Resize")
    page.wait(lambda: page.find("a.sl-file", "icons-rank16.safetensors"))
    assert load_file(written.with_name("icons-rank16.safetensors")).keys()
    assert not page.errors


@pytest.mark.slow
def test_the_server_is_killed_and_the_run_is_found(
    training: WebServer, new_browser: Callable[..., object]
) -> None:
    page = BrowserPage(new_browser(), training.url)
    page.open()
    page.press("Start training")
    page.wait(lambda: page.columns >= 1, TRAINING_SECONDS)
    training.kill()
    training.arguments = ()
    training.start()
    # The page that was open connects again by itself.
    page.wait(lambda: page.columns >= 3, TRAINING_SECONDS)
    page.browser.quit()
    other = BrowserPage(new_browser(390, 844), training.url)
    other.open("run")
    other.wait(lambda: other.find(".sl-run-state", "icons"))
    other.wait(lambda: other.find(".sl-run-state", "icons: done"), TRAINING_SECONDS)
    assert state() is JobState.DONE


@pytest.mark.slow
def test_a_run_of_another_program_is_watched(
    tmp_path: Path, new_browser: Callable[..., object]
) -> None:
    run = WrittenRun(tmp_path / "runs" / "other", blocks=40)
    run.start()
    for step in range(1, 11):
        run.train(step, loss=1 / step)
        run.ranks(step)
    run.sample(10)
    server = WebServer(tmp_path, "--runs", str(tmp_path / "runs")).start()
    try:
        page = BrowserPage(new_browser(), server.url)
        page.open("run")
        page.wait(lambda: page.columns == 10)
        assert page.find(".sl-run-state", "other: running")
        page.wait(lambda: page.find(".sl-sample-table img"))
        for step in range(11, 16):
            run.ranks(step, share=1.0)
        run.sample(15)
        page.wait(lambda: page.columns == 15)
        page.wait(lambda: page.find(".sl-sample-table th", "step 15"))
        page.wait(lambda: page.find(".sl-comparison", "step 15"))
        hover(page)
        page.wait(lambda: page.find(".sl-hint", "step 15"))
        assert page.find(".sl-hint", "effective rank 16.0 of 16")
        page.press("Sample now")
        page.wait(lambda: list((run.root / "commands").iterdir()))
        page.tab("Queue")
        page.wait(lambda: page.find(".q-table__container", "No trainings yet."))
        assert not page.errors
    finally:
        server.stop()


def hover(page: BrowserPage) -> None:
    """Move the mouse over the last column and the first row of the heat map."""
    from selenium.webdriver import ActionChains

    canvas = page.find(".sl-run-map canvas")
    # The color bar has 74 pixels on the right, and the margin at the top has 8.
    right, up = canvas.size["width"] / 2 - 77, canvas.size["height"] / 2 - 10
    actions = ActionChains(page.browser)
    actions.move_to_element_with_offset(canvas, int(right), -int(up)).perform()
