"""Names that stand for models, and the inputs they are called with."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from torch import nn

import e4profile
from e4profile import SettingError, UnknownNameError
from e4profile.guest import UserCodeError
from e4profile.inputs import as_example, example_from_specs, parse_input
from e4profile.layers import Chain
from e4profile.measure import measure_module
from e4profile.targets import resolve

EXACT = ("closed-form", "dispatch")

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.first = nn.Conv2d(3, width, 3)
            self.last = nn.Linear(width, 2)

        def forward(self, image, mask=None):
            maps = self.first(image)
            if mask is not None:
                maps = maps * mask
            return {"logits": self.last(maps.mean((2, 3))), "maps": maps}

    def build(width, *, depth=1):
        return Net(width)

    ready = Net()
    number = 3

    def makes_nothing():
        return [Net()]

    def raises():
        raise ValueError("no luck")
"""


def write(folder: Path, text: str, name: str = "net.py") -> str:
    (folder / name).write_text(dedent(text), encoding="utf-8")
    return str(folder / name)


@pytest.fixture
def net(tmp_path: Path) -> str:
    return write(tmp_path, NET)


# --- inputs


@pytest.mark.parametrize(
    ("text", "name", "shape", "dtype"),
    [
        ("1x3x8x8", "", (1, 3, 8, 8), None),
        ("image=1x3x8x8", "image", (1, 3, 8, 8), None),
        ("mask=1x1x8x8:bool", "mask", (1, 1, 8, 8), "bool"),
        ("7:int64", "", (7,), "int64"),
        ("t=scalar", "t", (), None),
    ],
)
def test_an_input_is_a_shape(text: str, name: str, shape: tuple[int, ...], dtype: str | None) -> None:
    spec = parse_input(text)
    assert (spec.name, spec.shape, spec.dtype) == (name, shape, dtype)
    assert str(spec) == text


@pytest.mark.parametrize(
    ("text", "value"), [("n:=4", 4), ("n:=true", True), ("n:=[1, 2]", [1, 2]), ("n:=word", "word")]
)
def test_an_input_may_be_a_plain_value(text: str, value: object) -> None:
    spec = parse_input(text)
    assert (spec.name, spec.shape, spec.value) == ("n", None, value)


@pytest.mark.parametrize("text", ["", "axb", "1x3x", "image=", "=1x3", "1x0x3", "-1x3", "1,3,8,8", ":=3"])
def test_bad_inputs_are_named(text: str) -> None:
    with pytest.raises(SettingError, match="--input"):
        parse_input(text)


def test_an_unknown_dtype_has_near_names() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean.*float32"):
        parse_input("1x3:float31")


def test_examples_nest_and_repeat() -> None:
    texts = ("2x3", "a.b=2x1:bool", "a.c:=5", "p.1=2x2:int64", "p.0=scalar")
    one, two = (example_from_specs([parse_input(text) for text in texts], torch.float64) for _ in range(2))
    assert torch.equal(one.positional[0], two.positional[0])
    assert one.positional[0].dtype == torch.float64
    assert one.keywords["a"]["b"].all()
    assert one.keywords["a"]["c"] == 5
    assert isinstance(one.keywords["p"], tuple)
    assert one.keywords["p"][0].shape == ()
    assert not one.keywords["p"][1].any()
    assert one.single_shape is None
    with pytest.raises(SettingError, match="twice"):
        example_from_specs([parse_input("a=1x2"), parse_input("a=1x3")], torch.float32)


def test_inputs_of_a_library_call() -> None:
    assert as_example((1, 3, 4, 4), torch.float32).single_shape == (1, 3, 4, 4)
    assert as_example(torch.zeros(2, 5), torch.float32).single_shape == (2, 5)
    several = as_example([(1, 3), torch.zeros(2), 7], torch.float32)
    assert [getattr(one, "shape", one) for one in several.positional] == [(1, 3), (2,), 7]
    named = as_example({"image": (1, 3), "n": 2}, torch.float16)
    assert named.keywords["image"].dtype == torch.float16
    assert named.keywords["n"] == 2
    with pytest.raises(SettingError, match="input_shape"):
        as_example("1x3", torch.float32)


