"""LoRA alpha field of OneTrainer.

If the selected method controls the scale, a read-only field with the rank is shown. The
value of the user is restored when another optimizer is selected.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ._choices import method_of
from ._hooks import tolerated
from ._points import MissingPoint, arguments_of, point, wrap
from ._toolkits import lock, show, when_gone

__all__ = ["lock_alpha"]

_WANTED = ("master", "controller", "ui_state", "peft_type")
_NOTE = "= LoRA rank"
_TOOLTIP = (
    "The selected optimizer sets the scale of the LoRA, so alpha always equals the "
    "rank. Your alpha is restored when another optimizer is selected."
)


def lock_alpha(module: ModuleType) -> None:
    """Show the rank instead of alpha in the LoRA tab if the method requires it."""

    def with_rank(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        given = arguments_of(original, (self, *args), kwargs)
        components = getattr(self, "components", None)
        seen = self.components = _Watched(components)
        try:
            original(self, *args, **kwargs)
        finally:
            self.components = components
        with tolerated("the LoRA tab shows alpha, although training uses the rank"):
            if given["peft_type"].name == "LORA":
                _add_rank(components, given, seen)

    wrap(point(module, "BaseLoraTabView"), "build_lora_options", with_rank, *_WANTED)


class _Watched:
    """Toolkit components that store the alpha field and its position."""

    def __init__(self, components: Any) -> None:
        self._components = components
        self.alpha: tuple[Any, int, int] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._components, name)

    def entry(self, *args: Any, **kwargs: Any) -> Any:
        widget = self._components.entry(*args, **kwargs)
        with tolerated("the LoRA tab shows alpha, although training uses the rank"):
            given = arguments_of(self._components.entry, args, kwargs)
            if given["var_name"] == "lora_alpha":
                self.alpha = widget, given["row"], given["column"]
        return widget


def _add_rank(components: Any, given: Any, seen: _Watched) -> None:
    if seen.alpha is None:
        raise MissingPoint("field lora_alpha in BaseLoraTabView.build_lora_options")
    alpha, row, column = seen.alpha
    master, state = given["master"], given["ui_state"]
    rank = components.entry(master, row, column, state, "lora_rank", tooltip=_TOOLTIP)
    lock(rank)
    note = components.label(master, row, column + 1, _NOTE, tooltip=_TOOLTIP)
    config = point(given["controller"], "train_config")

    def refresh() -> None:
        method = method_of(config)
        owned = method is not None and method.alpha_policy == "rank"
        show(alpha, not owned)
        show(rank, owned)
        show(note, owned)

    refresh()
    chosen = state.get_var("optimizer")
    trace = chosen.add_var_trace("optimizer", refresh)
    when_gone(rank, lambda: chosen.remove_var_trace("optimizer", trace))
