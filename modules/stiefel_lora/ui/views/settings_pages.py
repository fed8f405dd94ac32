"""Tabs with settings, created from the schema."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtWidgets import QGroupBox, QVBoxLayout, QWidget

from ..controllers.document import Document
from ..controllers.findings import Findings
from ..controllers.form_state import FormState
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
        self.boxes: list[QGroupBox] = []
        self.state = FormState(document)
        self.optimizer = OptimizerPanel()
        self.optimizer.chosen.connect(document.choose_optimizer)
        self.optimizer.edited.connect(self._edit)
        for section in sections():
            self._add(section)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Return all rows of top-level settings by key."""
        for form in self.forms:
            yield from form.rows.items()

    def focus(self, key: str) -> None:
        """Focus the editor of a setting. Its tab must be visible."""
        rows = dict(self.rows())
        if self.optimizer.form is not None:
            options = self.optimizer.form.rows.items()
            rows.update({f"optimizer.{name}": row for name, row in options})
        found = rows.get(key)
        if found is not None and self.state.reveal(key):
            found.set_visible(True)
            self._arrange()
        target: QWidget = self.optimizer.combo if found is None else found.editor
        target.setFocus()

    def refresh(self, findings: Findings) -> None:
        """Show the values of the settings and their errors."""
        rows = dict(self.rows())
        states = self.state.rows(findings, lambda key: rows[key].has_focus())
        for key, row in rows.items():
            row.show_state(states[key])
        self.optimizer.refresh(self.state, findings)
        self._arrange()

    def _arrange(self) -> None:
        """Hide sections without a visible setting."""
        for box, form in zip(self.boxes, self.forms, strict=True):
            box.setVisible(any(row.shown for row in form.rows.values()))
        for page in self.pages.values():
            page.refresh()

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
        self.boxes.append(box)
        page.add(box)
