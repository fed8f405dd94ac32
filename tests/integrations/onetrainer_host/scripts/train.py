"""scripts/train.py: reads a config, trains, and here writes what came of it."""

import argparse
import json

import torch
from modules.util import create
from modules.util.config.TrainConfig import TrainConfig


def in_child(rank, config):
    """MultiTrainer: every child unpickles the config and makes its own trainer."""
    trainer = create.create_trainer(config, None, None)
    trainer.start()
    print("child:", type(trainer.model.optimizer).__name__, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-path", required=True)
    parser.add_argument("--config-value", action="append", default=[])
    arguments = parser.parse_args()
    config = TrainConfig.default_values()
    with open(arguments.config_path) as file:
        config.from_dict(json.load(file))
    for value in arguments.config_value:
        key, _, chosen = value.partition("=")
        target = config
        *parents, leaf = key.split(".")
        for parent in parents:
            target = getattr(target, parent)
        target.from_dict({leaf: chosen}, migrate=False)
    if config.multi_gpu:
        torch.multiprocessing.spawn(in_child, args=(config,))
        return
    trainer = create.create_trainer(config, None, None)
    trainer.start()
    trainer.train(config.steps)
    print("optimizer:", type(trainer.model.optimizer).__name__)
    print("curves:", " ".join(trainer.tensorboard))
