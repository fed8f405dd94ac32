"""Options of the methods in the optimizer window of OneTrainer."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...methods import Option
from ._choices import key_of, method_of
from ._hooks import tolerated
from ._points import arguments_of, point, wrap

__all__ = ["add_fields"]

_WANTED = ("master", "controller", "optimizer_ui_state", "update_user_pref_cb")


def add_fields(module: ModuleType) -> None:
    """Add the options of the methods to the window."""

    def with_ours(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with tolerated("its options are not shown and keep their values"):
            _add(self, arguments_of(original, (self, *args), kwargs))

    view = point(module, "BaseOptimizerParamsWindowView")
    wrap(view, "build_dynamic_content", with_ours, *_WANTED)


def _add(view: Any, given: Mapping[str, Any]) -> None:
    method = method_of(point(given["controller"], "config"))
    if method is None:
        return
    for index, option in enumerate(method.options):
        # The host's layout: two fields per row, below the dropdown.
        place = index // 2 + 1, 3 * (index % 2)
        key = key_of(method, option)
        _show(point(view, "components"), given, place, option, key)


def _show(
    components: Any, given: Any, place: tuple[int, int], option: Option, key: str
) -> None:
    master, state = given["master"], given["optimizer_ui_state"]
    changed = given["update_user_pref_cb"]
    row, column = place
    components.label(master, row, column, _title(option), tooltip=_tooltip(option))
    if option.choices:
        choices = list(option.choices)
        components.options(
            master, row, column + 1, choices, state, key, command=lambda *_: changed()
        )
        return
    field = components.switch if option.type is bool else components.entry
    field(master, row, column + 1, state, key, command=changed)


def _title(option: Option) -> str:
    unit = f" ({option.unit})" if option.unit else ""
    return option.name.replace("_", " ").capitalize() + unit


def _tooltip(option: Option) -> str:
    if option.low is None and option.high is None:
        return option.text
    return f"{option.text} Range: {option.bounds}."
