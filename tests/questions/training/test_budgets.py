from __future__ import annotations

import json
import sys

import pytest
import torch
from program import says

from e4profile.cli.main import main
from e4profile.errors import SettingError, UnknownNameError
from e4profile.networks.cards import all_cards
from e4profile.questions.training.command import _recipe
from e4profile.questions.training.training import (
    Budget,
    MeasuredStep,
    Recipe,
    TrainingMacs,
    measure_budget,
    recipe_of,
    training_macs,
)
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.closed_form import training_step_macs
from e4profile.witnesses.counts.training_step import count_training_step
from e4profile.witnesses.memory.step import predict
from e4profile.witnesses.timing.clock import MeasurementError, Work
from e4profile.witnesses.timing.cuda import energy_per_call_j
from e4profile.witnesses.timing.samples import Samples, StopRule, TimeRecord

SMALL = resolve("e4net").with_arguments({"width": 2})


def test_steps_round_the_last_batch_up():
    assert Recipe(200, 128, 50000).steps == 200 * 391
    assert Recipe(3, 10, 100).steps == 30
    assert Recipe(1, 2, 2**60 + 1).steps == 2**59 + 1
    assert (Recipe(1, 64, 10).full_steps_per_epoch, Recipe(1, 64, 10).last_batch, Recipe(1, 64, 10).steps) == (0, 10, 1)


def test_a_trainings_macs_are_those_of_its_images_each_epoch():
    model = SMALL.build("meta")
    one = training_step_macs(model, (1, *SMALL.input))
    found = training_macs(model, SMALL.input, Recipe(7, 32, 100))
    assert found.forward == 7 * 100 * one.forward
    assert found.backward == 7 * 100 * one.backward
    assert found.total == found.forward + found.backward
    assert training_macs(model, SMALL.input, Recipe(7, 25, 100)) == found


def test_the_cards_recipe_is_read():
    recipe = recipe_of("r18", resolve("r18").training)
    assert recipe == Recipe(200, 128, 50000, "momentum")
    assert recipe_of("e4net", resolve("e4net").training).optimiser == "adam"
    assert recipe_of("r18", resolve("r18").training, {"momentum": 0, "epochs": 1}) == Recipe(1, 128, 50000, "sgd")


def test_a_recipe_is_of_the_card_whatever_arguments_its_name_has():
    r18 = resolve("r18")
    assert _recipe(SMALL, ["r18(width=8),epochs=1"]) == recipe_of("r18", r18.training, {"epochs": 1})
    assert _recipe(SMALL, ["r18", "optimiser=adamw"]).optimiser == "adamw"
    with pytest.raises(UnknownNameError, match="did you mean width"):
        _recipe(SMALL, ["r18(widht=8)"])


def test_the_remedy_for_a_card_without_the_whole_recipe_works_as_it_stands():
    lacking = 0
    for card in all_cards().values():
        try:
            recipe_of(card.name, card.training)
        except SettingError as error:
            lacking += 1
            (option, text) = str(error).partition("for example ")[2].split(" ")
            assert option == "--recipe"
            _recipe(card, [text])
    assert lacking > 1


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
    assert found.memory.step_bytes == predict(SMALL.build("meta"), SMALL.input, 16, optimiser="adam").step_bytes
    half = measure_budget(SMALL, Recipe(2, 16, 100, "adam"), dtype="bfloat16")
    assert half.memory.state.parameter_bytes * 2 == found.memory.state.parameter_bytes


def _record(seconds: float) -> TimeRecord:
    samples = Samples((seconds,) * 10, 0, 1.0, 7, True, "noise target", "")
    return TimeRecord("x", "step", "train", "mean", "cpu", "float32", (4, 1, 1, 1), False, False, 1, "", samples, {})