# --- names


def test_builder_class_and_instance_are_the_same_network(net: str) -> None:
    for name, arguments in (("build", {"width": 4}), ("Net", {}), ("ready", {})):
        measured = resolve(f"{net}:{name}", ["2x3x8x8"], arguments).measure(EXACT)
        assert measured.dispatch.macs == 2 * (27 * 4 * 36 + 4 * 2)
        assert measured.dispatch.params == 27 * 4 + 4 + 4 * 2 + 2
        assert measured.agrees


def test_a_package_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownpackage").mkdir()
    write(tmp_path / "ownpackage", "", "__init__.py")
    write(tmp_path / "ownpackage", NET, "models.py")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        target = resolve("ownpackage.models:build", ["1x3x8x8"], {"width": 3})
        assert target.measure(EXACT).dispatch.params == 27 * 3 + 3 + 3 * 2 + 2
        assert sys.path == before
    finally:
        for name in ("ownpackage", "ownpackage.models"):
            sys.modules.pop(name, None)


def test_a_file_imports_its_neighbours_also_while_building(tmp_path: Path) -> None:
    write(tmp_path, "from torch import nn\nlayer = nn.Conv2d(3, 5, 1)\n", "neighbour_of_net.py")
    file = write(tmp_path, "def build():\n    from neighbour_of_net import layer\n    return layer\n")
    try:
        assert resolve(f"{file}:build", ["1x3x4x4"]).measure(EXACT).dispatch.macs == 15 * 16
    finally:
        sys.modules.pop("neighbour_of_net", None)


def test_a_file_does_not_take_the_name_of_a_module(tmp_path: Path) -> None:
    file = write(tmp_path, "from torch import nn\nmodel = nn.ReLU()\n", "random.py")
    resolve(f"{file}:model", ["1x3"]).build()
    assert sys.modules["random"] is random


def test_cards_and_card_files_resolve_too(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    text = 'name = "small"\nnetwork = "rot_mnist"\ninput = [1, 28, 28]\n[arguments]\ngroup = "p4"\nwidth = 2\n'
    file.write_text(text, encoding="utf-8")
    for name in ("e4net", str(file)):
        target = resolve(name, arguments={"width": 2, "slices": 1}, batch_size=3)
        assert target.card is not None
        assert target.example().single_shape == (3, 1, 28, 28)
        assert target.input == (1, 28, 28)
        assert target.measure(EXACT).agrees
    assert resolve("e4net", ["2x1x33x33"]).example().single_shape == (2, 1, 33, 33)


def test_the_batch_replaces_every_leading_size(net: str) -> None:
    target = resolve(f"{net}:ready", ["image=1x3x8x8", "mask=1x1x6x6"], batch_size=4)
    assert [tuple(one.shape) for one in target.example().tensors] == [(4, 3, 8, 8), (4, 1, 6, 6)]
    with pytest.raises(SettingError, match="--batch-size"):
        resolve(f"{net}:ready", ["image=1x3x8x8", "mask=3x1x6x6"], batch_size=4)


# --- what goes wrong


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("build", {}, "needs width: give --arg width=VALUE"),
        ("build", {"width": 2, "dept": 1}, "did you mean depth"),
        ("Net", {"height": 2}, "unknown argument"),
        ("ready", {"width": 2}, "takes no arguments"),
        ("reddy", {}, "did you mean ready"),
        ("number", {}, "int: neither"),
        ("makes_nothing", {}, "returned list"),
        ("raises", {}, "cannot build.*ValueError: no luck"),
    ],
)
def test_what_a_name_cannot_be(net: str, name: str, arguments: dict, message: str) -> None:
    with pytest.raises(e4profile.E4ProfileError, match=message):
        resolve(f"{net}:{name}", ["1x3x8x8"], arguments).build()


def test_files_without_a_builder_suggest_one(net: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"net\.py:build"):
        resolve(net, ["1x3x8x8"])
    with pytest.raises(SettingError, match="needs its inputs"):
        resolve(f"{net}:ready")
    with pytest.raises(SettingError, match="no such file"):
        resolve(f"{tmp_path}/none.py:build", ["1x3"])
    with pytest.raises(UnknownNameError, match="e4net"):
        resolve("e4nett")


