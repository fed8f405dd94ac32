"""Contract of every method; a new method is tested once it is in the catalogue."""

from __future__ import annotations

import pytest
from catalogue_cases import (
    OWN_PRECISION,
    case,
    every_method,
    make,
    parametrized,
)
from lora_net import LoraNet, train

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.testing import contract


@parametrized(CATALOGUE)
def test_constructor_and_catalogue_agree(name):
    contract.constructor_and_catalogue_agree(case(name))


@every_method
def test_it_learns(name):
    contract.it_learns(case(name))


@every_method
def test_state_survives_a_file_and_resumes_to_the_bit(name):
    contract.state_survives_a_file_and_resumes_to_the_bit(case(name))


@every_method
def test_a_deep_copy_is_independent(name):
    contract.a_deep_copy_is_independent(case(name))


@every_method
def test_zero_gradients_leave_a_fresh_product_alone(name):
    contract.zero_gradients_leave_a_fresh_product_alone(case(name))


@every_method
def test_gradients_stay_as_the_caller_left_them(name):
    contract.gradients_stay_as_the_caller_left_them(case(name))


@every_method
def test_a_pair_without_gradients_is_left_alone(name):
    contract.a_pair_without_gradients_is_left_alone(case(name))


@every_method
def test_the_order_of_named_parameters_is_irrelevant(name):
    contract.the_order_of_named_parameters_is_irrelevant(case(name))


@every_method
def test_it_accepts_what_hosts_pass(name):
    contract.it_accepts_what_hosts_pass(case(name))


@every_method
def test_a_closure_is_called_once_with_gradients_enabled(name):
    contract.a_closure_is_called_once_with_gradients_enabled(case(name))


@every_method
def test_schedulers_drive_the_rate(name):
    contract.schedulers_drive_the_rate(case(name))


@parametrized(OWN_PRECISION)
def test_float64_stays_float64(name):
    contract.float64_stays_float64(case(name))
    model = LoraNet()
    optimizer = make(name, model)
    train(model, optimizer, 2)
    assert any(v.dim() > 1 for s in optimizer.state.values() for v in s.values())


@every_method
def test_an_unknown_option_names_the_nearest(name):
    with pytest.raises(OptionError, match="Did you mean 'weight_decay'"):
        make(name, LoraNet(), weight_dacay=0.1)


@every_method
def test_a_value_out_of_bounds_is_refused(name):
    with pytest.raises(OptionError, match=r"beta1=1.5 must be in \[0, 1\)"):
        make(name, LoraNet(), beta1=1.5)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'stiefel_lora'"):
        create_optimizer("stiefel", LoraNet())


def test_nothing_to_optimize_is_a_message():
    with pytest.raises(OptionError, match="got an empty parameter list"):
        create_optimizer("adamw", LoraNet().requires_grad_(False))


@every_method
def test_autocast_around_a_step_and_a_load_changes_nothing(name):
    contract.autocast_around_a_step_and_a_load_changes_nothing(case(name))
