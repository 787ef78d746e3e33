"""The guard from end to end, as a project runs it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from guarded_project import NET, config_text, macs_of, params_of, run_guard, write_project
from program import says

from e4profile.errors import E4ProfileError
from e4profile.questions.guard.config import load_config
from e4profile.questions.guard.run import Guard, GuardResult
from e4profile.records.baseline import Baseline, read_baseline, torch_version, write_baseline
from e4profile.witnesses.equivariance.report import EquivarianceReport
from e4profile.witnesses.equivariance.witness import witness

BASELINE = "e4profile-baseline.json"


def guard(folder: Path, *, update: bool = False, **entry: Any) -> GuardResult:
    running = Guard(load_config(write_project(folder, **entry)), update)
    list(running.run())
    return running.result


def messages(result: GuardResult) -> dict[str, str]:
    return {check.name: check.message for check in result.checks if check.status != "pass"}


def test_the_committed_counts_are_the_real_ones(tmp_path: Path) -> None:
    assert guard(tmp_path, update=True, input="3x3x8x8").exit_code == 0
    baseline = read_baseline(tmp_path / BASELINE)
    assert baseline is not None
    net = baseline.models["net"]
    assert net.costs == {"params": params_of(4), "macs": macs_of(4, batch=3)}
    assert net.layers["0"].costs == {"params": 27 * 4 + 4, "macs": 3 * 27 * 4 * 36}
    assert net.layers["4"].costs == {"params": 10, "macs": 3 * 8}
    assert net.input == "3x3x8x8"
    assert guard(tmp_path, input="3x3x8x8").exit_code == 0


def test_a_change_is_told_in_per_cent_of_the_committed_count(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    found = messages(guard(tmp_path, args={"width": 5}))
    assert macs_of(5) == 1.25 * macs_of(4)
    assert f"(+{macs_of(5) - macs_of(4):,}, +25%)" in found["baseline macs"]


def test_a_missing_baseline_is_its_own_exit_code(tmp_path: Path) -> None:
    found = guard(tmp_path)
    assert found.exit_code == 3
    assert "write it with: e4profile guard --update" in messages(found)["baseline macs"]
    assert guard(tmp_path, params_max=1).exit_code == 1
    guard(tmp_path, update=True)
    assert guard(tmp_path, name="other", build="net.py:build").exit_code == 1  # net is stale, other has none


def test_budgets_alone_need_no_baseline(tmp_path: Path) -> None:
    config = write_project(tmp_path, params_max=params_of(4))
    config.write_text("[tool.e4profile]\nbaseline = false\n" + config.read_text())
    running = Guard(load_config(config))
    list(running.run())
    assert [check.name for check in running.result.checks] == ["params_max"]
    assert running.result.exit_code == 0
    with pytest.raises(E4ProfileError, match="no baseline to update"):
        list(Guard(load_config(config), update=True).run())


def test_budgets_are_upper_limits(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    assert guard(tmp_path, params_max=params_of(4), macs_max=macs_of(4)).exit_code == 0
    found = guard(tmp_path, params_max=params_of(4) - 1, macs_max=macs_of(4) - 1)
    assert found.exit_code == 1
    said = messages(found)
    assert f"at most {params_of(4) - 1} (budget), actual {params_of(4)} (+1" in said["params_max"]
    assert "largest layers: 0 (Conv2d) 112" in said["params_max"]
    assert "largest layers: 0 (Conv2d) 3,888" in said["macs_max"]


def test_growth_names_the_grown_layers(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    found = guard(tmp_path, args={"width": 5}, params_max=params_of(4))
    said = messages(found)
    assert "grown layers: 0 (Conv2d) 112 -> 140" in said["params_max"]
    assert (
        f"expected {params_of(4)} (baseline), actual {params_of(5)} (+{params_of(5) - params_of(4)}"
        in (said["baseline params"])
    )
    assert "0 (Conv2d) 3,888 -> 4,860" in said["baseline macs"]
    assert "asked differently: width unset -> 5" in said["baseline macs"]


def test_an_improvement_deviates_from_the_baseline_only_until_it_is_accepted(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    smaller: dict[str, Any] = {"args": {"width": 3}, "params_max": params_of(4), "macs_max": macs_of(4)}
    found = guard(tmp_path, **smaller)
    assert set(messages(found)) == {"baseline params", "baseline macs"}
    assert f"actual {macs_of(3):,} ({macs_of(3) - macs_of(4):+,}" in messages(found)["baseline macs"]
    assert says(messages(found)["baseline macs"], "improvement", "accepted")
    assert says(messages(found)["baseline macs"], "e4profile guard --update")
    assert guard(tmp_path, update=True, **smaller).exit_code == 0
    assert guard(tmp_path, **smaller).exit_code == 0


def test_an_equal_total_in_other_layers_is_a_deviation(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    file = tmp_path / BASELINE
    data = json.loads(file.read_text())
    data["models"]["net"]["layers"]["0"]["macs"] -= 1
    data["models"]["net"]["layers"]["4"]["macs"] += 1
    file.write_text(json.dumps(data))
    said = messages(guard(tmp_path))
    assert list(said) == ["baseline macs"]
    assert "the total is the same, its layers are not" in said["baseline macs"]


def test_saved_bytes_are_counted_where_a_budget_asks(tmp_path: Path) -> None:
    # saved for backward, float32: the ReLU's output (4 x 6 x 6) and the linear layer's input (4), per image
    saved = 4 * (4 * 36 + 4)
    found = guard(tmp_path, update=True, saved_bytes_max=saved)
    assert found.exit_code == 0
    assert {check.name: check.actual for check in found.checks} == {"saved_bytes_max": saved}
    assert guard(tmp_path, saved_bytes_max=saved - 1).exit_code == 1
    baseline = read_baseline(tmp_path / BASELINE)
    assert baseline is not None
    net = baseline.models["net"]
    assert net.costs["saved_bytes"] == saved == sum(layer.costs["saved_bytes"] for layer in net.layers.values())
    # a budget that is new has no committed count yet
    guard(tmp_path, update=True)
    assert guard(tmp_path, saved_bytes_max=saved).exit_code == 3


def test_peaks_are_held_and_committed_where_a_budget_asks(tmp_path: Path) -> None:
    from e4profile.subjects.subject import resolve
    from e4profile.witnesses.memory.peak import allocator_emulation, forward_emulation

    guard(tmp_path)  # writes the project
    model = resolve(f"{tmp_path / 'net.py'}:build", ["2x3x8x8"], {"width": 4}).build()
    training = allocator_emulation(model, (3, 8, 8), batch_size=2, loss="auto").peak_bytes
    forward = forward_emulation(model, (3, 8, 8), batch_size=2).peak_bytes
    limits: dict[str, Any] = {"peak_bytes_max": f"{training / 1000}kB", "forward_peak_bytes_max": forward}
    assert guard(tmp_path, update=True, input="2x3x8x8", **limits).exit_code == 0
    baseline = read_baseline(tmp_path / BASELINE)
    assert baseline is not None
    assert baseline.models["net"].costs["peak_bytes"] == training
    assert baseline.models["net"].costs["forward_peak_bytes"] == forward
    found = messages(guard(tmp_path, input="4x3x8x8", **limits))
    assert says(found["peak_bytes_max"], f"at most {training:,} ({training / 1000:.2f} kB, budget)", " kB, +")
    assert says(found["forward_peak_bytes_max"], f"at most {forward:,} (budget)", "raise forward_peak_bytes_max")
    assert says(found["baseline peak_bytes"], f"peak bytes: expected {training:,}", "input 2x3x8x8 -> 4x3x8x8")
    assert "layer" not in "".join(found[name] for name in found if "peak" in name)


def test_closed_form_must_exist_and_match(tmp_path: Path) -> None:
    assert guard(tmp_path, update=True, name="e4", build="e4net", input="1x1x28x28", closed_form=True).exit_code == 0
    odd = """

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Unknown()

    def forward(self, x):
        return self.inner(x)

