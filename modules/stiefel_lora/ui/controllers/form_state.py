"""State of each row of the form: value, messages, and whether it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ...config.relevance import settings_without_effect
from ...methods import find_record
from .document import Document
from .findings import Findings, locks
from .pages import BASIC, TABS, all_fields, optimizer_fields, sections

__all__ = ["FormState", "RowState", "tab_of"]

Asked = Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class RowState:
    """State of a row of the form."""

    value: Any
    errors: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    lock: str | None = None
    """Reason why the value cannot be changed."""

    changed: bool = False
    """Whether the value differs from the preset."""

    visible: bool = True
    hidden_parts: frozenset[str] = frozenset()
    """Fields without effect in the entries of a list."""


def tab_of(key: str) -> str:
    """Return the tab of a setting."""
    head = key.partition(".")[0]
    for section in sections():
        if any(field.key == head for field in section.fields):
            return section.tab
    return TABS[0]


class FormState:
    """Decides which settings are shown, and with which values and messages.

    Args:
        document: settings to edit.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.advanced = False
        """Whether all settings are shown, instead of the basic and changed ones."""

        self._revealed: set[str] = set()

    def reveal(self, key: str) -> bool:
        """Keep a setting visible. Return whether it was not kept visible before."""
        if key in self._revealed:
            return False
        self._revealed.add(key)
        return True

    def rows(self, findings: Findings, is_focused: Asked) -> dict[str, RowState]:
        """Return the state of all settings except for the optimizer, by key.

        Args:
            findings: errors and warnings of the settings.
            is_focused: function that returns whether the user is editing a setting.
        """
        document, locked = self.document, locks(self.document.data)
        without = settings_without_effect(document.value)
        found = {}
        for key in all_fields():
            if key == "optimizer":
                continue
            errors = tuple(findings.errors.get(key, ()))
            remarks = tuple(findings.remarks.get(key, ()))
            changed = document.data.get(key) != document.baseline.get(key)
            kept = bool(errors or remarks) or key in self._revealed or is_focused(key)
            useful = key not in without and (self.advanced or key in BASIC or changed)
            found[key] = RowState(
                self._shown(key, locked),
                errors,
                remarks,
                locked.get(key),
                changed,
                kept or useful,
                _parts_of(key, without),
            )
        return found

    def options(self, findings: Findings, is_focused: Asked) -> dict[str, RowState]:
        """Return the state of the options of the optimizer, by name."""
        document = self.document
        names = [field.key for field in optimizer_fields(document.optimizer)]
        values = {name: document.value(f"optimizer.{name}") for name in names}
        entry = find_record(document.optimizer)
        idle = entry.without_effect(values) if entry is not None else []
        without = {option.name for option in idle}
        found = {}
        for name, value in values.items():
            key = f"optimizer.{name}"
            changed = document.is_set(key)
            errors = tuple(findings.errors.get(key, ()))
            kept = bool(errors) or key in self._revealed or is_focused(key)
            useful = name not in without and (self.advanced or changed)
            found[name] = RowState(
                value, errors, changed=changed, visible=kept or useful
            )
        return found

    def _shown(self, key: str, locked: dict[str, str]) -> Any:
        if key in locked and key == "lora_alpha" and not self.document.is_set(key):
            return self.document.value("lora_rank")
        return self.document.value(key)


def _parts_of(key: str, names: set[str]) -> frozenset[str]:
    """Return the names of the parts of a record among dotted keys."""
    start = f"{key}."
    return frozenset(n.removeprefix(start) for n in names if n.startswith(start))
