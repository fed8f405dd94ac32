"""modules/modelSetup/*LoRASetup.py: the layers of one model part."""

from modules.module.LoRAModule import LoRAModuleWrapper


def make_layers(model, config, fuse):
    return LoRAModuleWrapper(model.unet, "unet", config, fuse=fuse)
