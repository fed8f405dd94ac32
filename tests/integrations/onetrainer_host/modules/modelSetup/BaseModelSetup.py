"""modules/modelSetup/BaseModelSetup.py: the numbers of a step."""


class BaseModelSetup:
    """What every model setup of the host inherits."""

    def report_to_tensorboard(self, model, config, scheduler, tensorboard):
        if any("optim_type" in group for group in model.optimizer.param_groups):
            rates = {
                f"{group['name']}_{group.get('optim_type', 'unknown')}": group["lr"]
                for group in model.optimizer.param_groups
            }
        else:
            names = model.parameters.display_name_mapping
            rates = dict(zip(names, scheduler.get_last_lr(), strict=True))
        for name, rate in rates.items():
            step = model.train_progress.global_step
            tensorboard.add_scalar(f"lr/{name}", rate, step)
