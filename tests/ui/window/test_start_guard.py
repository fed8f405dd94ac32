"""What Qt alone can find out about the display: a message, no abort."""

from __future__ import annotations

import sys

import pytest

from helpers.no_display import assert_one_message


@pytest.mark.parametrize(
    ("variables", "reasons"),
    [
        # Qt names the platform where its libraries are missing, and the display where
        # they are there.
        ({"DISPLAY": "no display"}, ("xcb", "no display")),
        ({"WAYLAND_DISPLAY": "no-wayland"}, ("wayland", "wl_display")),
        ({"QT_QPA_PLATFORM": "nonsense"}, ('"nonsense"',)),
    ],
)
def test_a_platform_that_cannot_start_is_one_message(
    variables: dict[str, str], reasons: tuple[str, ...]
) -> None:
    if sys.platform in ("win32", "darwin") and "QT_QPA_PLATFORM" not in variables:
        pytest.skip("needs X11 or Wayland")
    assert_one_message(variables, *reasons)


def test_reports_of_a_start_that_went_well_are_shown(
    qapp: object, capsys: pytest.CaptureFixture[str]
) -> None:
    from PySide6.QtCore import qWarning

    from stiefel_lora.ui.views.start_guard import StartGuard

    with StartGuard():
        qWarning("a font is missing")
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "a font is missing\n"
