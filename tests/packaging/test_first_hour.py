"""The replay of the first hour, without the hour."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import first_hour

    return first_hour


def test_commands_are_logged_with_their_result(replay, tmp_path, capsys):
    log = replay._Log(tmp_path / "stiefel-lora", tmp_path / "into")
    log.clone.mkdir()
    log.person("terminal")
    log.run([sys.executable, "-c", "import os; print(os.getcwd())"])
    assert not log.failed
    log.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert log.failed
    text = log.text()
    assert "## terminal" in text
    assert str(tmp_path) not in text
    assert "    $ python -c import os" in text
    assert "exit code 0)" in text
    assert "exit code 3)" in text
    capsys.readouterr()


class Typed:
    """Log that runs nothing."""

    def __init__(self, clone: Path) -> None:
        self.clone, self.python, self.command = clone, "python", "stiefel-lora"
        self.typed: list[str] = []

    def run(self, words: list[str], folder: Path | None = None) -> None:
        self.typed.append(" ".join(words))


def test_what_is_typed_is_documented(replay, tmp_path):
    """Each of the three people follows the pages; all sizes and themes are shown."""
    images = tmp_path / "modules" / "stiefel_lora" / "demo" / "emoji" / "train"
    images.mkdir(parents=True)
    (images / "a.png").write_bytes(b"image")
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text("utf-8"))
    typed = {}
    for person in replay.PEOPLE:
        log = Typed(tmp_path)
        replay._DEEDS[person](log, tmp_path / "into")
        typed[person] = log.typed
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    assert "python scripts/quickstart.py" in text
    assert typed["terminal"][0].endswith("scripts/quickstart.py")
    for verb in ("doctor", "scan", "new", "validate", "train"):
        (line,) = [t for t in typed["terminal"] if t.startswith(f"stiefel-lora {verb}")]
        assert " ".join(line.split()[:2]) in text
    assert typed["window"][0] == "./install.sh"
    sizes = [line for line in typed["window"] if "make_screenshots" in line]
    assert [line.split("--size ")[1] for line in sizes] == [
        "1280x800 --scale 1.0",
        "1920x1080 --scale 1.0",
        "1280x800 --scale 1.5",
    ]
    assert "from stiefel_lora import" in (tmp_path / "my_trainer.py").read_text()
