"""Settings, images and captions in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.browser_page import BrowserPage
from helpers.web_server import WebServer
from stiefel_lora.config.presets import find_config
from stiefel_lora.ui.controllers.document import Document
from stiefel_lora.ui.controllers.pages import TABS, sections


def keys_of(page: BrowserPage) -> set[str]:
    """Return the settings that have a field."""
    found = "return [...document.querySelectorAll('[data-key]')]"
    found += ".map(element => element.dataset.key)"
    return set(page.browser.execute_script(found))


def few_images(folder: Path, count: int = 3) -> Path:
    """Copy images of the demo, with captions."""
    demo = Document()
    demo.load(find_config("demo_adamw"))
    source = Path(demo.value("concepts")[0]["path"])
    folder.mkdir(parents=True)
    for path in sorted(source.glob("*.png"))[:count]:
        shutil.copy(path, folder)
        (folder / f"{path.stem}.txt").write_text("an icon, red", encoding="utf-8")
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Iterator[WebServer]:
    """A server with the demo and three images."""
    images = few_images(tmp_path / "images")
    document = Document()
    document.load(find_config("demo_adamw"))
    document.set("concepts", [{"path": str(images)}])
    document.set("validation_concepts", [])
    document.set("output_dir", str(tmp_path / "runs"))
    document.save(tmp_path / "few.json")
    found = WebServer(tmp_path, str(tmp_path / "few.json"))
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture
def page(served: WebServer, new_browser: Callable[..., object]) -> BrowserPage:
    found = BrowserPage(new_browser(), served.url)
    found.open()
    return found


def test_a_preset_is_found_by_search_and_alpha_is_locked(page: BrowserPage) -> None:
    page.click(".sl-preset")
    search = page.wait(lambda: page.find(".q-dialog input"))
    search.send_keys("demo stiefel")
    page.wait(lambda: not page.find(".q-dialog .q-item", "demo_adamw"))
    page.click(".q-dialog .q-item", "demo_stiefel_lora")
    page.wait(lambda: page.find(".sl-preset", "Preset: demo_stiefel_lora"))
    page.tab("Optimizer")
    assert page.wait(lambda: page.find("section", "Keeps B orthonormal"))
    page.choose("[data-key=optimizer]", "AdamW")
    page.wait(lambda: page.find(".sl-preset", "(changed)"))
    page.choose("[data-key=optimizer]", "Stiefel LoRA")
    page.tab("LoRA")
    page.wait(lambda: not page.input("lora_alpha").is_enabled())
    assert "because Stiefel LoRA controls the LoRA scale" in page.row("lora_alpha").text
    assert not page.errors


def test_an_error_is_shown_at_its_field_and_can_be_undone(page: BrowserPage) -> None:
    page.tab("Training")
    page.enter("steps", "many")
    page.wait(lambda: page.find(".sl-error"))
    page.click("button", "1 problem")
    page.click(".q-menu .q-item", "Steps")
    page.wait(lambda: page.find(".sl-help", "steps"))
    page.press("Start training")
    page.click("button[title='Undo the last change']")
    page.wait(lambda: not page.find(".sl-error"))
    assert page.input("steps").get_attribute("value") == "120"
    assert not page.find(".sl-run-state"), "a training was started"


def test_every_setting_has_a_field(page: BrowserPage) -> None:
    page.click("button[title=More]")
    page.click(".q-menu .q-checkbox", "Advanced settings")
    for tab in TABS:
        page.tab(tab)
        expected = {
            field.key
            for section in sections()
            for field in section.fields
            if section.tab == tab and field.key != "plugins"
        }
        page.wait(lambda keys=expected: keys <= keys_of(page))
    assert page.find("[data-key=optimizer]") is None
    assert not page.errors


@pytest.mark.slow
def test_two_browsers_show_the_same_settings(
    page: BrowserPage, served: WebServer, new_browser: Callable[..., object]
) -> None:
    other = BrowserPage(new_browser(390, 844), served.url)
    other.open("lora")
    page.tab("LoRA")
    page.enter("lora_rank", "8")
    other.wait(lambda: other.input("lora_rank").get_attribute("value") == "8")
    other.enter("lora_rank", "4")
    page.wait(lambda: page.input("lora_rank").get_attribute("value") == "4")
    page.browser.refresh()
    page.wait(lambda: page.input("lora_rank").get_attribute("value") == "4")


@pytest.mark.slow
def test_differences_are_listed_and_the_settings_are_saved(
    page: BrowserPage, served: WebServer
) -> None:
    page.tab("LoRA")
    page.enter("lora_rank", "8")
    page.press("Differences")
    page.wait(lambda: page.find(".q-dialog td", "LoRA rank"))
    page.click(".q-dialog button", "Close")
    page.wait(lambda: not page.find(".q-dialog"))
    page.press("Save…")
    name = page.wait(lambda: page.find(".q-dialog input"))
    page.wait(lambda: name.get_attribute("value"))
    page.retype(name, "mine")
    page.click(".q-dialog button", "Save")
    page.wait(lambda: page.find(".sl-preset", "Preset: mine"))
    saved = json.loads((served.home / "presets" / "mine.json").read_text("utf-8"))
    assert saved["lora_rank"] == 8


@pytest.mark.slow
def test_settings_are_loaded_from_a_file(page: BrowserPage, tmp_path: Path) -> None:
    def load(name: str, data: object) -> None:
        path = tmp_path / name
        path.write_text(json.dumps(data), encoding="utf-8")
        page.press("Load…")
        chooser = page.wait(lambda: page.find(".q-dialog input[type=file]"))
        chooser.send_keys(str(path))

    page.tab("LoRA")
    load("own.json", {"extends": "demo_adamw", "lora_rank": 4})
    page.wait(lambda: page.input("lora_rank").get_attribute("value") == "4")
    load("newer.json", {"schema_version": 99, "lora_rank": 8})
    refused = page.wait(lambda: page.find(".q-notification", "schema_version"))
    assert str(tmp_path) not in refused.text
    page.click(".q-notification button", "Close")
    load("broken.json", "not settings")
    page.wait(lambda: page.find(".q-notification", "broken.json"))
    assert page.input("lora_rank").get_attribute("value") == "4"


@pytest.mark.slow
def test_captions_are_edited_and_many_at_once(
    page: BrowserPage, tmp_path: Path
) -> None:
    page.tab("Data")
    page.wait(lambda: page.find(".sl-thumbnail img"))
    loaded = "return [...document.querySelectorAll('.sl-thumbnail img')]"
    loaded += ".filter(image => image.naturalWidth > 0).length"
    page.wait(lambda: page.browser.execute_script(loaded) == 3)
    box = page.wait(lambda: page.find("textarea[aria-label=Caption]"))
    page.wait(lambda: box.get_attribute("value") == "an icon, red")
    box.send_keys(" and blue")
    page.wait(lambda: page.find(".sl-note", "Saved"))
    captions = sorted((tmp_path / "images").glob("*.txt"))
    assert captions[0].read_text("utf-8").strip() == "an icon, red and blue"
    page.press("Edit captions…")
    page.choose(".q-dialog .q-select + .q-select", "Find and replace")
    page.wait(lambda: page.find(".q-dialog input[aria-label=Find]")).send_keys("red")
    page.find(".q-dialog input[aria-label='Replace by']").send_keys("green")
    page.click(".q-dialog button", "Change 3 captions")
    page.wait(lambda: "green" in captions[2].read_text("utf-8"))
    page.press("Undo edit")
    page.wait(lambda: "red" in captions[2].read_text("utf-8"))
    page.click(".q-tab", "Tags")
    assert page.wait(lambda: page.find("td", "an icon"))
    page.click(".q-tab", "Buckets")
    assert page.wait(lambda: page.find("td", "64 x 64"))
    assert page.wait(lambda: drawn(page, ".sl-thumbnail img") == 3)
    assert not page.errors


@pytest.mark.slow
def test_settings_are_proposed_for_a_folder(page: BrowserPage, tmp_path: Path) -> None:
    outside = few_images(tmp_path / "outside")
    page.press("New…")
    page.wait(lambda: page.find(".q-dialog input[aria-label='Folder with images']"))
    page.click(".q-dialog button", "OK")
    page.wait(lambda: page.find(".q-dialog .sl-note", "Choose the folder"))
    folder = page.find(".q-dialog input[aria-label='Folder with images']")
    folder.send_keys(str(outside))
    page.click(".q-dialog button", "OK")
    page.wait(lambda: page.find(".q-dialog .sl-note", "is not an image folder"))
    page.click(".q-dialog button", "Browse…")
    page.click(".q-dialog .q-item", str(tmp_path / "images"))
    page.click(".q-dialog button", "Use this folder")
    page.wait(lambda: folder.get_attribute("value") == str(tmp_path / "images"))
    page.find(".q-dialog input[aria-label='Trigger word']").send_keys("ohwx")
    page.click(".q-dialog button", "OK")
    page.wait(lambda: page.find(".q-dialog .sl-pre", "Preset: sdxl_stiefel_lora"))
    assert "The settings were chosen for your images:" in page.shown
    assert "3 images" in page.shown
    page.click(".q-dialog button", "Close")
    page.wait(lambda: not page.find(".q-dialog"))
    assert page.input("steps").get_attribute("value").isdigit()
    page.tab("Data")
    assert page.input("trigger_word").get_attribute("value") == "ohwx"
    assert not page.errors


@pytest.mark.slow
def test_selected_images_are_edited_and_shown_as_in_training(
    page: BrowserPage, tmp_path: Path
) -> None:
    page.tab("Data")
    page.wait(lambda: drawn(page, ".sl-thumbnail img") == 3)
    boxes = page.browser.find_elements("css selector", ".sl-pick")
    hover_and_click(page, boxes[2])
    page.wait(lambda: page.find(".sl-note", "2 selected"))
    page.press("Edit captions…")
    page.choose(".q-dialog .q-select", "Selected images (2)")
    page.find(".q-dialog input[aria-label=Text]").send_keys("ohwx")
    page.click(".q-dialog button", "Change 2 captions")
    captions = sorted((tmp_path / "images").glob("*.txt"))
    page.wait(lambda: "ohwx" in captions[2].read_text("utf-8"))
    assert [text.read_text("utf-8").strip() for text in captions] == [
        "ohwx, an icon, red",
        "an icon, red",
        "ohwx, an icon, red",
    ]
    page.click(".q-tab", "In training")
    page.wait(lambda: page.find(".sl-uses td", "ohwx, an icon, red"))
    page.wait(lambda: page.find(".sl-note", "Use 1: 64 x 64"))
    page.click(".sl-uses tbody tr", "3")
    page.wait(lambda: page.find(".sl-note", "Use 3: 64 x 64"))
    page.wait(lambda: drawn(page, ".sl-preview img[src*='use=2']") == 1)
    assert not page.errors


def drawn(page: BrowserPage, selector: str) -> int:
    """Return the number of visible images that were loaded."""
    found = f"return [...document.querySelectorAll({selector!r})]"
    found += ".filter(i => i.naturalWidth > 0 && i.getClientRects().length).length"
    return page.browser.execute_script(found)


def hover_and_click(page: BrowserPage, element: Any) -> None:
    """Move the mouse to an element that is shown then, and click it."""
    from selenium.webdriver import ActionChains

    ActionChains(page.browser).move_to_element(element).click().perform()


@pytest.mark.slow
def test_images_are_uploaded(
    page: BrowserPage, served: WebServer, tmp_path: Path
) -> None:
    source = few_images(tmp_path / "to upload", 2)
    page.tab("Data")
    page.press("Upload…")
    chooser = page.wait(
        lambda: page.browser.execute_script(
            "return document.querySelector('.sl-upload input')"
        )
    )
    chooser.send_keys("\n".join(str(path) for path in sorted(source.iterdir())))
    page.wait(lambda: page.find(".sl-upload .sl-quiet", "added"))
    page.click(".q-dialog button", "Close")
    folder = served.home / "uploads" / "images"
    assert len(list(folder.glob("*.png"))) == 2
    page.choose(".sl-data .sl-runs", "images")
    paths = "return [...document.querySelectorAll('[data-key=path] input')]"
    paths += ".map(found => found.value)"
    page.wait(lambda: str(folder) in page.browser.execute_script(paths))


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_is_wider_than_a_phone(
    theme: str, served: WebServer, new_browser: Callable[..., object]
) -> None:
    page = BrowserPage(new_browser(390, 844), served.url)
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    page.open()
    page.click("button[title=More]")
    page.click(".q-menu .q-item", f"Theme: {theme}")
    dark = "return document.body.classList.contains('body--dark')"
    page.wait(lambda: page.browser.execute_script(dark) == (theme == "dark"))
    for slug in ("", "data", "training", "optimizer", "queue", "run", "lora-files"):
        page.open(slug)
        width = page.browser.execute_script(
            "return document.documentElement.scrollWidth"
        )
        assert width <= 390, slug
    assert not page.errors