@pytest.mark.parametrize(
    ("text", "first_line"),
    [
        ("import torch\nboom = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def build(:\n", "SyntaxError"),
        ("import a_module_that_is_not_there\n", "ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_module_that_does_not_import_keeps_its_traceback(tmp_path: Path, text: str, first_line: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UserCodeError, match="does not import") as caught:
        resolve(f"{file}:build", ["1x3"])
    assert first_line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "net.py" in caught.value.details
    assert "user_code.py" not in caught.value.details
    assert file not in [getattr(module, "__file__", None) for module in list(sys.modules.values())]


def test_a_wrong_shape_names_the_module(net: str) -> None:
    with pytest.raises(UserCodeError, match=r"in first \(Conv2d\): RuntimeError: .*expected input") as caught:
        resolve(f"{net}:ready", ["1x4x8x8"]).measure(EXACT)
    assert "in forward" in caught.value.details
    with pytest.raises(UserCodeError, match="image"):
        resolve(f"{net}:ready", ["mask=1x1x8x8"]).measure(EXACT)


def test_what_the_code_sets_is_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path,
        """
        import random
        import numpy, torch
        from torch import nn
        print("importing")
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(5)

        def build():
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.set_grad_enabled(False)
            random.seed(1)
            numpy.random.seed(1)
            return nn.Conv2d(3, 4, 3)
        """,
    )
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # type: ignore[index]
    target = resolve(f"{file}:build", ["1x3x8x8"])
    assert target.measure(EXACT).agrees
    assert next(target.build().parameters()).dtype == torch.float64
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[index]
    words = " ".join(target.notes)
    for part in ("default dtype from torch.float32 to torch.float64", "threads", "gradients"):
        assert part in words
    out, err = capsys.readouterr()
    assert (out, err) == ("", "importing\n")


def test_settings_are_given_back_when_the_code_raises(tmp_path: Path) -> None:
    file = write(tmp_path, "import torch\ntorch.set_default_dtype(torch.float64)\nraise ValueError('x')\n")
    with pytest.raises(UserCodeError):
        resolve(f"{file}:build", ["1x3"])
    assert torch.get_default_dtype() == torch.float32


# --- counting what was not made for it


class Foreign(nn.Module):
    """A forward of its own around stock layers, with a layer that has no closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.twice = nn.Conv2d(4, 4, 1)
        self.odd = nn.Conv1d(4, 2, 1)
        self.unused = nn.Conv2d(9, 9, 9)
        self.chain = Chain(relu=nn.ReLU(), conv=nn.Conv2d(4, 5, 1))

    def forward(self, image):
        maps = self.twice(self.twice(self.conv(image)))
        return self.odd(maps.flatten(2)), self.chain(maps)


def test_recorded_shapes_give_each_layer_its_form() -> None:
    frame = e4profile.count(Foreign(), (2, 3, 8, 8), counters=EXACT)
    found = frame.set_index("path")
    assert frame.attrs["sizes"] == "recorded"
    assert any("shapes recorded from the run" in note for note in frame.attrs["notes"])
    assert found["closed_form"]["conv"] == 2 * 27 * 4 * 36
    assert found["closed_form"]["twice"] == 2 * 2 * 16 * 36
    assert found["closed_form"]["chain.conv"] == 2 * 20 * 36
    for path in ("odd", "unused"):
        assert found["closed_form"].isna()[path]
        assert found["agrees"].isna()[path]
    assert found["dispatch"]["odd"] == 2 * 8 * 36
    assert found["agrees"].dropna().all()


def test_a_model_without_any_form_has_every_other_number() -> None:
    frame = e4profile.count(nn.Conv1d(4, 2, 1), [(1, 4, 9)])
    assert frame["closed_form"].isna().all()
    assert frame["dispatch"].sum() == frame["fvcore"].sum() == 72
    assert "Conv1d has no closed form" in frame.attrs["failures"]["closed-form"]


def test_the_topology_is_preferred() -> None:
    model = Chain(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU())
    assert measure_module(model, (1, 3, 8, 8), EXACT).sizes == "topology"


def test_shared_weights_are_counted_once_and_explained() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    measured = measure_module(model, (1, 4), EXACT)
    assert measured.dispatch.params == 16
    assert measured.differences == []
    assert any("2: Linear shares parameters with 0" in note for note in measured.notes)


def test_a_linear_map_over_tokens_has_its_form() -> None:
    measured = measure_module(nn.Sequential(nn.Linear(4, 5)), (2, 7, 4), EXACT)
    assert measured.closed.macs == measured.dispatch.macs == 2 * 7 * 20


def test_a_half_written_protocol_says_what_it_lacks() -> None:
    class Half(nn.Conv2d):
        params = macs = elements = kinds = {}

        def dimensions(self, shape):
            return {}

    reason = measure_module(nn.Sequential(Half(1, 1, 1)), (1, 1, 2, 2), EXACT).failures["closed-form"]
    assert "Half has params, macs, elements, kinds, dimensions but lacks printed, output_shape" in reason


class Fussy(nn.Module):
    """Cannot run without values, and keeps something of its last run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.last = self.conv(x)
        if self.last.abs().sum().item() < 0:
            return None
        return self.last


def test_a_model_that_needs_values_runs_for_real_with_a_note() -> None:
    model = Fussy()
    measured = measure_module(model, (1, 1, 5, 5), ("closed-form", "dispatch", "thop"))
    assert measured.dispatch.macs == measured.closed.macs == 18 * 9
    assert any("run for real on cpu" in note for note in measured.notes)
    assert not hasattr(model, "last")
    assert model.calls == 0


def test_nothing_of_a_meta_run_stays_behind() -> None:
    class Caching(nn.Module):
        grid = None

        def forward(self, x):
            if self.grid is None:
                self.grid = torch.ones(x.shape[-1], device=x.device)
            return x * self.grid

    model = Caching()
    e4profile.count(model, (1, 1, 3, 3))
    assert model.grid is None
    assert model(torch.ones(1, 1, 3, 3)).sum() == 9


@pytest.mark.parametrize("reduce", [lambda p: p.sum(2), lambda p: p.permute(0, 1, 3, 2).reshape(1, 16, 9).mean(-1)])
def test_a_contraction_written_out_is_warned_of(reduce) -> None:
    class Written(nn.Module):
        def forward(self, x):
            columns = nn.functional.unfold(x, 3, padding=1).unflatten(1, (1, 9))
            return reduce(columns * torch.ones(1, 1, 9, 1, device=x.device))

    frame = e4profile.count(Written(), (1, 1, 4, 4), counters=EXACT)
    assert frame.attrs["summed_products"] == {"": 9 * 16}
    assert frame.attrs["totals"].get("dispatch", {"macs": 0})["macs"] == 0


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: (x * x).relu().sum(1),
        lambda x: (x * 2.0).sum(1),
        lambda x: x.sum(1) * x.mean(1),
        lambda x: (x * x).add_(1).sum(1),
    ],
    ids=["in-between", "by a number", "sum first", "changed in place"],
)
def test_products_that_are_not_contracted_are_free(forward) -> None:
    model = nn.Module()
    model.forward = forward  # type: ignore[method-assign]
    assert measure_module(model, (1, 3, 4, 4), EXACT).dispatch.summed_products == {}


def test_charged_products_are_not_warned_of() -> None:
    class Charged(nn.Module):
        operation_kind = "convolution"
        counts_products = True

        def forward(self, x):
            return (x * x.flip(1)).sum(1)

    counted = measure_module(Charged(), (1, 3, 4, 4), EXACT).dispatch
    assert (counted.operations, counted.summed_products) == ({"convolution": 48}, {})


def test_a_card_takes_float32_images() -> None:
    assert resolve("p4-cnn", ["1x1x28x28:float32"]).batch_size == 1
    with pytest.raises(SettingError, match=r"p4-cnn takes images of float32, not \(1x1x28x28:bool\)"):
        resolve("p4-cnn", ["1x1x28x28:bool"])
