"""Basic widgets of forms."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import (
    QDragEnterEvent,
    QDropEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

__all__ = ["Columns", "Combo", "Elided", "Note", "PathLine", "repolish", "scrolled"]


class Combo(QComboBox):
    """Combo box that ignores the mouse wheel, so that the page can be scrolled."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(10)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Pass the wheel event to the page."""
        event.ignore()


class PathLine(QLineEdit):
    """Line edit for paths, which accepts dropped files and folders."""

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
        else:
            super().dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """Insert the path of the dropped file."""
        urls = event.mimeData().urls()
        if urls and urls[0].isLocalFile():
            self.setText(urls[0].toLocalFile())
            self.textEdited.emit(self.text())
        else:
            super().dropEvent(event)


class Elided(QLabel):
    """Label of one line that ends with an ellipsis if there is too little room.

    The whole text is its tooltip.
    """

    def setText(self, text: str) -> None:
        """Set the text and the tooltip."""
        super().setText(text)
        self.setToolTip(text)

    def minimumSizeHint(self) -> QSize:
        """Return the height of a line, and no width."""
        return QSize(0, super().minimumSizeHint().height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw as much of the text as there is room for."""
        room = self.contentsRect()
        shown = self.fontMetrics().elidedText(
            self.text(), Qt.TextElideMode.ElideRight, room.width()
        )
        self.style().drawItemText(
            QPainter(self),
            room,
            Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft,
            self.palette(),
            self.isEnabled(),
            shown,
            self.foregroundRole(),
        )


class Note(QLabel):
    """Message below a field. It is hidden if empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hide()

    def say(self, text: str, tone: str) -> None:
        """Show a message in the color of ``tone``."""
        if self.text() == text and self.property("tone") == tone:
            return
        self.setText(text)
        self.setProperty("tone", tone)
        repolish(self)
        self.setVisible(bool(text))


class Columns(QWidget):
    """Layout that adapts the number of columns to its width."""

    def __init__(self, column_letters: int = 62) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._letters = column_letters
        self._widgets: list[QWidget] = []
        self._shown: tuple[int, list[bool]] = (0, [])

    def add(self, widget: QWidget) -> None:
        """Append a widget."""
        self._widgets.append(widget)
        self._arrange()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Recompute the number of columns."""
        super().resizeEvent(event)
        self._arrange()

    def minimumSizeHint(self) -> QSize:
        """Return the size of a single column."""
        hint = super().minimumSizeHint()
        widest = max((w.minimumSizeHint().width() for w in self._widgets), default=0)
        return QSize(widest + 2 * self._grid.contentsMargins().left(), hint.height())

    def refresh(self) -> None:
        """Distribute the widgets again after some were shown or hidden."""
        self._arrange()

    def _arrange(self) -> None:
        letter = self.fontMetrics().averageCharWidth()
        room = max(1, self.width() // (self._letters * letter))
        shown = [not widget.isHidden() for widget in self._widgets]
        columns = min(2, room, max(1, sum(shown)))
        if (columns, shown) == self._shown:
            return
        self._shown = columns, shown
        heights = [0] * columns
        stacks = [QVBoxLayout() for _ in range(columns)]
        for widget in self._widgets:
            place = heights.index(min(heights))
            if not widget.isHidden():
                heights[place] += widget.sizeHint().height()
            stacks[place].addWidget(widget)
        while (item := self._grid.takeAt(0)) is not None:
            if (old := item.layout()) is not None:
                old.setParent(None)
        for place, stack in enumerate(stacks):
            stack.addStretch(1)
            self._grid.addLayout(stack, 0, place)
            self._grid.setColumnStretch(place, 1)
        for place in range(columns, self._grid.columnCount()):
            self._grid.setColumnStretch(place, 0)


def scrolled(widget: QWidget) -> QScrollArea:
    """Return a scroll area that contains the widget."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    widget.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    area.setWidget(widget)
    return area


def repolish(widget: QWidget) -> None:
    """Reapply the style sheet after a property change."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)