class Unknown(nn.Module):
    def forward(self, x):
        return torch.linalg.matrix_exp(x)
"""
    config = write_project(tmp_path, build="net.py:Odd", input="2x2", closed_form=True)
    (tmp_path / "net.py").write_text(f"import torch\n{NET}{odd}")
    running = Guard(load_config(config), update=True)
    list(running.run())
    assert running.result.exit_code == 1
    assert "inner" in messages(running.result)["closed_form"]


def test_a_closed_form_of_a_part_needs_its_stated_minimum(tmp_path: Path) -> None:
    mixed = """

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.known, self.weight = nn.Linear(4, 3, bias=False), nn.Parameter(nn.Linear(4, 1).weight.detach())

    def forward(self, x):
        return self.known(x) + (x @ self.weight.T)
"""
    config = write_project(tmp_path, build="net.py:Mixed", input="1x4", closed_form=True)
    (tmp_path / "net.py").write_text(NET + mixed)
    found = guard_of(config, "")
    assert found.exit_code == 1
    said = messages(found)["closed_form"]
    assert says(said, "closed form", "75% of the MACs", "75% of the parameters", "12 of 16 MACs")
    assert "closed_form_min_percent = ..." in said
    for least, code in ((75, 0), (75.5, 1)):
        write_project(tmp_path, build="net.py:Mixed", input="1x4", closed_form=True, closed_form_min_percent=least)
        (tmp_path / "net.py").write_text(NET + mixed)
        found = guard_of(config, "")
        assert found.exit_code == code
    assert "expected at least 75.5% (closed_form_min_percent)" in messages(found)["closed_form"]
    done = run_guard(tmp_path, "--update")
    assert "net: closed form: partial: 75% of the MACs" in done.stdout
    assert says(done.stdout, "wrote 1 network to")


EXPONENTIAL = """
import torch

