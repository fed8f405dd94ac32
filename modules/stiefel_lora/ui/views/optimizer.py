"""Selection of the optimizer and its options."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGroupBox, QLabel, QVBoxLayout, QWidget

from ..controllers.findings import Findings
from ..controllers.form_state import FormState
from ..controllers.optimizer_list import (
    optimizer_label,
    optimizer_names,
    optimizer_summary,
    optimizer_unit,
)
from ..controllers.pages import optimizer_fields
from .basics import Combo, Note
from .form import FieldsForm
from .theme import ERROR, REMARK

__all__ = ["OptimizerPanel"]


class OptimizerPanel(QGroupBox):
    """Panel with a drop-down list of optimizers and a form of options."""

    chosen = Signal(str)
    edited = Signal(str, object, bool)
    """Emits key, value, and whether the user is typing."""

    def __init__(self) -> None:
        super().__init__("Optimizer")
        self.names: list[str] = []
        self.combo = Combo()
        self.combo.setAccessibleName("Optimizer")
        self._list_methods()
        self.combo.activated.connect(lambda at: self.chosen.emit(self.names[at]))
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.unit = QLabel()
        self.unit.setWordWrap(True)
        self.unit.setProperty("tone", "quiet")
        self.note = Note()
        self._column = QVBoxLayout(self)
        for widget in (self.combo, self.summary, self.unit, self.note):
            self._column.addWidget(widget)
        self.form: FieldsForm | None = None
        self._name = ""

    def refresh(self, state: FormState, findings: Findings) -> None:
        """Show the optimizer of the settings and its errors.

        Args:
            state: state of the form.
            findings: errors of the settings.
        """
        name = state.document.optimizer
        listed = self._list_methods()
        if name != self._name or listed:
            self._take(name)
        assert self.form is not None
        rows = self.form.rows

        def is_focused(key: str) -> bool:
            return rows[key.partition(".")[2]].has_focus()

        for key, found in state.options(findings, is_focused).items():
            rows[key].show_state(found)
        errors = findings.errors.get("optimizer", [])
        remarks = findings.remarks.get("optimizer", [])
        self.note.say("\n".join(errors or remarks), ERROR if errors else REMARK)

    def _list_methods(self) -> bool:
        """Fill the drop-down list. Return whether plugins have changed the list."""
        names = optimizer_names()
        if names == self.names:
            return False
        self.names = names
        self.combo.clear()
        for name in names:
            self.combo.addItem(optimizer_label(name))
            self.combo.setItemData(
                self.combo.count() - 1,
                optimizer_summary(name),
                # Qt.ToolTipRole
                3,
            )
        return True

    def _take(self, name: str) -> None:
        """Show the options of the selected optimizer."""
        self._name = name
        # -1 shows an empty entry if the plugin is missing.
        place = self.names.index(name) if name in self.names else -1
        self.combo.setCurrentIndex(place)
        self.summary.setText(optimizer_summary(name))
        self.unit.setText(optimizer_unit(name))
        if self.form is not None:
            self._drop(self.form)
        self.form = FieldsForm(optimizer_fields(name))
        self.form.edited.connect(self._pass_on)
        self._column.addWidget(self.form)

    def _pass_on(self, key: str, value: Any, typing: bool) -> None:
        self.edited.emit(f"optimizer.{key}", value, typing)

    def _drop(self, widget: QWidget) -> None:
        self._column.removeWidget(widget)
        widget.hide()
        widget.deleteLater()
