"""modules/module/{LoRAModule,FusedModule}.py: layers, a wrapper for a model part."""

import math

import torch
from torch import nn


class LoRAModule(nn.Module):
    """Factors made on construction; A random and B zero."""

    def __init__(self, prefix, orig_module, rank, alpha):
        super().__init__()
        self.prefix = prefix + "."
        self._orig_module = [orig_module]
        self.rank = rank
        self.register_buffer("alpha", torch.tensor(alpha))
        out, width = orig_module.weight.shape
        self.lora_down = nn.Linear(width, rank, bias=False)
        self.lora_up = nn.Linear(rank, out, bias=False)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_up.weight)

    def hook_to_module(self):
        layer = self._orig_module[0]
        self.orig_forward = layer.forward
        layer.forward = self.forward

    def product(self):
        product = self.lora_up.weight @ self.lora_down.weight
        return product * (self.alpha / self.rank)

    def forward(self, x):
        return self.orig_forward(x) + x @ self.product().mT


class DoRAModule(LoRAModule):
    """Its scale is one number for every input."""

    def __init__(self, prefix, orig_module, rank, alpha):
        super().__init__(prefix, orig_module, rank, alpha)
        norms = orig_module.weight.detach().norm(dim=0, keepdim=True)
        self.dora_scale = nn.Parameter(norms)

    def forward(self, x):
        layer = self._orig_module[0]
        moved = layer.weight + self.product()
        norm = moved.detach().norm(dim=0, keepdim=True)
        weight = self.dora_scale * moved / norm
        return nn.functional.linear(x, weight, layer.bias)


class FusedModuleGroup:
    """Not an nn.Module; the layer that is trained is inside."""

    def __init__(self, module):
        self.module = module

    def parameters(self):
        return self.module.parameters()

    def hook_to_module(self):
        self.module.hook_to_module()


class LoRAModuleWrapper:
    """All layers of a model part whose class is Linear."""

    def __init__(self, orig_module, prefix, config, module_filter=None, fuse=None):
        self.prefix = prefix
        kind = DoRAModule if config.lora_decompose else LoRAModule
        self.lora_modules = {}
        for name, layer in orig_module.named_modules():
            if isinstance(layer, nn.Linear):
                full = f"{prefix}.{name}"
                lora = kind(full, layer, config.lora_rank, config.lora_alpha)
                self.lora_modules[name] = FusedModuleGroup(lora) if fuse else lora

    def _layers(self):
        return [getattr(entry, "module", entry) for entry in self.lora_modules.values()]

    def parameters(self):
        return [p for entry in self.lora_modules.values() for p in entry.parameters()]

    def state_dict(self):
        return {
            layer.prefix + name: value
            for layer in self._layers()
            for name, value in layer.state_dict().items()
        }

    def load_state_dict(self, state):
        for layer in self._layers():
            own = {name: state[layer.prefix + name] for name in layer.state_dict()}
            layer.load_state_dict(own)

    def hook_to_module(self):
        for entry in self.lora_modules.values():
            entry.hook_to_module()
