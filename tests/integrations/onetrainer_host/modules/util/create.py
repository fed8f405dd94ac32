"""modules/util/create.py: imports a whole folder, then defines what makes things."""

import importlib
import inspect
from pathlib import Path

import torch
from modules.module.EMAModule import EMAModuleWrapper
from modules.util.enum.Optimizer import Optimizer

for found in sorted(Path("modules/modelSetup").glob("*.py")):
    importlib.import_module(f"modules.modelSetup.{found.stem}")


def create_optimizer(parameter_group_collection, state_dict, config, layer_key_fn=None):
    """Only the host's own; anything else ends without an optimizer."""
    parameters = parameter_group_collection.parameters_for_optimizer(config)
    optimizer = None
    match config.optimizer.optimizer:
        case Optimizer.ADAMW:
            optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate)
        case Optimizer.SGD:
            optimizer = torch.optim.SGD(parameters, lr=config.learning_rate)
    if state_dict is not None and optimizer is not None:
        optimizer.load_state_dict(state_dict)
    return optimizer


def create_ema(parameters, state_dict, config):
    """None where it is off."""
    if config.ema == "OFF":
        return None
    ema = EMAModuleWrapper(parameters=parameters)
    if state_dict is not None:
        ema.load_state_dict(state_dict)
    return ema


def create_trainer(config, callbacks, commands):
    """The trainer of the stand-in lives with its script."""
    from stand_in import Trainer

    assert inspect.isclass(Trainer)
    return Trainer(config)
