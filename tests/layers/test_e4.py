from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from e4profile.conventions import AGGREGATION, MAC_KINDS, NORM_KINDS
from e4profile.errors import SettingError
from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import E4Conv2d
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def e4_settings(draw: st.DrawFn, largest: int = 24) -> dict[str, Any]:
    c_in = draw(st.integers(1, largest))
    c_out = draw(st.integers(1, largest).filter(lambda n: n != c_in))
    s = draw(st.sampled_from(divisors(c_out)))
    by_channels = draw(st.booleans())
    return {
        "c_in": c_in, "c_out": c_out, "kernel": draw(st.sampled_from([1, 3, 5, 7, 9])),
        "group": draw(st.sampled_from(GRID_EXACT)), "reduction": draw(st.sampled_from(divisors(c_in))),
        **({"channels_per_slice": c_out // s} if by_channels else {"slices": s}),
        "stride": draw(st.sampled_from([1, 2])),
        "concatenate": draw(st.sampled_from(["both", "kernel", "encoder", "none"])),
        "encoder_norm": draw(st.booleans()), "squeeze_affine": draw(st.sampled_from(["field", "channel"])),
    }  # fmt: skip


def expected(setting: dict[str, Any], batch: int, h: int, w: int) -> tuple[int, dict[str, int]]:
    """The cost written out by hand, from section 4 of the paper and the layer's arguments alone."""
    A, k, c, d = setting["group"].order, setting["kernel"], setting["c_in"], setting["c_out"]
    hidden, step = c // setting["reduction"], setting["stride"]
    s = setting.get("slices") or d // setting["channels_per_slice"]
    H, W = -(-h // step), -(-w // step)
    both_v, both_k = (setting["concatenate"] in ("both", branch) for branch in ("encoder", "kernel"))
    params = d * c * A if both_v else d * c + d
    params += hidden * c * A if both_k else hidden * c + hidden
    params += 2 * d * setting["encoder_norm"] + 2 * hidden * (A if setting["squeeze_affine"] == "channel" else 1)
    params += s * k * k * (hidden + 1)
    convolution = d * A * h * w * c * (A if both_v else 1) + hidden * A * H * W * c * (A if both_k else 1)
    convolution += s * k * k * A * H * W * hidden
    operations = {
        "convolution": convolution * batch,
        "aggregation": d * A * k * k * H * W * batch,
        "group_norm": hidden * A * H * W * batch,
        "batch_norm": setting["encoder_norm"] * d * A * h * w * batch,
    }
    return params, {kind: n for kind, n in operations.items() if n}


@settings(max_examples=150, deadline=None)
@given(e4_settings(), st.integers(1, 3), st.integers(1, 17), st.integers(1, 17))
def test_by_hand_equals_closed_form_equals_dispatch_equals_numel(
    setting: dict[str, Any], batch: int, h: int, w: int
) -> None:
    with torch.device("meta"):
        layer = E4Conv2d(**setting).eval()
    shape = (batch, setting["c_in"] * setting["group"].order, h, w)
    cost, counted = layer.cost(shape), count_dispatch(layer, (torch.empty(shape, device="meta"),))
    params, operations = expected(setting, batch, h, w)
    assert params == cost.total_params == counted.params == sum(p.numel() for p in layer.parameters())
    assert operations == cost.operations == counted.operations
    assert counted.uncounted == {}
    assert set(cost.operations) <= {*MAC_KINDS, *NORM_KINDS}
    assert tuple(layer(torch.empty(shape, device="meta")).shape) == layer.output_shape(shape)


@pytest.mark.parametrize(("c", "r", "s", "k"), [(16, 1, 2, 5), (12, 3, 4, 3), (8, 8, 1, 7)])
@pytest.mark.parametrize("group", ["p4", "p4m", "z2"])
def test_the_printed_closed_form(c: int, r: int, s: int, k: int, group: str) -> None:
    layer = E4Conv2d(c, c, k, group=group, reduction=r, slices=s, encoder_norm=True)
    A, h, w = layer.group.order, 9, 11
    cost = layer.cost((c * A, h, w))
    # section 4.2: c^2 A (1 + 1/r) + c s k^2 / r, and (1 + 1/r) c^2 A^2 h w + (1 + s/r) k^2 c A h w
    assert cost.printed_params == c * c * A + c * c * A // r + c * s * k * k // r
    assert cost.printed_macs == (c * c * A * A + c * c * A * A // r + k * k * c * A + s * k * k * c * A // r) * h * w


@settings(max_examples=60, deadline=None)
@given(e4_settings(largest=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_equivariant_for_every_element_with_everything_randomised(
    setting: dict[str, Any], half_h: int, half_w: int, seed: int
) -> None:
    group = setting["group"]
    setting["squeeze_affine"] = "field"
    odd = setting["stride"] == 2
    h, w = (2 * half_h + odd, 2 * half_w + odd)
    layer = randomise(E4Conv2d(**setting).double().eval(), seed)
    torch.manual_seed(seed)
    x = torch.randn(2, setting["c_in"] * group.order, h, w, dtype=torch.float64)
    assert layer.inexact_on(tuple(x.shape)) is None
    assert max(equivariance_errors(layer, x, group, "regular", "regular")) < 1e-10


@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
def test_stride_two_is_inexact_on_even_sizes_and_says_so(group: Group) -> None:
    layer = randomise(E4Conv2d(2, 3, 3, group=group, stride=2).double().eval())
    x = torch.randn(1, 2 * group.order, 6, 6, dtype=torch.float64)
    reason = layer.inexact_on(tuple(x.shape))
    error = max(equivariance_errors(layer, x, group, "regular", "regular"))
    if group.order == 1:
        assert reason is None
        return
    assert reason is not None
    assert "stride (=2)" in reason
    assert "(=6)" in reason
    assert error > 1e-3
    # the mirror of D1 leaves rows alone, so only the width must be odd
    only_rows_even = layer.inexact_on((1, 2 * group.order, 6, 7))
    assert (only_rows_even is None) == (group == Group(1, True))


@pytest.mark.parametrize("group", [g for g in GRID_EXACT if g.order > 1], ids=str)
def test_the_released_norm_is_equivariant_until_it_is_trained(group: Group) -> None:
    layer = E4Conv2d(2, 2, 3, group=group, squeeze_affine="channel").double().eval()
    x = torch.randn(1, 2 * group.order, 5, 5, dtype=torch.float64)
    assert max(equivariance_errors(layer, x, group, "regular", "regular")) < 1e-10
    assert "affine" in (layer.inexact_on(tuple(x.shape)) or "")
    randomise(layer)
    assert max(equivariance_errors(layer, x, group, "regular", "regular")) > 1e-6


def by_loops(layer: E4Conv2d, x: Tensor) -> Tensor:
    """Eq. 12 position by position, with torch's own rot90 and flip and nothing of the package's operators."""
    group, k, step = layer.group, layer.kernel, layer.stride
    A, c_in, c_out, s = group.order, layer.c_in, layer.c_out, layer.slices
    batch, _, h, w = x.shape
    fields = x.view(batch, c_in, A, h, w)

    def branch(part: Any, c: int) -> Tensor:
        out = torch.zeros(batch, c, A, h, w, dtype=x.dtype)
        for a in range(A):
            for b in range(A):
                if part.weight.dim() == 5:
                    weight = part.weight[:, :, group.product(group.inverse(a), b), 0, 0]
                else:
                    weight = part.weight[:, :, 0, 0] * (a == b)
                out[:, :, a] += torch.einsum("oi,nihw->nohw", weight, fields[:, :, b])
        bias = getattr(part, "bias", None)
        return out if bias is None else out + bias[:, None, None, None]

    values = branch(layer.encoder, c_out)
    if layer.encoder_norm is not None:
        norm = layer.encoder_norm.norm
        mean, var, weight, bias = (
            t[:, None, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        values = (values - mean) / torch.sqrt(var + norm.eps) * weight + bias
    hidden = branch(layer.squeeze, c_in // layer.reduction)[..., ::step, ::step]
    mean = hidden.mean(dim=(2, 3, 4), keepdim=True)
    var = hidden.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    pairs = (1, -1, A if layer.squeeze_affine == "channel" else 1, 1, 1)
    affine, shift = layer.squeeze_norm.weight.view(pairs), layer.squeeze_norm.bias.view(pairs)
    hidden = F.relu((hidden - mean) / torch.sqrt(var + layer.squeeze_norm.eps) * affine + shift)
    padded = F.pad(values, [(k - 1) // 2] * 4)
    H, W = hidden.shape[-2:]
    out = torch.zeros(batch, c_out, A, H, W, dtype=x.dtype)
    for a in range(A):
        rotation, mirror = a % group.rotations, a >= group.rotations
        for i in range(H):
            for j in range(W):
                flat = hidden[:, :, a, i, j] @ layer.generator_weight.T + layer.generator_bias
                stencil = flat.view(batch, s, k, k)
                stencil = stencil.flip(-1) if mirror else stencil
                stencil = torch.rot90(stencil, rotation * (4 // group.rotations), (-2, -1))
                window = padded[:, :, a, i * step : i * step + k, j * step : j * step + k]
                per_field = stencil.repeat_interleave(c_out // s, dim=1)
                out[:, :, a, i, j] = (per_field * window).sum((-2, -1))
    return out.flatten(1, 2)


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
@pytest.mark.parametrize(
    "setting",
    [
        {"c_in": 4, "c_out": 6, "kernel": 3, "reduction": 2, "slices": 3, "encoder_norm": True},
        {"c_in": 2, "c_out": 4, "kernel": 5, "slices": 1, "stride": 2, "squeeze_affine": "channel"},
        {"c_in": 3, "c_out": 2, "kernel": 3, "concatenate": "kernel"},
        {"c_in": 3, "c_out": 2, "kernel": 1, "concatenate": "encoder", "stride": 2},
        {"c_in": 2, "c_out": 4, "kernel": 3, "concatenate": "none", "channels_per_slice": 2},
    ],
)
def test_equals_the_equation_written_as_loops(setting: dict[str, Any], group: Group, implementation: Any) -> None:
    layer = randomise(E4Conv2d(**setting, group=group, implementation=implementation).double().eval(), 5)
    torch.manual_seed(2)
    x = torch.randn(2, setting["c_in"] * group.order, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        got, wanted = layer(x), by_loops(layer, x)
    assert float((got - wanted).abs().max()) < 1e-12 * max(1.0, float(wanted.abs().max()))


@settings(max_examples=40, deadline=None)
@given(e4_settings(largest=6), st.integers(1, 8), st.integers(1, 8))
def test_the_reference_counts_the_same_macs_by_counting_its_multiplications(
    setting: dict[str, Any], h: int, w: int
) -> None:
    fast = randomise(E4Conv2d(**setting).double().eval())
    slow = E4Conv2d(**setting, implementation="reference").double().eval()
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(2, setting["c_in"] * setting["group"].order, h, w, dtype=torch.float64)
    with torch.no_grad():
        a, b = fast(x), slow(x)
    assert float((a - b).abs().max()) <= 1e-12 * max(1.0, float(a.abs().max()))
    ours, theirs = count_dispatch(fast, (x,)), count_dispatch(slow, (x,))
    assert ours.operations == theirs.operations
    # the fast path is one operator, the reference is im2col and a product
    assert "aten::im2col" in theirs.free
    assert "aten::im2col" not in ours.free
    by_path = {layer.path: layer.operations for layer in theirs.layers}
    assert by_path["aggregation"] == {AGGREGATION: ours.operations[AGGREGATION]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 4}, r"kernel \(=4\) must be odd"),
        ({"kernel": 0}, r"kernel \(=0\)"),
        ({"reduction": 3}, r"reduction \(=3\) must divide c_in \(=4\)"),
        ({"reduction": -1}, r"reduction \(=-1\)"),
        ({"slices": 4}, r"slices \(=4\) must divide c_out \(=6\)"),
        ({"slices": 0}, r"slices \(=0\)"),
        ({"channels_per_slice": 4}, r"channels_per_slice \(=4\) must divide c_out \(=6\)"),
        ({"channels_per_slice": 2, "slices": 2}, r"slices \(=2\) \* channels_per_slice \(=2\) must equal c_out \(=6\)"),
        ({"stride": 0}, r"stride \(=0\)"),
        ({"c_in": 0}, r"c_in \(=0\)"),
        ({"c_out": 2.0}, r"c_out \(=2.0\)"),
        ({"concatenate": "all"}, "concatenate"),
        ({"squeeze_affine": "element"}, "affine"),
        ({"group": "C8"}, "C8 rotates by 45 degrees"),
    ],
)
def test_settings_that_cannot_exist_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        E4Conv2d(**{"c_in": 4, "c_out": 6, "kernel": 3, "group": "p4", **change})


def test_slices_and_channels_per_slice_may_both_be_given_when_they_agree() -> None:
    assert E4Conv2d(4, 6, 3, group="p4", slices=3, channels_per_slice=2).slices == 3
    assert E4Conv2d(4, 6, 3, group="p4", channels_per_slice=6).slices == 1


@pytest.mark.parametrize("shape", [(1, 15, 4, 4), (1, 16, 4), (16, 4), (1, 16, 0, 4), (1, 1, 16, 4, 4)])
def test_a_shape_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingError):
        E4Conv2d(4, 4, 3, group="p4").cost(shape)


def test_one_image_and_a_batch_cost_in_proportion() -> None:
    layer = E4Conv2d(4, 6, 3, group="p4m", slices=2)
    one, five = layer.cost((32, 7, 9)), layer.cost((5, 32, 7, 9))
    assert five.total_macs == 5 * one.total_macs
    assert five.total_params == one.total_params
