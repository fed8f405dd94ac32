"""GenericTrainer and a model setup, in the host's order of calls."""

import copy
from pathlib import Path
from types import SimpleNamespace

import torch
from modules.modelSetup.BaseModelSetup import BaseModelSetup
from modules.modelSetup.StandInLoRASetup import make_layers
from modules.util import optimizer_util
from torch import nn


class Groups:
    """NamedParameterGroupCollection: parameters and learning rate of each part."""

    def __init__(self, parts):
        self.unique_name_mapping = self.display_name_mapping = list(parts)
        self._parts = parts

    def parameters(self):
        return [p for parameters, _ in self._parts.values() for p in parameters]

    def parameters_for_optimizer(self, config):
        return [
            {"name": name, "params": list(params), "lr": rate, "initial_lr": rate}
            for name, (params, rate) in self._parts.items()
        ]


class Model:
    """A model part with layers that a LoRA goes into."""

    def __init__(self, config):
        torch.manual_seed(0)
        self.train_config = config
        self.unet = nn.ModuleDict()
        layers = nn.Linear(12, 16), nn.Linear(16, 10)
        blocks = [nn.ModuleDict({"proj": layer}) for layer in layers]
        self.unet["down_blocks"] = nn.ModuleList(blocks)
        self.unet["head"] = nn.Linear(10, 3)
        self.unet.requires_grad_(False)
        self.embedding = nn.Parameter(torch.zeros(12))
        self.lora_state_dict = self.optimizer_state_dict = None
        self.ema_state_dict = None
        self.train_progress = SimpleNamespace(global_step=0)

    def adapters(self):
        return [self.unet_lora]

    def predict(self, x):
        x = x + self.embedding
        first, second = self.unet["down_blocks"]
        hidden = torch.tanh(second["proj"](torch.tanh(first["proj"](x))))
        return self.unet["head"](hidden)


class Trainer:
    """start, train, backup."""

    def __init__(self, config, fuse=False):
        self.config = config
        self.model = Model(config)
        self.setup = BaseModelSetup()
        self.tensorboard = Scalars()
        self.fuse = fuse

    def start(self, backup=None):
        model, config = self.model, self.config
        print("loading the model")
        model.unet_lora = make_layers(model, config, self.fuse)
        if backup is not None:
            model.lora_state_dict, model.optimizer_state_dict = backup[:2]
            model.train_progress.global_step = backup[2]
            model.ema_state_dict = backup[3]
        if model.lora_state_dict is not None:
            model.unet_lora.load_state_dict(model.lora_state_dict)
        for parameter in model.unet_lora.parameters():
            parameter.data = parameter.data.to(self._lora_dtype())
        model.unet_lora.hook_to_module()
        parts = {"unet_lora": (model.unet_lora.parameters(), config.learning_rate)}
        if config.embedding_learning_rate is not None:
            rate = config.embedding_learning_rate
            parts = {"embeddings": ([model.embedding], rate), **parts}
        groups = Groups(parts)
        optimizer_util.init_model_parameters(model, groups, "cpu")
        self.parameters = groups.parameters()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(model.optimizer, lambda _: 1)
        self._fuse_back_pass()

    def _lora_dtype(self):
        half = self.config.lora_weight_dtype == "BFLOAT_16"
        return torch.bfloat16 if half else torch.float32

    def _fuse_back_pass(self):
        chosen = self.config.optimizer
        if not (chosen.fused_back_pass and chosen.optimizer.supports_fused_back_pass()):
            return
        for group in self.model.optimizer.param_groups:
            for index, parameter in enumerate(group["params"]):

                def step(tensor, group=group, index=index):
                    self.model.optimizer.step_parameter(tensor, group, index)
                    tensor.grad = None

                parameter.register_post_accumulate_grad_hook(step)

    def end(self):
        """Saves nothing here."""

    def train(self, steps=None):
        model = self.model
        for _ in range(steps or self.config.steps):
            model.train_progress.global_step += 1
            made = torch.Generator().manual_seed(model.train_progress.global_step)
            x = torch.randn(32, 12, generator=made)
            half = self._lora_dtype() == torch.bfloat16
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                predicted = model.predict(x)
            loss = (predicted.float() - x[:, :3]).square().mean()
            loss.backward()
            model.optimizer.step()
            self.scheduler.step()
            model.optimizer.zero_grad(set_to_none=True)
            if model.ema:
                model.ema.step(self.parameters)
            self.setup.report_to_tensorboard(
                model, self.config, self.scheduler, self.tensorboard
            )

    def backup(self, path):
        model = self.model
        state = model.optimizer.state_dict()
        state["param_group_mapping"] = model.param_group_mapping
        label = str(self.config.optimizer.optimizer)
        state["param_group_optimizer_mapping"] = [label] * len(
            model.param_group_mapping
        )
        step = model.train_progress.global_step
        averages = model.ema.state_dict() if model.ema else None
        weights = copy.deepcopy(model.unet_lora.state_dict())
        torch.save((weights, state, step, averages), path)
        return torch.load(Path(path), weights_only=True)


class Scalars(dict):
    """A SummaryWriter that keeps what it is given."""

    def add_scalar(self, tag, value, step):
        self.setdefault(tag, []).append((step, value))
