"""OneTrainer's window: the options of a method, and the rank in place of alpha."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from onetrainer_stand_in import LABELS, configured

from stiefel_lora.integrations.onetrainer._alpha_field import lock_alpha
from stiefel_lora.integrations.onetrainer._choices import OFFERED


class Components:
    """Records the widgets that a window asks for."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], tuple[str, Any]] = {}

    def __getattr__(self, kind: str) -> Any:
        def make(master: Any, row: int, column: int, *rest: Any, **more: Any) -> None:
            assert (row, column) not in self.made
            self.made[row, column] = (kind, rest)

        return make


@pytest.mark.parametrize("label", LABELS)
def test_the_window_shows_every_option(host: Any, label: str) -> None:
    components = Components()
    controller = SimpleNamespace(config=configured(host, label))
    view = host.window(components)
    view.build_dynamic_content(None, controller, "state", lambda: None, None)
    options = OFFERED[label].options
    # The fused back pass is a field of the host's own.
    assert len(components.made) == 2 * (len(options) + OFFERED[label].separable)
    for index, option in enumerate(options):
        row, column = index // 2 + 1, 3 * (index % 2)
        assert components.made[row, column][0] == "label"
        kind = components.made[row, column + 1][0]
        expected = "switch" if option.type is bool else "entry"
        assert kind == ("options" if option.choices else expected)


class QtWidget:
    """What PySide6 calls showing, locking and the end of a widget."""

    def __init__(self) -> None:
        self.visible, self.enabled = True, True
        self._ends: list[Any] = []
        self.destroyed = SimpleNamespace(connect=self._ends.append)

    def setVisible(self, visible: bool) -> None:
        self.visible = visible

    def setEnabled(self, enabled: bool) -> None:
        self.enabled = enabled

    def end(self) -> None:
        for action in self._ends:
            action(self)


class TkWidget:
    """The same in customtkinter."""

    def __init__(self) -> None:
        self.visible, self.enabled = True, True
        self._ends: list[Any] = []

    def grid(self) -> None:
        self.visible = True

    def grid_remove(self) -> None:
        self.visible = False

    def configure(self, state: str) -> None:
        self.enabled = state == "normal"

    def bind(self, event: str, action: Any, add: str) -> None:
        assert (event, add) == ("<Destroy>", "+")
        self._ends.append(action)

    def end(self) -> None:
        for action in self._ends:
            action(None)


class Toolkit:
    """Makes widgets; a field is found by what it is bound to and by its order."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.fields: dict[str, list[Any]] = {}
        self.labels: dict[str, Any] = {}

    def entry(
        self,
        master: Any,
        row: int,
        column: int,
        ui_state: Any,
        var_name: str,
        **more: Any,
    ) -> Any:
        widget = self.kind()
        self.fields.setdefault(var_name, []).append((widget, row, column))
        return widget

    def label(self, master: Any, row: int, column: int, text: str, tooltip: str) -> Any:
        self.labels[text] = self.kind()
        return self.labels[text]


class State:
    """The window's state of optimizer settings: calls back when one is changed."""

    def __init__(self) -> None:
        self.traces: dict[int, Any] = {}

    def get_var(self, name: str) -> State:
        assert name == "optimizer"
        return self

    def add_var_trace(self, name: str, command: Any) -> int:
        assert name == "optimizer"
        self.traces[len(self.traces)] = command
        return len(self.traces) - 1

    def remove_var_trace(self, name: str, trace: int) -> None:
        del self.traces[trace]


def open_tab(host: Any, toolkit: Any, config: Any, peft: str = "LORA") -> State:
    state = State()
    controller = SimpleNamespace(train_config=config)
    host.tab(toolkit).build_lora_options(
        None, controller, state, SimpleNamespace(name=peft)
    )
    return state


@pytest.mark.parametrize("kind", [QtWidget, TkWidget])
def test_the_rank_stands_for_alpha_while_a_method_owns_it(
    host: Any, kind: type
) -> None:
    config = configured(host, "ADAMW", lora_alpha=2.0)
    toolkit = Toolkit(kind)
    state = open_tab(host, toolkit, config)
    ((alpha, *place),) = toolkit.fields["lora_alpha"]
    _, (rank, *rank_place) = toolkit.fields["lora_rank"]
    assert place == rank_place
    assert not rank.enabled
    note = toolkit.labels["= LoRA rank"]
    for label, owned in (("Stiefel LoRA", True), ("LoRA-RITE", False), ("SGD", False)):
        config.optimizer.optimizer = host.Optimizer[label]
        for trace in state.traces.values():
            trace()
        assert (alpha.visible, rank.visible, note.visible) == (not owned, owned, owned)
        assert alpha.enabled
    assert config.lora_alpha == 2.0
    rank.end()
    assert not state.traces


def test_layers_without_factors_keep_their_alpha(host: Any) -> None:
    toolkit = Toolkit(QtWidget)
    state = open_tab(host, toolkit, configured(host, "Stiefel LoRA"), peft="LOKR")
    assert len(toolkit.fields["lora_rank"]) == 1
    assert not state.traces


def test_a_tab_without_alpha_is_a_message(
    host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Renamed(Toolkit):
        def entry(
            self, master: Any, row: int, column: int, ui_state: Any, var_name: str
        ) -> Any:
            return None

    class Tab:
        def __init__(self, components: Any) -> None:
            self.components = components

        def build_lora_options(
            self, master: Any, controller: Any, ui_state: Any, peft_type: Any
        ) -> None:
            self.components.entry(master, 1, 1, ui_state, "lora_scale")

    lock_alpha(SimpleNamespace(BaseLoraTabView=Tab))
    Tab(Renamed(QtWidget)).build_lora_options(
        None, None, None, SimpleNamespace(name="LORA")
    )
    assert "has no field lora_alpha" in capsys.readouterr().out
