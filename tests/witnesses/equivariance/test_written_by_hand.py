"""Networks as others write them, with an axis for the group or without: right ones hold, wrong ones never do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from program import says
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.subjects.inputs import as_example
from e4profile.witnesses.equivariance.fields import FIELDS
from e4profile.witnesses.equivariance.report import (
    AT_INIT_ONLY,
    EQUIVARIANT,
    NOT_COMPARABLE,
    NOT_EQUIVARIANT,
    NOT_RANDOMISED,
    UNTIL_TRAINED,
    EquivarianceReport,
)
from e4profile.witnesses.equivariance.witness import witness

IMAGES = (1, 2, 5, 5)


def turned(filters: Tensor, quarters: int) -> Tensor:
    return torch.rot90(filters, quarters, (-2, -1))


class Lift(nn.Module):
    """(B, c, h, w) to (B, C, 4, h, w)."""

    def __init__(self, c_in: int, c_out: int, *, sign: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.sign, self.stride = sign, stride

    def forward(self, images: Tensor) -> Tensor:
        maps = [F.conv2d(images, turned(self.weight, self.sign * a), padding=1, stride=self.stride) for a in range(4)]
        return torch.stack(maps, 2)


class GroupConv(nn.Module):
    """(B, c, 4, h, w) to (B, C, 4, h, w)."""

    def __init__(self, c_in: int, c_out: int, *, sign: int = 1, roll: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 4, 3, 3))
        self.sign, self.roll = sign, roll

    def forward(self, fields: Tensor) -> Tensor:
        flat = fields.flatten(1, 2)
        maps = [
            F.conv2d(flat, turned(self.weight.roll(self.roll * a, 2), self.sign * a).flatten(1, 2), padding=1)
            for a in range(4)
        ]
        return torch.stack(maps, 2)


class Affine(nn.Module):
    """A scale for every group element: the classic mistake."""

    def __init__(self, axis: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        self.axis = axis

    def forward(self, fields: Tensor) -> Tensor:
        return fields * self.scale.reshape([-1 if axis == self.axis else 1 for axis in range(fields.dim())])


class Do(nn.Module):
    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x)


def report(*parts: nn.Module, shape: tuple[int, ...] = IMAGES, group: str = "p4", **options) -> EquivarianceReport:
    torch.manual_seed(0)
    return witness(nn.Sequential(*parts), as_example(shape, torch.float32), group=group, **options)


def networks(**wrong):
    torch.manual_seed(0)
    return Lift(2, 3, sign=wrong.get("lift", 1)), GroupConv(3, 2, sign=wrong.get("sign", 1), roll=wrong.get("roll", 1))


LAYOUTS = {
    "an axis for the group": None,
    "the group's axis first": lambda x: x.transpose(1, 2),
    "channels by field": lambda x: x.flatten(1, 2),
    "pooled over the group": lambda x: x.amax(2),
    "one map": lambda x: x.amax((1, 2)),
    "logits": lambda x: x.amax((2, 3, 4)),
}
UNKNOWN = {
    "channels by element": lambda x: x.transpose(1, 2).flatten(1, 2),
    "the other order": lambda x: x.flip(2),
    "without a grid": lambda x: x.amax((3, 4)).flatten(1),
    "fields without a grid, elements first": lambda x: x.amax((3, 4)).transpose(1, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_right_network_holds_in_every_layout(layout: str) -> None:
    parts = networks()
    change = LAYOUTS[layout]
    assert report(*parts, *([Do(change)] if change else [])).verdict == EQUIVARIANT


@pytest.mark.parametrize("layout", UNKNOWN)
def test_a_layout_that_is_not_known_is_asked_for(layout: str) -> None:
    found = report(*networks(), Do(UNKNOWN[layout]))
    assert found.verdict.startswith(f"{NOT_COMPARABLE}: give --field-out")


@pytest.mark.parametrize("wrong", [{"lift": -1}, {"sign": -1}, {"roll": -1}, {"roll": 0}, {"sign": 0}])
@pytest.mark.parametrize(
    ("layout", "field_out"),
    [*((one, None) for one in (*LAYOUTS, *UNKNOWN)), *(("channels by field", one) for one in FIELDS)],
)
def test_a_wrong_network_never_holds(wrong: dict[str, int], layout: str, field_out: str | None) -> None:
    change = {**LAYOUTS, **UNKNOWN}[layout]
    parts = (*networks(**wrong), *([Do(change)] if change else []))
    verdict = report(*parts, field_out=field_out, train_steps=0).verdict
    assert verdict == NOT_EQUIVARIANT or verdict.startswith(NOT_COMPARABLE)
    if field_out is not None or change is None or layout == "logits":
        assert verdict == NOT_EQUIVARIANT


@pytest.mark.parametrize("layout", ["an axis for the group", "channels by field"])
def test_a_layer_with_a_scale_for_each_element_never_holds(layout: str) -> None:
    change = LAYOUTS[layout]
    parts = (*networks(), Affine(), *([Do(change)] if change else []))
    assert report(*parts, field_out="regular").verdict == NOT_EQUIVARIANT
    assert report(*parts).verdict.startswith((NOT_EQUIVARIANT, NOT_COMPARABLE))


def test_five_dimensional_inputs_move_over_the_group() -> None:
    torch.manual_seed(0)
    fields = (1, 3, 4, 7, 7)
    assert report(GroupConv(3, 2), shape=fields).verdict == EQUIVARIANT
    assert report(GroupConv(3, 2, roll=-1), shape=fields).verdict == NOT_EQUIVARIANT
    assert report(GroupConv(3, 2), Affine(), shape=fields).verdict == NOT_EQUIVARIANT
    assert report(Affine(), shape=fields).verdict == NOT_EQUIVARIANT
    assert report(Affine(), shape=fields, field_in="regular", field_out="trivial").verdict == NOT_EQUIVARIANT
    first = Do(lambda x: x.transpose(1, 2))
    assert report(first, GroupConv(3, 2), first, shape=(1, 4, 3, 7, 7)).verdict == EQUIVARIANT
    assert report(Affine(1), shape=(1, 4, 3, 7, 7)).verdict == NOT_EQUIVARIANT
    said = " ".join(report(GroupConv(3, 2), shape=fields).findings)
    assert says(said, "the input (1, 3, 4, 7, 7)", "regular field of C4")


def test_five_dimensions_of_which_two_may_be_the_groups_are_asked_for() -> None:
    square, larger = (1, 4, 4, 5, 5), (1, 3, 8, 5, 5)
    for axis in (1, 2):
        assert report(Affine(axis), shape=square).verdict.startswith(f"{NOT_COMPARABLE}: give --field-in")
    assert report(GroupConv(4, 4), shape=square).verdict.startswith(f"{NOT_COMPARABLE}: give --field-in")
    assert report(GroupConv(4, 4), shape=square, field_in="regular").verdict == EQUIVARIANT
    assert report(Affine(2), shape=square, field_in="regular").verdict == NOT_EQUIVARIANT
    assert report(nn.Identity(), shape=larger).verdict.startswith(f"{NOT_COMPARABLE}: give --field-in")
    assert report(nn.Identity(), shape=(1, 3, 5, 5, 5)).verdict == EQUIVARIANT


@pytest.mark.parametrize("shape", [(2, 5, 5), (1, 5, 3)])
def test_maps_without_channels_move(shape: tuple[int, ...]) -> None:
    isotropic = nn.Conv2d(1, 1, 3, padding=1)
    isotropic.requires_grad_(False).weight.copy_(torch.tensor([[1.0, 2, 1], [2, -3, 2], [1, 2, 1]]))
    plain = nn.Conv2d(1, 1, 3, padding=1)
    around = (Do(lambda x: x.unsqueeze(1)), Do(lambda x: x.squeeze(1)))
    assert report(around[0], isotropic, around[1], shape=shape).verdict == EQUIVARIANT
    assert report(around[0], plain, around[1], shape=shape).verdict.startswith(f"{NOT_COMPARABLE}: give --field-out")
    assert report(around[0], plain, around[1], shape=shape, field_out="trivial").verdict == NOT_EQUIVARIANT


def test_a_mask_as_large_as_the_image_moves_with_it() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = Lift(2, 3)

        def forward(self, image, mask):
            return (self.lift(image) * mask[:, None, None]).amax((2, 3, 4))

    example = as_example({"image": IMAGES, "mask": (1, 5, 5)}, torch.float32)
    assert witness(Masked(), example, group="p4").verdict == EQUIVARIANT


def test_a_layer_with_declared_fields_is_compared_on_an_axis_of_its_own() -> None:
    class Declared(Affine):
        field_in = field_out = "regular"

    found = report(Lift(2, 3), Declared(), Do(lambda x: x.amax((1, 2, 3, 4))))
    assert [layer.path for layer in found.broken] == ["1"]
    assert found.verdict == NOT_EQUIVARIANT


def test_a_field_of_a_smaller_group_shows_nothing_of_a_larger_one() -> None:
    from e4profile.layers import LiftingConv2d

    found = report(LiftingConv2d(2, 3, 3, group="p4", padding=1), group="p4m")
    assert found.verdict.startswith(f"{NOT_COMPARABLE}: the output is a regular field of C4")


def test_a_larger_field_is_read_under_a_part_of_its_group() -> None:
    from e4profile.layers import LiftingConv2d

    lift = LiftingConv2d(2, 3, 3, group="p4m", padding=1)
    assert report(lift, nn.ReLU()).verdict == EQUIVARIANT
    assert report(lift, nn.ReLU(), field_out="regular").verdict == EQUIVARIANT
    assert report(lift, Do(lambda x: x.unflatten(1, (3, 8)).flip(2).flatten(1, 2))).verdict.startswith(NOT_COMPARABLE)


@pytest.mark.parametrize("ones", [torch.ones(1, 2, 5, 5), torch.zeros(1, 2, 5, 5), torch.ones(1, 2, 5, 5).triu()])
def test_an_input_that_looks_the_same_when_moved_is_replaced(ones: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(36, 3))
    assert witness(network, as_example(ones, torch.float32), group="p4").verdict == NOT_EQUIVARIANT
    whole = nn.Sequential(Do(lambda x: x.float()), *network.double()).float()
    found = witness(
        whole, as_example(torch.ones(1, 2, 5, 5, dtype=torch.int64), torch.float32), dtype="float32", group="p4"
    )
    assert found.verdict.startswith(NOT_COMPARABLE)


def test_few_whole_numbers_are_no_proof() -> None:
    class Classes(nn.Module):
        def forward(self, x):
            return (x[:, 0, 0, 0] + 100 * x.mean()).sign().long()

    found = report(Classes(), shape=(4, 2, 5, 5), train_steps=0)
    assert not found.verdict.startswith(EQUIVARIANT)


@pytest.mark.parametrize("size", [1.0, 1e12])
def test_a_constant_output_is_no_proof(size: float) -> None:
    found = report(nn.Flatten(), nn.Linear(50, 2), Do(lambda x: 1e-3 * x.tanh() + size * 1e3))
    if size == 1.0:
        assert found.verdict == NOT_EQUIVARIANT
    else:
        assert found.verdict == f"{NOT_COMPARABLE}: the output does not depend on the input"
    assert report(Do(lambda x: x.sum((2, 3)) * 0 + 1)).verdict.startswith(NOT_COMPARABLE)
    assert report(Do(lambda x: x.new_zeros(1, 4, 5, 5))).verdict.startswith(NOT_COMPARABLE)


def test_a_pool_over_the_group_is_not_blamed() -> None:
    over_the_group = Do(lambda x: x.flatten(3)), nn.MaxPool2d((4, 1)), Do(lambda x: x.amax(3).flatten(1))
    assert report(*networks(), *over_the_group).verdict == EQUIVARIANT


class Isotropic(nn.Module):
    """Weights times a basis that is symmetric: equivariant, whatever the weights."""

    def __init__(self, held: str = "buffer") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 2))
        self.held, self.filters = held, None
        basis = torch.tensor([[[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], [[1, 0, 1], [0, 1, 0], [1, 0, 1]]])
        if held == "buffer":
            self.register_buffer("basis", basis)
        else:
            self.basis = nn.Parameter(basis, requires_grad=held == "trained")

    def expanded(self) -> Tensor:
        return torch.einsum("oib,bhw->oihw", self.weight, self.basis)

    def train(self, mode: bool = True):
        if self.held == "cache":
            self.filters = None if mode else self.expanded()
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        filters = self.expanded() if self.filters is None else self.filters
        return F.conv2d(images, filters, padding=1)


@pytest.mark.parametrize("held", ["buffer", "frozen", "cache"])
def test_constants_are_not_randomised(held: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Isotropic(held), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = report(network.eval(), group="p4m")
    assert found.verdict == EQUIVARIANT
    (said,) = (note for note in found.findings if note.startswith("randomised: "))
    assert "(0.0.weight, 0.1.weight, 0.1.bias, 0.1.running_mean, 0.1.running_var)" in said
    assert "stay: 1" in said
    assert held != "cache" or network[0].filters is not None


def test_what_is_cached_for_evaluation_is_made_again() -> None:
    class Cached(Isotropic):
        def expanded(self) -> Tensor:
            # symmetric at initialisation only
            return super().expanded() + (self.weight - self.first).sum() * torch.arange(9.0).reshape(3, 3)

    cached = Cached("cache")
    cached.register_buffer("first", cached.weight.detach().clone())
    assert report(cached.eval(), nn.AdaptiveAvgPool2d(1)).verdict in (AT_INIT_ONLY, NOT_EQUIVARIANT)
    assert report(cached.eval(), Do(lambda x: x.amax((2, 3)))).verdict == AT_INIT_ONLY


def test_what_holds_after_training_is_not_said_to_hold_at_initialisation_only() -> None:
    class Gated(nn.Module):
        """Breaks as soon as a gate is not 0, which no gradient moves."""

        def __init__(self, *, gate: bool) -> None:
            super().__init__()
            self.inner, self.gate = Isotropic(), nn.Parameter(torch.zeros(1), requires_grad=True)
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
            self.by_gate = gate

        def forward(self, images: Tensor) -> Tensor:
            self.steps += self.training
            gate = self.gate.sign().detach() if self.by_gate else self.steps.sign()
            return self.inner(images + gate * torch.arange(5.0)).amax((2, 3))

    assert report(Gated(gate=True)).verdict == NOT_RANDOMISED
    assert report(Gated(gate=True), train_steps=0).verdict == AT_INIT_ONLY
    assert report(Gated(gate=False)).verdict == UNTIL_TRAINED


STRIDED = {
    "a convolution": Do(lambda x: F.conv2d(x, torch.ones(3, 3, 3, 3, dtype=x.dtype), stride=2, padding=1)),
    "a pool": nn.MaxPool2d(3, 2, 1),
    "a function": Do(lambda x: F.avg_pool2d(x, 3, 2, 1)),
    "a slice": Do(lambda x: x[..., ::2, ::2]),
}


@pytest.mark.parametrize("what", STRIDED)
def test_a_stride_on_an_even_map_is_named_with_the_size_that_fits(what: str) -> None:
    def found(size: int) -> EquivarianceReport:
        parts = Isotropic(), STRIDED[what], Do(lambda x: x.mean((2, 3)))
        return report(*parts, shape=(1, 2, size, size), train_steps=0)

    even, odd = found(8), found(9)
    assert even.verdict == NOT_EQUIVARIANT
    (said,) = (finding for finding in even.findings if "stride 2" in finding)
    assert said.startswith("at 1 (")
    assert said.endswith("a map of 7 or 9 is exact")
    assert odd.verdict == EQUIVARIANT
    assert "stride 2" not in " ".join(odd.findings)


def test_single_precision_inside_is_named_with_its_remedy() -> None:
    class Pooled(nn.Module):
        def __init__(self, *, back: bool) -> None:
            super().__init__()
            self.inner, self.head, self.back = Isotropic(), nn.Linear(3, 2), back

        def forward(self, images: Tensor) -> Tensor:
            pooled = self.inner(images).float().mean((2, 3))
            return self.head(pooled.to(self.head.weight.dtype) if self.back else pooled)

    remedy = "give --dtype float32, whose tolerance is 0.0001"
    assert report(Pooled(back=True)).verdict == f"{NOT_COMPARABLE}: {remedy} (the network computes in float32)"
    with pytest.raises(SettingError, match=remedy):
        report(Pooled(back=False))
    for back in (True, False):
        assert report(Pooled(back=back), dtype="float32").verdict == EQUIVARIANT
    strided = nn.MaxPool2d(3, 2), Pooled(back=True)
    assert report(Isotropic(), nn.Conv2d(3, 2, 1), *strided, shape=(1, 2, 8, 8)).verdict == NOT_EQUIVARIANT


@pytest.mark.parametrize("right", [True, False])
def test_a_vector_field_is_asked_for_and_other_maps_are_not(right: bool) -> None:
    class Gradient(nn.Module):
        """(B, 2, h, w): right and up."""

        def forward(self, images: Tensor) -> Tensor:
            across = torch.tensor([[[[-1.0, 0, 1]] * 3]], dtype=images.dtype)
            up = turned(across, 1) if right else across.roll(1, -1)
            return F.conv2d(images.mean(1, keepdim=True), torch.cat([across, up]), padding=1)

    verdict = report(Gradient(), shape=(1, 2, 7, 7), train_steps=0).verdict
    assert (
        verdict.startswith(f"{NOT_COMPARABLE}: give --field-out (each motion") if right else verdict == NOT_EQUIVARIANT
    )


def test_maps_that_are_not_finite_are_not_equivariant() -> None:
    found = report(Do(lambda x: x.log()), nn.Conv2d(2, 3, 3), shape=(1, 2, 7, 7), train_steps=0)
    assert found.verdict == NOT_EQUIVARIANT


def test_a_field_of_a_larger_group_is_asked_for_its_group() -> None:
    from e4profile.groups import Group

    class Eighths(nn.Module):
        """(B, c * 8, h, w), of which a quarter turn moves every element by two."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(*networks())

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images).transpose(1, 2).flatten(1, 2)

    asked = report(Eighths(), field_out="regular", train_steps=0)
    assert asked.verdict.startswith(f"{NOT_COMPARABLE}: set group = Group(rotations=8, mirrors=False) on the network")
    named = Eighths()
    named.group = Group(8)
    for field_out in ("regular", None):
        assert report(named, field_out=field_out, train_steps=0).verdict == EQUIVARIANT
    assert report(named, field_out="trivial", train_steps=0).verdict == NOT_EQUIVARIANT