def test_hours_and_energy_follow_from_one_step():
    recipe = Recipe(10, 4, 42)
    macs, memory = (training_macs(SMALL.build("meta"), SMALL.input, recipe), measure_budget(SMALL, recipe).memory)
    found = Budget("x", 1, recipe, macs, memory, MeasuredStep(_record(36.0), energy_j=3.6e6))
    assert found.hours == pytest.approx(1.1)
    assert found.energy_kwh == pytest.approx(110.0)
    assert Budget("x", 1, recipe, macs, memory, MeasuredStep(_record(36.0))).energy_kwh is None


def test_a_step_is_measured_at_the_recipes_batch_on_the_cpu():
    rule = StopRule(min_run_time_s=0.0, max_run_time_s=0.05)
    found = measure_budget(SMALL, Recipe(1, 3, 9), device="cpu", dtype="float64", rule=rule)
    assert found.step is not None
    record = found.step.record
    assert (record.pass_, record.mode, record.input_shape, record.dtype) == ("step", "train", (3, 1, 28, 28), "float64")
    assert found.hours == pytest.approx(3 * record.median_s / 3600)
    assert found.step.peak_bytes == found.memory.peak_bytes > 0


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
        Work(meter.launch), lambda: meter.joules, meter.synchronize, min_run_time_s=5.0, now=lambda: meter.wall_s
    )
    assert found == 2.0
    assert meter.wall_s == 6.0


def test_energy_needs_a_counter_that_moves():
    meter = _Meter(0.0)
    arguments = {"min_run_time_s": 2.0, "now": lambda: meter.wall_s}
    assert energy_per_call_j(Work(meter.launch), lambda: None, meter.synchronize, **arguments) is None
    with pytest.raises(MeasurementError, match="did not move during"):
        energy_per_call_j(Work(meter.launch), lambda: meter.joules, meter.synchronize, **arguments)


NETS = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, bias=False), nn.Linear(5, width)
        self.head = nn.Linear(width, 10)

    def forward(self, image, extra):
        return self.head(self.a(image).mean((2, 3)) + self.b(extra))

def grouped(groups=4):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, groups=groups, bias=False)
    )

def transposed():
    return nn.ConvTranspose2d(3, 6, 4, stride=2, bias=False)

def lazy():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10))

def concrete(width=2):
    assert torch.tensor(1).item() == 1
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.Linear(36 * width, 10))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return lambda name, *inputs: resolve(f"{tmp_path / 'nets.py'}:{name}", inputs)


@pytest.mark.parametrize("name", ["p4-cnn", "z2cnn", "gc-p4cnn", "p4-sa", "alpha-p4-cnn"])
def test_the_counted_step_is_the_closed_forms(name):
    card = resolve(name)
    model = card.build("meta")
    counted, form = count_training_step(model, card.input, 2), training_step_macs(model, (2, *card.input))
    assert (counted.forward, counted.backward) == (form.forward, form.backward)
    assert counted.unknown == {}


def test_both_gradients_of_a_grouped_convolution_cost_what_its_forward_pass_costs(own):
    first, second = 8 * 27 * 36, 16 * 2 * 9 * 16
    model = own("grouped", "1x3x8x8").build("meta")
    found = count_training_step(model, (3, 8, 8), 5)
    assert (found.forward, found.backward) == (5 * (first + second), 5 * (first + 2 * second))


def test_a_transposed_convolution_by_hand(own):
    found = count_training_step(own("transposed", "1x3x5x5").build("meta"), (3, 5, 5), 2)
    assert (found.forward, found.backward) == (2 * 25 * 3 * 6 * 16, 2 * 25 * 3 * 6 * 16)


def test_a_model_of_ones_own_with_two_inputs(own):
    found = measure_budget(own("Two", "2x3x8x8", "2x5"), Recipe(3, 4, 10))
    image, other, head = 27 * 8 * 36, 40, 80
    assert found.macs == TrainingMacs(30 * (image + other + head), 30 * (image + other + 2 * head), True)
    assert found.params == 27 * 8 + 48 + 90
    assert found.memory.batch_size == 4


