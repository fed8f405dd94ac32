"""Tabs with settings, created from the schema."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtWidgets import QGroupBox, QVBoxLayout, QWidget

from ...config.relevance import settings_without_effect
from ..controllers.document import Document
from ..controllers.findings import Findings, locks
from ..controllers.pages import BASIC, TABS, Section, sections
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
        self.advanced = False
        """Whether all settings are shown, instead of the basic and changed ones."""

        self._revealed: set[str] = set()
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
        if found is not None and key not in self._revealed:
            self._revealed.add(key)
            self.optimizer.reveal(key)
            found.set_visible(True)
            self._arrange()
        target: QWidget = self.optimizer.combo if found is None else found.editor
        target.setFocus()

    def refresh(self, findings: Findings) -> None:
        """Show the values of the settings and their errors."""
        document, locked = self.document, locks(self.document.data)
        without = settings_without_effect(document.value)
        for form in self.forms:
            form.show_values({key: self._shown(key, locked) for key in form.rows})
            for key, row in form.rows.items():
                row.mark(
                    findings.errors.get(key, ()),
                    findings.remarks.get(key, ()),
                    locked.get(key),
                    document.data.get(key) != document.baseline.get(key),
                )
                row.editor.hide_parts(_parts_of(key, without))
                row.set_visible(self._is_shown(key, row, findings, without))
        self.optimizer.refresh(document, findings, advanced=self.advanced)
        self._arrange()

    def _is_shown(
        self, key: str, row: Row, findings: Findings, without: set[str]
    ) -> bool:
        """Return whether a setting is shown.

        Those with a message are always shown, as are the focused one and those that
        were shown by :meth:`focus`.
        """
        if findings.errors.get(key) or findings.remarks.get(key):
            return True
        if key in self._revealed or row.has_focus():
            return True
        if key in without:
            return False
        document = self.document
        changed = document.data.get(key) != document.baseline.get(key)
        return self.advanced or key in BASIC or changed

    def _arrange(self) -> None:
        """Hide sections without a visible setting."""
        for box, form in zip(self.boxes, self.forms, strict=True):
            box.setVisible(any(row.shown for row in form.rows.values()))
        for page in self.pages.values():
            page.refresh()

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
        self.boxes.append(box)
        page.add(box)


def _parts_of(key: str, names: set[str]) -> set[str]:
    """Return the names of the parts of a record among dotted keys."""
    start = f"{key}."
    return {name.removeprefix(start) for name in names if name.startswith(start)}
