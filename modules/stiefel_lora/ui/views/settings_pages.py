"""Tabs with settings, created from the schema."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtWidgets import QGroupBox, QVBoxLayout, QWidget

from ..controllers.document import Document
from ..controllers.findings import Findings, locks
from ..controllers.pages import TABS, Section, sections
from .basics import Columns
from .form import FieldsForm, Row
from .optimizer import OptimizerPanel

__all__ = ["SettingsPages"]


class SettingsPages:
    """Pages of settings by tab name.

    Args:
        document: settings to edit.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.pages: dict[str, Columns] = {tab: Columns() for tab in TABS}
        self.forms: list[FieldsForm] = []
        self.optimizer = OptimizerPanel()
        self.optimizer.chosen.connect(document.choose_optimizer)
        self.optimizer.edited.connect(self._edit)
        for section in sections():
            self._add(section)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Return all rows of top-level settings by key."""
        for form in self.forms:
            yield from form.rows.items()

    def tab_of(self, key: str) -> str:
        """Return the tab of a setting."""
        head = key.partition(".")[0]
        for section in sections():
            if any(field.key == head for field in section.fields):
                return section.tab
        return TABS[0]

    def focus(self, key: str) -> None:
        """Focus the editor of a setting. Its tab must be visible."""
        rows = dict(self.rows())
        if self.optimizer.form is not None:
            options = self.optimizer.form.rows.items()
            rows.update({f"optimizer.{name}": row for name, row in options})
        found = rows.get(key)
        target: QWidget = self.optimizer.combo if found is None else found.editor
        target.setFocus()

    def refresh(self, findings: Findings) -> None:
        """Show the values of the settings and their errors."""
        document, locked = self.document, locks(self.document.data)
        for form in self.forms:
            form.show_values({key: self._shown(key, locked) for key in form.rows})
            for key, row in form.rows.items():
                row.mark(
                    findings.errors.get(key, ()),
                    findings.remarks.get(key, ()),
                    locked.get(key),
                    document.data.get(key) != document.baseline.get(key),
                )
        self.optimizer.refresh(document, findings)

    def _shown(self, key: str, locked: dict[str, str]) -> object:
        if key in locked and key == "lora_alpha" and not self.document.is_set(key):
            return self.document.value("lora_rank")
        return self.document.value(key)

    def _edit(self, key: str, value: object, typing: bool) -> None:
        self.document.set(key, value, typing=typing)

    def _add(self, section: Section) -> None:
        page = self.pages[section.tab]
        fields = [field for field in section.fields if field.key != "optimizer"]
        if len(fields) < len(section.fields):
            page.add(self.optimizer)
        if not fields:
            return
        form = FieldsForm(fields)
        form.edited.connect(self._edit)
        self.forms.append(form)
        box = QGroupBox(section.title)
        QVBoxLayout(box).addWidget(form)
        page.add(box)
