"""Plugins in OneTrainer.

Plugins of installed packages are loaded automatically. Files and modules are passed
with ``--plugin`` of the launcher or in the environment variable
``STIEFEL_LORA_PLUGINS``, which is also used by child processes.
"""

from __future__ import annotations

import os

from ..._exceptions import ConfigError
from ...methods import load_installed, load_plugin
from ...methods.plugins import is_file_name
from ._choices import offer_methods
from ._console import say

__all__ = ["VARIABLE", "load_plugins", "take_plugins"]

VARIABLE = "STIEFEL_LORA_PLUGINS"


def take_plugins(arguments: list[str]) -> list[str]:
    """Load the plugins of ``--plugin``, also for child processes.

    Returns:
        The arguments without ``--plugin``.

    Raises:
        ConfigError: If a plugin does not exist, cannot be imported, or does not
            register a method.
    """
    rest, named = [], _named()
    waiting = False
    for argument in arguments:
        name, given, value = argument.partition("=")
        if waiting:
            named.append(_whole(argument))
            waiting = False
        elif name != "--plugin":
            rest.append(argument)
        elif given:
            named.append(_whole(value))
        else:
            waiting = True
    if waiting:
        raise ConfigError("--plugin requires a file or a module.")
    for text in named:
        load_plugin(text)
    os.environ[VARIABLE] = os.pathsep.join(named)
    return rest


def load_plugins() -> None:
    """Load installed and requested plugins, and add their methods."""
    problems = load_installed()
    for text in _named():
        try:
            load_plugin(text)
        except ConfigError as error:
            problems.append(str(error))
    for problem in problems:
        say(problem)
    offer_methods()


def _named() -> list[str]:
    return [text for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]


def _whole(text: str) -> str:
    """Make a path absolute, because OneTrainer runs in its checkout."""
    return os.path.abspath(os.path.expanduser(text)) if is_file_name(text) else text