class Exponential(nn.Module):
    def forward(self, x):
        return torch.linalg.matrix_exp(x)
"""


def test_unknown_operators_leave_parameters_and_macs_undecided(tmp_path: Path) -> None:
    config = write_project(tmp_path, build="net.py:Exponential", params_max=10, macs_max=1000, saved_bytes_max=1000)
    (tmp_path / "net.py").write_text(NET + EXPONENTIAL)
    found = guard_of(config, "")
    assert {check.name: check.status for check in found.checks if not check.name.startswith("baseline")} == {
        "params_max": "deviation", "macs_max": "deviation", "saved_bytes_max": "pass"
    }  # fmt: skip
    assert found.exit_code == 1
    said = messages(found)["macs_max"]
    assert "expected at most 1,000 (budget), actual at least 0" in said
    assert "(network): unknown operator aten::linalg_matrix_exp, executed 1 times" in said
    assert "e4profile.register_operator" in said
    assert found.models[0].notes == ()
    # against a baseline too, and a note where nothing is decided
    after = found.models[0].after
    assert after is not None
    write_baseline(tmp_path / BASELINE, Baseline(torch_version(), {"net": after}))
    running = Guard(load_config(config))
    list(running.run())
    assert {name for name in messages(running.result) if "baseline" in name} == {"baseline params", "baseline macs"}
    config.write_text("[tool.e4profile]\nbaseline = false\n" + config_text(build="net.py:Exponential"))
    running = Guard(load_config(config))
    list(running.run())
    assert (running.result.exit_code, running.result.checks) == (0, [])
    assert "unknown operator aten::linalg_matrix_exp" in running.result.models[0].notes[0]


def test_a_lower_bound_is_no_baseline(tmp_path: Path) -> None:
    write_project(tmp_path, build="net.py:Exponential")
    (tmp_path / "net.py").write_text(NET + EXPONENTIAL)
    done = run_guard(tmp_path, "--update")
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    assert "is not written, because there are only lower bounds for net" in said
    assert says(said, "MACs", "exact count", "baseline", "at least 0")
    assert "unknown operator aten::linalg_matrix_exp" in said
    assert not list(tmp_path.glob("*baseline*"))


def test_an_error_of_the_projects_own_code_keeps_its_traceback(tmp_path: Path) -> None:
    write_project(tmp_path)
    (tmp_path / "net.py").write_text("def build():\n    return 1 / 0\n")
    done = run_guard(tmp_path)
    assert done.returncode == 2
    assert says(done.stderr, "model 'net'", "net.py:build", "cannot build", "ZeroDivisionError")
    assert 'net.py", line 2, in build' in done.stderr


def test_several_inputs_are_counted(tmp_path: Path) -> None:
    two = """

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)

    def forward(self, image, *, mask):
        return self.conv(image).sigmoid() * mask
