from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from guarded_project import NET, macs_of, params_of
from torch import Tensor, nn

from e4profile.questions.guard.run import check_directly

pytest_plugins = ["pytester"]


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "sympy", "pandas", "matplotlib", "typer", "rich")
    code = f"import sys, e4profile.questions.guard.pytest_plugin; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"


def test_the_entry_point_is_installed(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("e4profile")


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    # pytester drops what a run inside it imports first, and PyTorch does not survive being imported again
    check_directly(nn.Conv2d(1, 1, 1), "1x1x3x3", tmp_path_factory.getbasetemp(), {}, {"saved_bytes_max": 10**9})


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(net=NET)
    pytester.makefile(
        ".ini", pytest="[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
    )
    return pytester


def test_budgets_pass_and_the_exact_counts_come_back(project: pytest.Pytester) -> None:
    project.makepyfile(
        f"""
        from net import build

        def test_module(e4profile_check):
            model = build().train()
            found = e4profile_check(model, (2, 3, 8, 8), params_max={params_of(4)}, macs_max={macs_of(4, batch=2)})
            assert found.costs == {{"params": {params_of(4)}, "macs": {macs_of(4, batch=2)}}}
            assert found.layers["0"].costs["params"] == 112
            assert model.training

        def test_builder(e4profile_check):
            found = e4profile_check("net.py:build", "1x3x8x8", arguments={{"width": 5}}, params_max={params_of(5)})
            assert found.costs["macs"] == {macs_of(5)}

        def test_card(e4profile_check):
            e4profile_check("p4-cnn", closed_form=True)

        def test_other():
            pass
        """
    )
    project.runpytest().assert_outcomes(passed=4)
    project.runpytest("-m", "e4profile").assert_outcomes(passed=3, deselected=1)


def test_inputs_of_every_kind(project: pytest.Pytester) -> None:
    project.makepyfile(
        two="""
        from torch import Tensor, nn

        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 2, 1, bias=False)

            def forward(self, image, mask=None):
                return self.conv(image) if mask is None else self.conv(image) * mask
        """
    )
    project.makepyfile(
        """
        import pytest
        import torch
        from two import Two

        images, mask = torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool)

        @pytest.mark.parametrize("given", [
            images, (images, mask), {"image": images, "mask": mask}, {"image": (2, 3, 4, 4)}, [(2, 3, 4, 4)],
            [2, 3, 4, 4], torch.Size((2, 3, 4, 4)), ["2x3x4x4", "mask=2x1x4x4:bool"],
        ])
        @pytest.mark.parametrize("model", ["module", "file"])
        def test_inputs(e4profile_check, model, given):
            network = Two() if model == "module" else "two.py:Two"
            found = e4profile_check(network, given, saved_bytes_max=0, equivariance_error_max=1e-10, group="p4")
            assert found.costs == {"params": 6, "macs": 2 * 6 * 16, "saved_bytes": 0}
        """
    )
    project.runpytest().assert_outcomes(passed=16)


def test_an_exceeded_budget_fails_the_test_and_names_the_layers(project: pytest.Pytester) -> None:
    project.makepyfile(
        f"""
        from net import build

        def test_large(e4profile_check):
            e4profile_check(build(), "1x3x8x8", params_max={params_of(4) - 1}, macs_max={macs_of(4) - 1})

        def test_not_equivariant(e4profile_check):
            e4profile_check(build(), "1x3x8x8", equivariance_error_max=1e-10, group="p4")
        """
    )
    done = project.runpytest()
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        [
            f"Sequential: params_max: parameters: expected at most {params_of(4) - 1} (budget), actual "
            f"{params_of(4)} (+1*largest layers: 0 (Conv2d) 112*",
            "Sequential: macs_max: MACs: *",
            "Sequential: equivariance_error_max: *",
        ]
    )


@pytest.mark.parametrize("budgets", [{"macs_max": 1000}, {"params_max": 10}, {"closed_form": True}, {}])
def test_an_unknown_operator_leaves_counts_undecided(tmp_path: Path, budgets: dict[str, Any]) -> None:
    class Exponential(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x)

    _, problems = check_directly(Exponential(), "1x3x3", tmp_path, {}, budgets)
    assert len(problems) == 1
    assert "(network): unknown operator aten::linalg_matrix_exp, executed 1 times" in problems[0]
    assert check_directly(Exponential(), "1x3x3", tmp_path, {}, {"saved_bytes_max": 100})[1] == []


def test_what_cannot_be_checked_is_an_error_of_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from e4profile import E4ProfileError
        from net import build

        @pytest.mark.parametrize(("arguments", "budgets", "said"), [
            ({}, {"parms_max": 1}, "unknown key 'parms_max'; did you mean params_max"),
            ({}, {"params_max": 1.5}, "params_max: 1.5"),
            ({"width": 3}, {}, "width: arguments are for a builder"),
        ])
        def test_bad(e4profile_check, arguments, budgets, said):
            with pytest.raises(E4ProfileError, match=said):
                e4profile_check(build(), "1x3x8x8", arguments=arguments, **budgets)

        def test_no_input(e4profile_check):
            with pytest.raises(E4ProfileError, match="1x3x32x32"):
                e4profile_check(build())
        """
    )
    project.runpytest().assert_outcomes(passed=4)
