"""Train in two processes on a CPU; each writes the factors that it ends with.

    python onetrainer_two.py CHECKOUT CONFIG FOLDER

OneTrainer's MultiTrainer starts its processes for CUDA alone. This starts two as it
does, with gloo between them, and each runs OneTrainer's own GenericTrainer, which
shares out the pictures and averages the gradients.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch

from stiefel_lora.integrations.onetrainer.launch import enter

WORLD = 2


def train(rank: int, root: Path, config_path: Path, folder: Path) -> None:
    """What MultiTrainer's ``_train_process`` does, without its devices."""
    enter(root)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD
    )
    from modules.trainer.GenericTrainer import GenericTrainer
    from modules.util import multi_gpu_util
    from modules.util.callbacks.TrainCallbacks import TrainCallbacks
    from modules.util.commands.TrainCommands import TrainCommands
    from modules.util.config.TrainConfig import TrainConfig

    config = TrainConfig.default_values()
    config.from_dict(json.loads(config_path.read_text("utf-8")))
    multi_gpu_util.set_global_commands(TrainCommands())
    trainer = GenericTrainer(config, TrainCallbacks(), TrainCommands())
    trainer.start()
    given = []

    def keep_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
        groups = optimizer.param_groups
        given.append([p.grad.clone() for group in groups for p in group["params"]])

    trainer.model.optimizer.register_step_pre_hook(keep_gradients)
    trainer.train()
    factors = [p.detach().clone() for p in trainer.parameters]
    torch.save({"factors": factors, "grads": given}, folder / f"{rank}.pt")
    trainer.end()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    given = tuple(Path(argument).absolute() for argument in sys.argv[1:4])
    torch.multiprocessing.spawn(train, args=given, nprocs=WORLD)
