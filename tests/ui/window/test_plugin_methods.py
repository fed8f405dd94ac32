"""Optimizers of plugins in the dropdown of the window."""

from __future__ import annotations

from helpers.plugin_methods import forgetting_plugins, write_plugin
from stiefel_lora.ui.views.optimizer import OptimizerPanel


def test_a_plugin_that_is_named_fills_dropdown_and_form(open_window, tmp_path):
    plugin = write_plugin(tmp_path)
    with forgetting_plugins():
        window = open_window()
        panel = window.findChild(OptimizerPanel)
        assert panel.combo.findText("Sign LoRA") == -1
        window.document.set("plugins", [str(plugin)])
        window.examine()
        place = panel.combo.findText("Sign LoRA")
        assert place >= 0
        assert panel.combo.currentText() != "Sign LoRA"
        panel.chosen.emit(panel.names[place])
        window.examine()
        assert panel.combo.currentText() == "Sign LoRA"
        assert panel.form is not None
        assert [*panel.form.rows] == ["momentum"]
        plugin.unlink()
        window.examine()
        assert "plugins" in window.findings.errors