"""
    config = write_project(tmp_path, build="net.py:Two", input=["2x3x4x4", "mask=2x1x4x4:bool"], macs_max=2 * 6 * 16)
    (tmp_path / "net.py").write_text(NET + two)
    running = Guard(load_config(config), update=True)
    list(running.run())
    assert [(check.actual, check.status) for check in running.result.checks] == [(2 * 6 * 16, "pass")]
    # what backward needs of its own: the output of the sigmoid
    bytes_ = 4 * 2 * 2 * 16
    found = guard_of(config, f"saved_bytes_max = {bytes_}\nequivariance_error_max = 1e-10\ngroup = 'p4m'\n")
    assert {check.name: check.actual for check in found.checks if "equi" not in check.name} == {
        "macs_max": 2 * 6 * 16, "saved_bytes_max": bytes_
    }  # fmt: skip
    assert found.exit_code == 0


def guard_of(config: Path, more: str) -> GuardResult:
    config.write_text(config.read_text() + more)
    running = Guard(load_config(config), update=True)
    list(running.run())
    return running.result


CONSTANT = """

class Constant(nn.Module):
    def forward(self, image):
        return 0 * image.mean((2, 3)) + 1
"""


def test_an_output_without_the_input_holds_no_symmetry(tmp_path: Path) -> None:
    config = write_project(tmp_path, build="net.py:Constant", input="1x3x4x4")
    (tmp_path / "net.py").write_text(NET + CONSTANT)
    found = guard_of(config, "equivariance_error_max = 1\ngroup = 'p4'\n")
    assert found.exit_code == 1
    assert "does not depend on the input" in messages(found)["equivariance_error_max"]


IN_FLOAT32 = """
class InFloat32(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 2)

    def forward(self, image):
        return self.dense(image.float().mean((2, 3)))
"""


def test_a_network_that_computes_in_float32_is_held_there(tmp_path: Path) -> None:
    config = write_project(tmp_path, build="net.py:InFloat32", input="1x3x4x4")
    (tmp_path / "net.py").write_text(NET + IN_FLOAT32)
    found = guard_of(config, "equivariance_error_max = 1e-5\ngroup = 'p4'\nfield_out = 'invariant'\n")
    (check,) = (check for check in found.checks if check.name == "equivariance_error_max")
    assert (check.status, check.actual < 1e-5) == ("pass", True)
    assert check.message.startswith("equivariance error in float32 (the network does not run in float64): ")


NOT_A_NUMBER = """
class NotANumber(nn.Module):
    def forward(self, image):
        return image.mean((2, 3)) * float("nan")
