from __future__ import annotations

import json
from pathlib import Path

import pytest

SOURCE = {
    "model_type": "STABLE_DIFFUSION_XL_10_BASE",
    "training_method": "LORA",
    "lora_rank": 24,
    "concepts": [{"path": "cats"}],
    "brand_new": 1,
}


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of dialogs, which are not shown."""
    from stiefel_lora.ui.views.import_dialog import ImportDialog

    found: list[str] = []
    monkeypatch.setattr(
        ImportDialog, "exec", lambda dialog: found.append(dialog.text.toPlainText())
    )
    return found


def test_a_configuration_of_onetrainer_is_imported_with_its_report(
    open_window, tmp_path: Path, reports: list[str]
) -> None:
    path = tmp_path / "#mine.json"
    path.write_text(json.dumps(SOURCE), encoding="utf-8")
    window = open_window()
    before = window.document.value("lora_rank")
    window.open_file(path)
    document = window.document
    assert document.value("lora_rank") == 24
    assert document.value("concepts")[0]["path"] == str(tmp_path / "cats")
    assert document.config().resolved_alpha == 1
    assert "! brand_new = 1: unknown key" in reports[0]
    document.undo()
    assert document.value("lora_rank") == before


def test_what_cannot_be_imported_changes_nothing(
    open_window, tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    window = open_window()
    shown: list[str] = []
    monkeypatch.setattr(window, "complain", lambda what, why: shown.append(why))
    before = dict(window.document.data)
    window.open_file(path)
    assert shown == [f"{path} is no configuration of ai-toolkit."]
    assert (reports, window.document.data) == ([], before)