def test_the_group_of_a_declared_space_of_fields_is_used() -> None:
    from types import SimpleNamespace

    def declared(name: str) -> nn.Module:
        parts = nn.Sequential(*networks(), Do(lambda x: x.transpose(1, 2).flatten(1, 2)))
        parts.out_type = SimpleNamespace(gspace=SimpleNamespace(fibergroup=SimpleNamespace(name=name)))
        return parts

    assert report(declared("C8"), train_steps=0).verdict == EQUIVARIANT
    assert report(declared("SO(2)"), train_steps=0).verdict.startswith(NOT_COMPARABLE)


def test_a_network_that_has_no_training_mode_is_measured_as_it_is() -> None:
    class Frozen(Isotropic):
        def train(self, mode: bool = True):
            if mode:
                raise RuntimeError("for evaluation only")
            return super().train(mode)

    found = report(Frozen().eval())
    assert found.verdict == EQUIVARIANT
    assert sum("for evaluation only" in note for note in found.notes) == 2


def test_the_remedy_for_single_precision_reaches_a_command(tmp_path) -> None:
    from e4profile import check_equivariance

    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.head = nn.Linear(1, 2)\n\n    def forward(self, x):\n"
        "        return self.head(x.float().mean((2, 3)))\n"
    )
    with pytest.raises(SettingError, match="give --dtype float32, whose tolerance is"):
        check_equivariance(f"{tmp_path / 'net.py'}:Net", (1, 1, 4, 4), group="p4")


def test_a_forward_that_is_not_the_same_twice_is_not_comparable() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = Isotropic(), 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return self.inner(images) + self.calls * images.new_ones(3, 1, 1)

    found = report(Counting(), train_steps=0)
    assert found.verdict.startswith(f"{NOT_COMPARABLE}: two calls on the same inputs differ by ")


def test_complex_parameters_stay_complex_in_double_precision() -> None:
    class Transformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 2, 1, 1, dtype=torch.complex64) * 1j)

        def forward(self, images: Tensor) -> Tensor:
            turned: Tensor = nn.functional.conv2d(images.to(self.weight.dtype), self.weight).imag
            return turned.mean((2, 3))

    assert report(Transformed(), train_steps=0).verdict == EQUIVARIANT


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_name_single_precision() -> None:
    network = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(50, 3)), {nn.Linear})
    with pytest.raises(SettingError, match=r"does not run in float64 .*give --dtype float32"):
        report(network, train_steps=0)
