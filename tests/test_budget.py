from __future__ import annotations

import pytest
import torch

from e4profile.budget import Budget, MeasuredStep, Recipe, measure_budget, recipe_of, training_macs
from e4profile.cards import find_card
from e4profile.errors import SettingError, UnknownNameError
from e4profile.memory.predict import predict
from e4profile.timing import MeasurementError, Samples, StopRule, TimeRecord, Work
from e4profile.timing.energy import energy_per_call_j
from e4profile.training import training_step_macs

SMALL = find_card("e4net").with_arguments({"width": 2})


def test_steps_round_the_last_batch_up():
    assert Recipe(200, 128, 50000).steps == 200 * 391
    assert Recipe(3, 10, 100).steps == 30
    assert (
        Recipe(1, 64, 10).full_steps_per_epoch,
        Recipe(1, 64, 10).last_batch,
        Recipe(1, 64, 10).steps,
    ) == (0, 10, 1)


def test_a_trainings_macs_are_those_of_its_images_each_epoch():
    model = SMALL.build("meta")
    one = training_step_macs(model, SMALL.input_shape(1))
    found = training_macs(model, SMALL.input, Recipe(7, 32, 100))
    assert found.forward == 7 * 100 * one.forward
    assert found.backward == 7 * 100 * one.backward
    assert found.total == found.forward + found.backward
    assert training_macs(model, SMALL.input, Recipe(7, 25, 100)) == found


def test_the_cards_recipe_is_read():
    recipe = recipe_of("r18", find_card("r18").training)
    assert recipe == Recipe(200, 128, 50000, "momentum")
    assert recipe_of("e4net", find_card("e4net").training).optimiser == "adam"
    assert recipe_of("r18", find_card("r18").training, {"momentum": 0, "epochs": 1}) == Recipe(
        1, 128, 50000, "sgd"
    )


def test_a_recipe_that_lacks_a_value_says_which_and_how_to_give_it():
    with pytest.raises(SettingError, match=r"recipe of x lacks epochs, training_images; .*--recipe epochs="):
        recipe_of("x", {"batch_size": 3})
    with pytest.raises(UnknownNameError, match="did you mean epochs"):
        recipe_of("x", {}, {"epoch": 3})
    with pytest.raises(UnknownNameError, match="optimiser"):
        Recipe(1, 1, 1, "lamb")
    with pytest.raises(SettingError, match=r"epochs \(=0\)"):
        Recipe(0, 1, 1)


def test_without_a_device_nothing_runs():
    found = measure_budget(SMALL, Recipe(2, 16, 100, "adam"))
    assert (found.step, found.hours, found.energy_kwh) == (None, None, None)
    assert found.params == sum(parameter.numel() for parameter in SMALL.build("meta").parameters())
    assert (
        found.memory.step_bytes == predict(SMALL.build("meta"), SMALL.input, 16, optimiser="adam").step_bytes
    )
    half = measure_budget(SMALL, Recipe(2, 16, 100, "adam"), dtype="bfloat16")
    assert half.memory.state.parameter_bytes * 2 == found.memory.state.parameter_bytes


def _record(seconds: float) -> TimeRecord:
    samples = Samples((seconds,) * 10, 0, 1.0, 7, True, "noise target", "")
    return TimeRecord(
        "x", "step", "train", "mean", "cpu", "float32", (4, 1, 1, 1), False, False, 1, "", samples, {}
    )


def test_hours_and_energy_follow_from_one_step():
    recipe = Recipe(10, 4, 42)
    macs, memory = (
        training_macs(SMALL.build("meta"), SMALL.input, recipe),
        measure_budget(SMALL, recipe).memory,
    )
    found = Budget("x", 1, recipe, macs, memory, MeasuredStep(_record(36.0), energy_j=3.6e6))
    assert found.hours == pytest.approx(1.1)
    assert found.energy_kwh == pytest.approx(110.0)
    assert Budget("x", 1, recipe, macs, memory, MeasuredStep(_record(36.0))).energy_kwh is None


def test_a_step_is_measured_at_the_recipes_batch_on_the_cpu():
    rule = StopRule(min_run_time_s=0.0, max_run_time_s=0.05)
    found = measure_budget(SMALL, Recipe(1, 3, 9), device="cpu", dtype="float64", rule=rule)
    assert found.step is not None
    record = found.step.record
    assert (record.pass_, record.mode, record.input_shape, record.dtype) == (
        "step",
        "train",
        (3, 1, 28, 28),
        "float64",
    )
    assert found.hours == pytest.approx(3 * record.median_s / 3600)
    assert found.step.peak_bytes is None


def test_a_missing_device_is_refused_before_anything_is_built():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(SettingError, match="finds no CUDA device"):
        measure_budget(SMALL, Recipe(1, 1, 1), device="cuda")


class _Meter:
    """A device that uses two joules a call and a second for it; its counter starts anywhere."""

    def __init__(self, joules_per_call: float = 2.0) -> None:
        self.joules, self.wall_s, self.per_call = 1000.0, 0.0, joules_per_call
        self.pending = 0.0

    def launch(self, _: object) -> None:
        self.pending += self.per_call

    def synchronize(self) -> None:
        self.joules += self.pending
        self.pending = 0.0
        self.wall_s += 1.0


def test_energy_is_averaged_over_synchronised_calls():
    meter = _Meter()
    found = energy_per_call_j(
        Work(meter.launch),
        lambda: meter.joules,
        meter.synchronize,
        min_run_time_s=5.0,
        now=lambda: meter.wall_s,
    )
    assert found == 2.0
    assert meter.wall_s == 6.0


def test_energy_needs_a_counter_that_moves():
    meter = _Meter(0.0)
    arguments = {"min_run_time_s": 2.0, "now": lambda: meter.wall_s}
    assert energy_per_call_j(Work(meter.launch), lambda: None, meter.synchronize, **arguments) is None
    with pytest.raises(MeasurementError, match="did not move during"):
        energy_per_call_j(Work(meter.launch), lambda: meter.joules, meter.synchronize, **arguments)