@pytest.mark.parametrize(("name", "params"), [("lazy", 112 + 1450), ("concrete", 56 + 730)])
def test_models_that_only_a_call_or_real_values_complete(own, name, params):
    found = measure_budget(own(name, "1x3x8x8"), Recipe(1, 2, 4))
    assert found.params == params
    assert found.macs.forward > 0


def test_a_model_of_ones_own_needs_a_recipe_and_a_batch(own):
    with pytest.raises(SettingError, match="--recipe epochs=100,batch_size=64,training_images=50000"):
        measure_budget(own("Two", "2x3x8x8", "2x5"))
    with pytest.raises(SettingError, match="must be the batch, which the recipe sets"):
        measure_budget(own("Two", "2x3x8x8", "3x5"), Recipe(1, 2, 4))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["e4profile", "training", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run


RECIPE = ("--recipe", "epochs=2,batch_size=4,training_images=0.01k")


def test_the_command_sets_cards_and_own_models_side_by_side(command):
    inputs = ("--input", "1x3x8x8", "--input", "1x5")
    code, out, _ = command("nets.py:Two", "z2cnn", *inputs, *RECIPE, "--arg", "width=4", "-f", "json")
    assert code == 0
    rows = {row["network"]: row for row in json.loads(out)}
    assert rows["nets.py:Two width=4"]["forward_macs"] == 20 * (27 * 4 * 36 + 20 + 40)
    assert rows["z2cnn"]["params"] == 25210
    assert {row["steps"] for row in rows.values()} == {6}
    _, out, _ = command("nets.py:Two", *inputs, *RECIPE, "--device", "cpu", "--max-run-time-s", "0.02")
    out = " ".join(out.split())
    assert "because there is no closed form: nets.py:Two" in out
    assert "hours" in out
    assert says(out, "512-byte", "without workspaces")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nets.py:grouped", "--input", "1x3x8x8"], "lacks epochs, batch_size, training_images"),
        (["nets.py:grouped", *RECIPE], "needs its inputs"),
        (["nets.py:grouped", "--input", "1x3x8x8", *RECIPE, "--arg", "group=2"], "did you mean groups"),
        (["nets.py:grouped", "--input", "1x4x8x8", *RECIPE], "in 0 (Conv2d): RuntimeError"),
        (["nets.py:grouped", "--input", "1x3x8x8", "--recipe", "epoch=2"], "did you mean epochs"),
        (["r18", "--arg", "widht=2"], "did you mean width"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("e4profile: ")]
    assert message in line


def test_what_the_fused_aggregation_computes_again_is_said(tmp_path, own):
    from e4profile.questions.training.command import _notes

    (tmp_path / "again.py").write_text(
        "from e4profile.networks import NETWORKS\nfrom torch import nn\n\nclass Net(nn.Module):\n"
        "    def __init__(self, implementation='auto'):\n        super().__init__()\n"
        "        self.body = NETWORKS['rot_mnist'](group='p4', width=2, slices=2)\n"
        "        for part in self.body.modules():\n"
        "            if hasattr(part, 'implementation'):\n                part.implementation = implementation\n\n"
        "    def forward(self, image):\n        return self.body(image)\n"
    )
    name, recipe = f"{tmp_path / 'again.py'}:Net", Recipe(1, 2, 2)
    fused = measure_budget(resolve(name, ["1x1x28x28"]), recipe)
    reference = measure_budget(resolve(name, ["1x1x28x28"], {"implementation": "reference"}), recipe)
    assert fused.macs.forward == reference.macs.forward
    assert fused.macs.backward > reference.macs.backward
    assert (fused.macs.recomputed, reference.macs.recomputed) == (True, False)
    said = f"Backward includes what the fused aggregation computes again, a closed form does not: {name}."
    assert said in _notes([fused], False)
    assert not any("computes again" in text for text in _notes([reference], False))
