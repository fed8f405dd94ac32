"""OneTrainer's window: the learning rate of a method, and a refusal as a message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from onetrainer_stand_in import configured


class Field:
    """A field of the window; what is set is written into the configuration."""

    def __init__(self, config: Any, name: str) -> None:
        self.config, self.name = config, name

    def get(self) -> str:
        value = getattr(self.config, self.name)
        return "" if value is None else str(value)

    def set(self, text: str) -> None:
        setattr(self.config, self.name, float(text) if text else None)


class Window:
    """The training tab or the dialog, over one configuration."""

    def __init__(self, host: Any, rate: float | None, dialog: bool = False) -> None:
        from modules.ui.BaseTrainingTabView import BaseTrainingTabView
        from modules.ui.OptimizerParamsWindowController import (
            OptimizerParamsWindowController,
        )
        from modules.ui.TrainingTabController import TrainingTabController

        self.host = host
        self.config = configured(host, "ADAMW", learning_rate=rate)
        kind = OptimizerParamsWindowController if dialog else TrainingTabController
        settings = SimpleNamespace(update=lambda _: None)
        rate_field = Field(self.config, "learning_rate")
        fields = {"optimizer": settings, "learning_rate": rate_field}
        state = SimpleNamespace(get_var=fields.__getitem__)
        self.tab = BaseTrainingTabView(kind(self.config), state)

    def choose(self, label: str) -> float:
        """Choose an optimizer; the learning rate afterwards."""
        self.config.optimizer.optimizer = self.host.Optimizer[label]
        self.tab.choose()
        return self.config.learning_rate

    def build(self, label: str) -> float:
        """Build the tab, as after a configuration is loaded."""
        self.config.optimizer.optimizer = self.host.Optimizer[label]
        self.tab.build(None, None)
        return self.config.learning_rate


@pytest.mark.parametrize("dialog", [False, True])
@pytest.mark.parametrize("rate", [3e-4, 1e-5, 1.0])
def test_choosing_a_method_proposes_where_it_starts(
    host: Any, dialog: bool, rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    window = Window(host, rate, dialog)
    assert window.choose("Stiefel LoRA") == 0.02
    said = f"set to 0.02, the default of Stiefel LoRA; it was {rate:g}."
    assert said in capsys.readouterr().out
    assert window.choose("Riemannion") == 0.01
    assert window.choose("SGD") == rate
    assert f"Learning rate restored to {rate}" in capsys.readouterr().out
    assert window.choose("ADAMW") == rate
    assert capsys.readouterr().out == ""


def test_an_empty_rate_is_filled_in_and_empty_again(host: Any) -> None:
    window = Window(host, None)
    assert window.choose("StelLA") == 5e-4
    assert window.choose("ADAMW") is None


def test_a_rate_that_suits_the_method_is_kept(host: Any) -> None:
    window = Window(host, 3e-4)
    assert window.choose("LoRA-RITE") == 3e-4
    assert window.choose("LoRA+") == 3e-4
    assert window.choose("Stiefel LoRA") == 0.02


def test_a_rate_that_was_typed_after_the_proposal_is_kept(host: Any) -> None:
    window = Window(host, 3e-4)
    window.choose("Stiefel LoRA")
    window.config.learning_rate = 0.05
    assert window.choose("Riemannion") == 0.05
    assert window.choose("ADAMW") == 0.05


@pytest.mark.parametrize("rate", [1e-4, 0.5])
def test_a_loaded_rate_is_not_replaced_while_the_tab_is_built(
    host: Any, rate: float
) -> None:
    window = Window(host, rate)
    assert window.build("Stiefel LoRA") == rate
    assert window.build("ADAMW") == rate


class View:
    """The view of a window; what it shows is shown by its own thread."""

    def __init__(self) -> None:
        self.shown: list[list[str]] = []
        self.waiting: list[Any] = []

    def schedule_on_main_thread(self, action: Any) -> None:
        self.waiting.append(action)

    def show_validation_errors(self, errors: list[str]) -> None:
        self.shown.append(errors)


def train_in_window(host: Any, config: Any) -> View:
    from modules.ui.TrainUIController import TrainUIController

    view = View()
    controller = TrainUIController(config, view)
    controller.start_training()
    controller.training_thread.join()
    assert view.shown == []
    for action in view.waiting:
        action()
    return view


@pytest.mark.parametrize(
    ("label", "changes", "message"),
    [
        (
            "Stiefel LoRA",
            {"peft_type": "LOHA"},
            "trains LoRA factors, which LOHA does not",
        ),
        (
            "StelLA",
            {"learning_rate": None},
            "Learning rate: must be a number of at least 0, but got empty",
        ),
    ],
)
def test_a_refusal_is_a_message_of_the_window(
    host: Any,
    capsys: pytest.CaptureFixture[str],
    label: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    view = train_in_window(host, configured(host, label, **changes))
    ((shown,),) = view.shown
    assert message in shown
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert printed.out.count(message) == 1
    assert "loading the model" not in printed.out


def test_a_refusal_after_the_model_was_loaded_is_a_message_too(
    host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(host, "Stiefel LoRA")
    config.lora_rank = 0
    config.peft_type = Late("LORA")
    view = train_in_window(host, config)
    ((shown,),) = view.shown
    assert "LoRA factors, which LOHA does not have" in shown
    printed = capsys.readouterr()
    assert "loading the model" in printed.out
    assert "Traceback" not in printed.err


class Late(str):
    """A type that has changed once it is looked at again."""

    asked = 0

    def __str__(self) -> str:
        self.asked += 1
        return "LORA" if self.asked == 1 else "LOHA"

    def __format__(self, spec: str) -> str:
        return "LOHA"


def test_trainings_of_a_window_go_on(
    host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("ADAMW", "Stiefel LoRA"):
        view = train_in_window(host, configured(host, label))
        assert view.shown == []
    assert "Stiefel LoRA trains 2 LoRA pairs" in capsys.readouterr().out


def test_an_error_of_the_hosts_own_stays_its_own(
    host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    view = train_in_window(host, configured(host, "Stiefel LoRA", lora_rank=-1))
    assert view.shown == []
    assert "Traceback" in capsys.readouterr().err
