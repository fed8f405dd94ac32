"""What the README shows is true: code runs, links and commands lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
OTHERS = ("modules/modelSetup/", "scripts/stable", "scripts/dev")


def test_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text("utf-8"), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    ranks = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(ranks) == 2
    assert all(3 < rank <= 4 for rank in ranks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    folders = "benchmarks|docs|modules|scripts|tests|training_presets"
    text = page.read_text("utf-8")
    named = re.findall(rf"(?<![\w./-])(?:{folders})/[\w./*-]*\w/?", text)
    # Of the checkouts of OneTrainer and lora-scripts.
    ours = {name for name in named if not name.startswith(OTHERS)}
    assert not {name for name in ours if not list(ROOT.glob(name))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_and_presets_that_are_named_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    scripts = set(re.findall(r"python (scripts/\w+\.py)", text))
    presets = set(re.findall(r"scripts/train\.py (sdxl_\w+)", text))
    found = {path.stem for path in (ROOT / "training_presets").rglob("*.json")}
    assert not [name for name in scripts if not (ROOT / name).exists()]
    assert presets <= found


def test_the_front_door_is_in_order() -> None:
    """A summary, the images, two commands, the trainers, the optimizers, the links."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = [
        "# stiefel-lora\n\nTrain LoRAs",
        "(docs/images/rank_comparison.png)",
        "(docs/images/before_after.png)",
        "(scripts/make_before_after.py)",
        "./start-ui.sh",
        "| | stiefel-lora | OneTrainer | kohya (sd-scripts) | ai-toolkit |",
        "| | Stiefel LoRA | AdamW |",
        "(docs/evidence.md)",
        "(docs/questions/index.md)",
        "(docs/questions/use-the-lora.md)",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    start = text.split("```sh")[1].split("```")[0]
    assert len(start.strip().splitlines()) == 2
    assert "<" not in start
