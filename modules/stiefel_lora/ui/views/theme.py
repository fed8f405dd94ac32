"""Light and dark theme."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

__all__ = [
    "ERROR",
    "QUIET",
    "REMARK",
    "THEMES",
    "application",
    "apply_theme",
    "color",
    "is_dark",
]

THEMES = ("system", "light", "dark")
Role = QPalette.ColorRole

_LIGHT = {
    Role.Window: "#f4f5f7",
    Role.WindowText: "#1b1f24",
    Role.Base: "#ffffff",
    Role.AlternateBase: "#eef0f3",
    Role.Text: "#1b1f24",
    Role.Button: "#e9ebef",
    Role.ButtonText: "#1b1f24",
    Role.ToolTipBase: "#ffffff",
    Role.ToolTipText: "#1b1f24",
    Role.PlaceholderText: "#6b7480",
    Role.Highlight: "#2f6fbf",
    Role.HighlightedText: "#ffffff",
    Role.Link: "#1f5fae",
    Role.Mid: "#c3c8d0",
}
_DARK = {
    Role.Window: "#1f2329",
    Role.WindowText: "#e6e9ee",
    Role.Base: "#343b46",
    Role.AlternateBase: "#3b434f",
    Role.Text: "#e6e9ee",
    Role.Button: "#3d4653",
    Role.ButtonText: "#e6e9ee",
    Role.ToolTipBase: "#2d333b",
    Role.ToolTipText: "#e6e9ee",
    Role.PlaceholderText: "#8c96a3",
    Role.Highlight: "#3b7dd0",
    Role.HighlightedText: "#ffffff",
    Role.Link: "#7fb4f0",
    Role.Mid: "#444c56",
}
_DISABLED = {"light": "#6f7781", "dark": "#adb5c0"}

ERROR, REMARK, QUIET = "error", "remark", "quiet"
_COLORS = {
    "light": {ERROR: "#b3261e", REMARK: "#7a5200", QUIET: "#59626d"},
    "dark": {ERROR: "#ff8a80", REMARK: "#ffc766", QUIET: "#a3acb8"},
}


def application() -> QApplication:
    """Return the existing application."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app


def apply_theme(theme: str) -> None:
    """Set the theme of the application. ``system`` is the theme of the desktop."""
    app = application()
    dark = theme == "dark" or (theme == "system" and _system_is_dark(app))
    palette = QPalette()
    for role, name in (_DARK if dark else _LIGHT).items():
        palette.setColor(role, QColor(name))
    gray = QColor(_DISABLED["dark" if dark else "light"])
    for role in (Role.WindowText, Role.Text, Role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, gray)
    app.setPalette(palette)
    app.setStyleSheet(_sheet("dark" if dark else "light"))


def is_dark() -> bool:
    """Return whether the dark theme is active."""
    return QApplication.palette().color(Role.Window).lightness() < 128


def color(name: str) -> str:
    """Return a color of the current theme."""
    return _COLORS["dark" if is_dark() else "light"][name]


def _system_is_dark(app: QApplication) -> bool:
    return app.styleHints().colorScheme() == Qt.ColorScheme.Dark


def _sheet(name: str) -> str:
    colors = _COLORS[name]
    palette = _DARK if name == "dark" else _LIGHT
    frame = palette[Role.Mid]
    messages = "\n".join(
        f'QLabel[tone="{tone}"] {{ color: {value}; }}' for tone, value in colors.items()
    )
    return f"""
    {messages}
    QLineEdit[wrong="true"], QComboBox[wrong="true"], QPlainTextEdit[wrong="true"]
        {{ border: 1px solid {colors[ERROR]}; }}
    QGroupBox {{ border: 1px solid {frame}; border-radius: 4px; margin-top: 1.2em;
        padding-top: 0.4em; font-weight: 600; }}
    QGroupBox::title {{ subcontrol-origin: margin; left: 8px; padding: 0 4px; }}
    QFrame#entry {{ border: 1px solid {frame}; border-radius: 4px; }}
    QPushButton#primary {{ background: {palette[Role.Highlight]}; color: #ffffff;
        border: 1px solid {palette[Role.Highlight]}; border-radius: 4px;
        padding: 3px 14px; font-weight: 600; }}
    QPushButton#primary:hover, QPushButton#primary:focus {{ border-color:
        {palette[Role.WindowText]}; }}
    QToolButton::menu-indicator, QPushButton::menu-indicator {{ image: none; }}
    QToolTip {{ padding: 4px; }}
    """
