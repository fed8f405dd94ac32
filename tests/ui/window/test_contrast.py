"""Texts of disabled controls can be read in both themes (WCAG: 3:1 for controls)."""

from __future__ import annotations

import pytest
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QLineEdit, QPushButton

from stiefel_lora.ui.views.app import make_application
from stiefel_lora.ui.views.theme import apply_theme

Role, Group = QPalette.ColorRole, QPalette.ColorGroup


def luminance(color: QColor) -> float:
    parts = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (color.redF(), color.greenF(), color.blueF())
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: QColor, two: QColor) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(params=["light", "dark"])
def themed(request):
    """The application in a theme."""
    make_application()
    apply_theme(request.param)
    yield
    apply_theme("light")


PAIRS = [
    (Role.WindowText, Role.Window),
    (Role.Text, Role.Base),
    (Role.Text, Role.AlternateBase),
    (Role.ButtonText, Role.Button),
    (Role.PlaceholderText, Role.Base),
]


@pytest.mark.usefixtures("themed")
@pytest.mark.parametrize("group", [Group.Active, Group.Inactive, Group.Disabled])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_texts_of_the_palette_can_be_read(group, text, ground):
    palette = QApplication.palette()
    found = contrast(palette.color(group, text), palette.color(group, ground))
    assert found >= (3 if group is Group.Disabled else 3.5)


@pytest.mark.usefixtures("themed")
@pytest.mark.parametrize("kind", [QPushButton, QLineEdit, QComboBox, QCheckBox])
def test_texts_of_disabled_controls_can_be_read_where_they_are_drawn(qtbot, kind):
    widget = kind()
    qtbot.addWidget(widget)
    widget.resize(120, 30)
    widget.setEnabled(False)
    image = widget.grab().toImage()
    roles = {QLineEdit: Role.Text, QCheckBox: Role.WindowText}
    role = roles.get(kind, Role.ButtonText)
    text = QApplication.palette().color(Group.Disabled, role)
    # Buttons are drawn with a gradient; the middle of the text is the middle.
    grounds = [image.pixelColor(60, y) for y in (11, 15, 19)]
    assert min(contrast(text, ground) for ground in grounds) >= 3