"""


def test_an_error_that_is_not_a_number_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_project(tmp_path, build="net.py:NotANumber", input="1x3x4x4")
    (tmp_path / "net.py").write_text(NET + NOT_A_NUMBER)
    found = guard_of(config, "equivariance_error_max = 1\ngroup = 'p4'\n")
    assert "actual inf" in messages(found)["equivariance_error_max"]

    def not_a_number(*arguments: Any, **options: Any) -> EquivarianceReport:
        report = witness(*arguments, **options)
        return replace(report, output={state: (math.nan,) * 4 for state in report.output}, unshown=None)

    monkeypatch.setattr("e4profile.witnesses.equivariance.witness.witness", not_a_number)
    found = guard_of(config, "")
    assert found.exit_code == 1
    assert "actual nan" in messages(found)["equivariance_error_max"]


def test_equivariance_is_held_with_random_parameters(tmp_path: Path) -> None:
    good = {"name": "g", "build": "p4-cnn", "input": "1x1x28x28", "args": {"width": 2}}
    found = guard(tmp_path, update=True, equivariance_error_max=1e-10, **good)
    assert found.exit_code == 0
    # the released form of the squeeze's affine is equivariant only where it is (1, 0)
    broken = {"name": "e", "build": "e4net", "input": "1x1x28x28", "args": {"width": 2, "squeeze_affine": "channel"}}
    found = guard(tmp_path, update=True, equivariance_error_max=1e-10, **broken)
    assert found.exit_code == 1
    assert says(messages(found)["equivariance_error_max"], "layers that break it", "layer2.conv.squeeze_norm ")
    kept = {**broken, "args": {"width": 2, "squeeze_affine": "field"}}
    assert guard(tmp_path, update=True, equivariance_error_max=1e-10, **kept).exit_code == 0
    found = guard(tmp_path, equivariance_error_max=1.0)
    assert found.exit_code == 1  # the broken one is still in the baseline
    assert "give the group that acts" in messages(found)["measured"]
    assert guard(tmp_path, update=True, equivariance_error_max=1e-10, group="p4").exit_code == 1


def test_another_torch_is_noted(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    assert guard(tmp_path).notes == ()
    file = tmp_path / BASELINE
    file.write_text(file.read_text().replace('"torch": "', '"torch": "0.'))
    found = guard(tmp_path)
    assert found.exit_code == 0
    assert "the baseline was counted with torch 0." in found.notes[0]


def test_another_schema_is_refused_and_update_replaces_it(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    file = tmp_path / BASELINE
    good = file.read_text()
    file.write_text(good.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(E4ProfileError, match="schema 99"):
        guard(tmp_path)
    assert "replaced: the baseline" in guard(tmp_path, update=True).notes[0]
    assert file.read_text() == good


def test_a_network_that_is_gone_is_a_deviation(tmp_path: Path) -> None:
    guard(tmp_path, update=True)
    found = guard(tmp_path, name="renamed")
    assert found.exit_code == 1
    assert "in the baseline but not in pyproject.toml" in messages(found)["configured"]


def test_the_program_reports_everywhere_alike(tmp_path: Path) -> None:
    write_project(tmp_path, params_max=1000)
    missing = run_guard(tmp_path, "--junit", "out/j.xml", "--format", "json")
    assert missing.returncode == 3
    assert ET.parse(tmp_path / "out" / "j.xml").getroot().attrib["errors"] == "2"
    assert run_guard(tmp_path, "--update").returncode == 0
    assert run_guard(tmp_path, "--junit", "j.xml").returncode == 0
    root = ET.parse(tmp_path / "j.xml").getroot()
    assert (root.attrib["failures"], root.attrib["errors"], root.attrib["tests"]) == ("0", "0", "3")

    write_project(tmp_path, params_max=1000, args={"width": 6})
    bad = run_guard(tmp_path, "--junit", "j.xml", "--annotations", "github", "--markdown", "c.md", "--format", "json")
    assert bad.returncode == 1
    assert ET.parse(tmp_path / "j.xml").getroot().attrib["failures"] == "2"
    rows = json.loads(bad.stdout)
    assert [(row["check"], row["verdict"], row["expected"], row["actual"]) for row in rows] == [
        ("params_max", "pass", 1000, params_of(6)),
        ("baseline params", "deviation", params_of(4), params_of(6)),
        ("baseline macs", "deviation", macs_of(4), macs_of(6)),
    ]
    annotations = [line for line in bad.stderr.splitlines() if line.startswith("::error")]
    assert len(annotations) == 1
    assert "| 0     | Conv2d |" in (tmp_path / "c.md").read_text()
    in_words = run_guard(tmp_path, "--annotations", "github")
    assert [line for line in in_words.stdout.splitlines() if line.startswith("::error")] == annotations


@pytest.mark.parametrize(
    ("entry", "options", "said"),
    [
        ({"build": "nett.py:build"}, (), "nett.py"),
        ({"build": "net.py:bulid"}, (), "bulid"),
        ({"args": {"widht": 3}}, (), "widht"),
        ({"input": "1x5x8x8"}, (), "channels"),
        ({"input": "1x3x8xx"}, (), "1x3x8xx"),
        ({"build": "e4nett"}, (), "did you mean e4net"),
        ({}, ("--config", "none.toml"), "none.toml: cannot be read"),
        ({}, ("--annotations", "gitlab"), "unknown platform 'gitlab'"),
        ({}, ("--format", "xml"), "unknown format 'xml'"),
        ({"params_max": -1}, (), "params_max: -1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, entry: dict[str, Any], options: tuple[str, ...], said: str
) -> None:
    write_project(tmp_path, **entry)
    (tmp_path / "j.xml").write_text('<testsuites failures="0" errors="0"/>')
    done = run_guard(tmp_path, "--junit", "j.xml", *options)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    first = next(line for line in lines if line.startswith("e4profile: "))
    assert said in first
    # what the network raised has no line of its author's, so the line says all
    assert lines[lines.index(first) + 1 :] == []
    if not {"--annotations", "--format"} & set(options):
        assert ET.parse(tmp_path / "j.xml").getroot().attrib["errors"] == "1"


def test_a_network_that_cannot_be_measured_does_not_stop_the_others(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    good = config_text(name="good", params_max=params_of(4))
    with (tmp_path / "net.py").open("a") as file:
        file.write("\n\ndef broken():\n    return 1 / 0\n")
    config.write_text(good)
    assert run_guard(tmp_path, "--update").returncode == 0
    committed = (tmp_path / BASELINE).read_text()
    bad = "".join(config_text(name=name, build="net.py:broken") for name in ("first", "second"))
    config.write_text(bad + good)
    done = run_guard(tmp_path, "--junit", "j.xml", "--annotations", "github", "--format", "json")
    assert done.returncode == 2
    assert [(row["model"], row["check"], row["verdict"]) for row in json.loads(done.stdout)] == [
        ("first", "measured", "not measured"), ("second", "measured", "not measured"),
        ("good", "params_max", "pass"), ("good", "baseline params", "pass"), ("good", "baseline macs", "pass"),
    ]  # fmt: skip
    for name in ("first", "second"):
        assert f"e4profile: model '{name}': net.py:broken cannot build with (): ZeroDivisionError" in done.stderr
    assert done.stderr.count("Traceback") == 2
    root = ET.parse(tmp_path / "j.xml").getroot()
    assert (root.attrib["failures"], root.attrib["errors"], root.attrib["tests"]) == ("0", "2", "5")
    assert done.stderr.count("::error ") == 2
    # a deviation is the graver news, and an update writes all or nothing
    config.write_text(bad + good.replace(str(params_of(4)), "1"))
    assert run_guard(tmp_path).returncode == 1
    done = run_guard(tmp_path, "--update")
    assert "is not written, because there are no counts for first, second" in done.stdout
    assert (tmp_path / BASELINE).read_text() == committed


def test_an_error_of_ours_does_not_stop_the_others_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("e4profile.questions.guard.loading.model_costs", fails)
    found = guard(tmp_path)
    assert (found.exit_code, messages(found)) == (2, {"measured": "RuntimeError: not foreseen"})
    assert "Traceback" in found.models[0].details


def test_a_network_that_ends_the_program_is_an_error_of_its_own(tmp_path: Path) -> None:
    write_project(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def forward(self, x):\n        raise SystemExit(0)\n\n"
        "def build():\n    return Net()\n"
    )
    done = run_guard(tmp_path)
    assert done.returncode == 2
    assert "in the network itself (Net): SystemExit: 0" in done.stderr
    assert "net.py" in done.stderr.split("Traceback")[1]


def test_an_unwritable_baseline_is_refused_before_counting(tmp_path: Path) -> None:
    config = write_project(tmp_path, build="net.py:absent")
    (tmp_path / "afile").write_text("")
    config.write_text('[tool.e4profile]\nbaseline = "afile/counts.json"\n' + config.read_text())
    done = run_guard(tmp_path, "--update")
    assert done.returncode == 2
    assert "cannot write the baseline" in done.stderr
    assert "afile is not a folder" in done.stderr


def test_the_advice_for_a_missing_baseline_is_given_once(tmp_path: Path) -> None:
    write_project(tmp_path)
    done = run_guard(tmp_path)
    assert done.returncode == 3
    assert done.stdout.count("guard --update") == 1
    assert says(done.stdout, "no baseline for 2 counts of net", "e4profile guard --update")


def test_a_missing_input_names_its_key(tmp_path: Path) -> None:
    file = write_project(tmp_path)
    lines = [line for line in file.read_text().splitlines() if not line.startswith("input")]
    file.write_text("\n".join(lines))
    done = run_guard(tmp_path)
    assert done.returncode == 2
    assert 'needs its input, with the batch: input = "1x3x32x32"' in done.stderr


def test_no_folder_is_made_for_a_comment(tmp_path: Path) -> None:
    write_project(tmp_path)
    done = run_guard(tmp_path, "--markdown", str(tmp_path / "nope" / "c.md"))
    assert done.returncode == 2
    assert "nope does not exist" in done.stderr
    assert not (tmp_path / "nope").exists()
