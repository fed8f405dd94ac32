"""Selection of the optimizer and its options."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGroupBox, QLabel, QVBoxLayout, QWidget

from ...methods import CATALOGUE, CUSTOM, PACKAGED, find_record
from ..controllers.document import Document
from ..controllers.findings import Findings
from ..controllers.pages import optimizer_fields
from .basics import Combo, Note
from .form import FieldsForm
from .theme import ERROR, REMARK

__all__ = ["OptimizerPanel"]

_CUSTOM = "Another class…"
_CUSTOM_SUMMARY = "Any subclass of torch.optim.Optimizer."


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
        self._revealed: set[str] = set()

    def reveal(self, key: str) -> None:
        """Keep an option visible, with a key such as ``optimizer.momentum``."""
        self._revealed.add(key)

    def refresh(
        self, document: Document, findings: Findings, *, advanced: bool
    ) -> None:
        """Show the optimizer of the settings and its errors.

        Args:
            document: settings.
            findings: their errors.
            advanced: whether to show all options, instead of the changed ones.
        """
        name = document.optimizer
        listed = self._list_methods()
        if name != self._name or listed:
            self._take(name)
        assert self.form is not None
        values = {key: document.value(f"optimizer.{key}") for key in self.form.rows}
        self.form.show_values(values)
        entry = find_record(name)
        idle = entry.without_effect(values) if entry is not None else []
        without = {option.name for option in idle}
        for key, row in self.form.rows.items():
            dotted = f"optimizer.{key}"
            changed, errors = document.is_set(dotted), findings.errors.get(dotted, ())
            row.mark(errors, (), None, changed)
            kept = bool(errors) or dotted in self._revealed or row.has_focus()
            useful = key not in without and (advanced or changed)
            row.set_visible(kept or useful)
        errors = findings.errors.get("optimizer", [])
        remarks = findings.remarks.get("optimizer", [])
        self.note.say("\n".join(errors or remarks), ERROR if errors else REMARK)

    def _list_methods(self) -> bool:
        """Fill the drop-down list. Return whether plugins have changed the list."""
        names = [*CATALOGUE, *PACKAGED, CUSTOM]
        if names == self.names:
            return False
        self.names = names
        self.combo.clear()
        for name in names:
            entry = find_record(name)
            self.combo.addItem(entry.label if entry else _CUSTOM)
            self.combo.setItemData(
                self.combo.count() - 1,
                entry.summary if entry else _CUSTOM_SUMMARY,
                # Qt.ToolTipRole
                3,
            )
        return True

    def _take(self, name: str) -> None:
        """Show the options of the selected optimizer."""
        self._name = name
        entry = find_record(name)
        # -1 shows an empty entry if the plugin is missing.
        place = self.names.index(name) if name in self.names else -1
        self.combo.setCurrentIndex(place)
        self.summary.setText(entry.summary if entry else _CUSTOM_SUMMARY)
        self.unit.setText(
            f"Default learning rate: {entry.default_lr:g} (for alpha = rank). Unit: "
            f"{entry.lr_unit}."
            if entry
            else "The unit of the learning rate depends on this class."
        )
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
