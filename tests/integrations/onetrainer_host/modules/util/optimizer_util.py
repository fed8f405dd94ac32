"""modules/util/optimizer_util.py: defaults, and the way to the optimizer."""

from modules.util.config.TrainConfig import TrainOptimizerConfig
from modules.util.enum.Optimizer import Optimizer

OPTIMIZER_DEFAULT_PARAMETERS = {
    Optimizer.ADAMW: {"beta1": 0.9, "fused_back_pass": False},
    Optimizer.SGD: {},
}


def change_optimizer(train_config):
    """What the dropdown does."""
    chosen = train_config.optimizer.optimizer
    config = TrainOptimizerConfig.default_values()
    config.from_dict(OPTIMIZER_DEFAULT_PARAMETERS[chosen])
    config.optimizer = chosen
    return config


def optimizer_to_device_(optimizer, device):
    """modules/util/torch_util.py: all state, whatever it is."""
    for state in optimizer.state_dict()["state"].values():
        for value in state.values():
            value.data = value.data.to(device)


def init_model_parameters(model, parameters, train_device):
    """Looks the functions up when it is called, as the host does."""
    model.parameters = parameters
    from modules.util import create

    model.optimizer = create.create_optimizer(
        parameters, model.optimizer_state_dict, model.train_config, None
    )
    optimizer_to_device_(model.optimizer, train_device)
    model.optimizer_state_dict = None
    model.ema = create.create_ema(
        parameters.parameters(), model.ema_state_dict, model.train_config
    )
    model.ema_state_dict = None
    groups = model.optimizer.param_groups
    if any("optim_type" in group for group in groups):
        kinds = [f"{g.get('name')}_{g.get('optim_type', 'unknown')}" for g in groups]
        model.param_group_mapping = kinds
    else:
        model.param_group_mapping = parameters.unique_name_mapping
