"""modules/util/config/{BaseConfig,TrainConfig}.py: typed fields, errors swallowed."""

from enum import Enum
from types import SimpleNamespace

from modules.util.enum.Optimizer import Optimizer


class BaseConfig:
    """Fields come as (name, default, type, nullable)."""

    def __init__(self, data):
        self.types = {}
        self.nullables = {}
        for name, value, kind, nullable in data:
            setattr(self, name, value)
            self.types[name] = kind
            self.nullables[name] = nullable

    def to_dict(self):
        result = {}
        for name, kind in self.types.items():
            value = getattr(self, name)
            if isinstance(value, BaseConfig):
                value = value.to_dict()
            elif issubclass(kind, Enum):
                value = str(value)
            result[name] = value
        return result

    def from_dict(self, data, migrate=True):
        for name, kind in self.types.items():
            try:
                self._set(name, kind, data[name], migrate)
            except Exception:
                if name in data:
                    print(f"Could not set {name} as {data[name]}")
        return self

    def _set(self, name, kind, value, migrate):
        if issubclass(kind, BaseConfig):
            getattr(self, name).from_dict(value, migrate=migrate)
        elif issubclass(kind, Enum):
            setattr(self, name, kind[value] if isinstance(value, str) else value)
        elif kind is bool or (value is None and self.nullables[name]):
            setattr(self, name, value)
        else:
            setattr(self, name, kind(value))


class TrainOptimizerConfig(BaseConfig):
    """The settings of all optimizers in one."""

    def __init__(self, data):
        super().__init__(data)

    @staticmethod
    def default_values():
        return TrainOptimizerConfig(
            [
                ("optimizer", Optimizer.ADAMW, Optimizer, False),
                ("beta1", None, float, True),
                ("fused_back_pass", False, bool, False),
            ]
        )


class TrainConfig(BaseConfig):
    """What a training needs."""

    @staticmethod
    def default_values():
        config = TrainConfig(
            [
                ("optimizer", TrainOptimizerConfig.default_values(), BaseConfig, False),
                ("optimizer_defaults", {}, dict, False),
                ("training_method", "LORA", str, False),
                ("peft_type", "LORA", str, False),
                ("lora_rank", 4, int, False),
                ("lora_alpha", 1.0, float, False),
                ("lora_weight_dtype", "FLOAT_32", str, False),
                ("lora_decompose", False, bool, False),
                ("learning_rate", 3e-6, float, True),
                ("embedding_learning_rate", None, float, True),
                ("steps", 3, int, False),
                ("ema", "OFF", str, False),
                ("multi_gpu", False, bool, False),
            ]
        )
        config.cloud = SimpleNamespace(enabled=False)
        return config
