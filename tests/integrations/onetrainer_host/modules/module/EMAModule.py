"""modules/module/EMAModule.py: running averages, and the way into the model."""

import torch


class EMAModuleWrapper:
    """Averages parameters one by one; ``.cpu()`` copies nothing on a CPU."""

    def __init__(self, parameters, decay=0.9, device=None):
        self.decay = decay
        self.ema_parameters = [p.detach().clone().to(device) for p in parameters]
        self.temp_stored_parameters = None

    @torch.no_grad()
    def step(self, parameters):
        for mean, parameter in zip(self.ema_parameters, parameters, strict=True):
            mean.lerp_(parameter, 1 - self.decay)

    def copy_ema_to(self, parameters, store_temp=True):
        if store_temp:
            self.temp_stored_parameters = [p.detach().cpu() for p in parameters]
        for mean, parameter in zip(self.ema_parameters, parameters, strict=True):
            parameter.data.copy_(mean)

    def copy_temp_to(self, parameters):
        kept = self.temp_stored_parameters
        for value, parameter in zip(kept, parameters, strict=True):
            parameter.data.copy_(value)
        self.temp_stored_parameters = None

    def load_state_dict(self, state_dict):
        self.ema_parameters = state_dict["ema_parameters"]

    def state_dict(self):
        return {"ema_parameters": self.ema_parameters}
