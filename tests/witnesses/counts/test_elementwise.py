"""What runs element by element, and the rules of published tools that charge it, each against its tool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import CONVENTIONS, ELEMENT_KINDS, convention, rule_names
from e4profile.errors import SettingError
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import Measurement, measure, measure_module
from e4profile.witnesses.variants import VariantCounter

BATCH, SHAPE = 2, (2, 3, 8, 8)


class Residual(nn.Module):
    """Norms of every kind, pooling and upsampling; its sum is a function, which every tool sees, or an operator."""

    def __init__(self, added: Callable[[Tensor, Tensor], Tensor] = torch.add) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.groups = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.GroupNorm(2, 8)
        self.plain, self.pool, self.act = nn.InstanceNorm2d(8), nn.MaxPool2d(2), nn.GELU()
        self.last, self.head, self.added = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5), added

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = self.plain(self.added(x, self.groups(self.second(x))))
        x = F.softmax(self.act(self.pool(x)), 1)
        return self.head(self.last(x).flatten(1))


class Attending(nn.Module):
    """A block of a vision transformer, with attention spelled out or fused."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.patches, self.fused = nn.Conv2d(3, 16, 4, 4), fused
        self.norm, self.plain = nn.LayerNorm(16), nn.LayerNorm(16, elementwise_affine=False)
        self.qkv, self.out, self.up, self.down = (nn.Linear(*n) for n in ((16, 48), (16, 16), (16, 32), (32, 16)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).reshape(BATCH, 4, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            seen = F.scaled_dot_product_attention(q, k, v)
        else:
            seen = torch.matmul((torch.matmul(q, k.transpose(-2, -1)) * 0.5).softmax(-1), v)
        x = x + self.out(seen.transpose(1, 2).reshape(BATCH, 4, 16))
        gate = torch.sigmoid(x) * torch.sqrt(x.abs()) - (-x) / (1 + x.pow(2))
        return self.down(F.gelu(self.up(self.plain(x + gate)))).mean(1).sum(1)


def counted(model: nn.Module) -> Measurement:
    return measure_module(model.eval(), SHAPE, ())


def elements(measured: Measurement) -> dict[str, int]:
    return {kind: n for amounts in measured.dispatch.elements.values() for kind, n in amounts.items()}


def test_each_kind_is_counted_where_it_runs_and_is_no_operation() -> None:
    found = counted(Residual()).dispatch
    by_path = {path: dict(amounts) for path, amounts in found.elements.items() if amounts}
    image, map_ = BATCH * 8 * 64, BATCH * 8 * 16
    assert by_path == {
        "": {"relu": image, "add": image, "softmax": map_},
        "first": {"convolution_bias": image},
        "norm": {"norm_affine": image, "norm_weights": BATCH * 16},
        "groups": {"norm_affine": image, "norm_weights": BATCH * 16},
        "plain": {"batch_norm_statistics": image},
        "pool": {"max_pool": image},
        "act": {"gelu": map_},
        "last": {"adaptive_avg_pool": map_},
        "head": {"linear_bias": BATCH * 5},
    }
    assert not set(found.operations) & set(ELEMENT_KINDS)
    assert {name for name, one in CONVENTIONS.items() if one.elementwise} == set()
    assert set(ELEMENT_KINDS).isdisjoint(kind for one in CONVENTIONS.values() for kind in one.weights)


def test_a_product_that_is_charged_as_macs_is_no_element_too() -> None:
    class Gate(nn.Module):
        counts_products = True

        def forward(self, x: Tensor) -> Tensor:
            return x * x

    found = counted(Gate()).dispatch
    assert (found.macs, sum(map(len, found.elements.values()))) == (BATCH * 3 * 64, 0)


def fvcore_total(model: nn.Module, handles: dict[str, Any] | None = None) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model.eval(), (torch.zeros(SHAPE),))
    analysis.set_op_handle(**(handles or {}))
    return int(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def per_output(weight: int) -> Callable[..., int]:
    return lambda _, outputs: weight * _numel(outputs[0])


def _numel(value: Any) -> int:
    return int(torch.Size(value.type().sizes()).numel())


OCTIC = {
    **{f"aten::{name}": per_output(1) for name in ("add", "mul", "sub", "neg", "div")},
    **{f"aten::{name}": per_output(4) for name in ("sigmoid", "sqrt")},
    "aten::gelu": per_output(8),
    "aten::pow": per_output(5),
    "aten::softmax": lambda inputs, _: 5 * _numel(inputs[0]),
    "aten::mean": lambda inputs, _: _numel(inputs[0]),
    "aten::sum": lambda inputs, outputs: _numel(inputs[0]) - _numel(outputs[0]),
    # 2 B T^2 heads dim
    "aten::scaled_dot_product_attention": lambda inputs, _: 2 * _numel(inputs[0]) * inputs[0].type().sizes()[2],
}
"""What the octic ViTs' authors charge beside fvcore's own handlers."""


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_fvcores_rule_is_what_fvcore_reports() -> None:
    for model in (Residual(), Residual(lambda x, y: x + y), Attending(fused=False)):
        assert counted(model).total("fvcore-handlers") == fvcore_total(model)
    fused = Attending(fused=True)
    attention = 2 * BATCH * 4 * 4 * 16
    assert counted(fused).total("fvcore-handlers") - fvcore_total(fused) == attention
    for name in ("z2cnn", "e4net"):
        measured = measure(resolve(name), ("fvcore",))
        assert measured.total("fvcore-handlers") == measured.raw["fvcore"].macs


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("fused", [False, True])
def test_the_rule_of_the_octic_vits_is_fvcore_with_their_handlers(fused: bool) -> None:
    model = Attending(fused=fused)
    assert counted(model).total("octic-vit") == fvcore_total(model, OCTIC)


def test_torchinfos_rule_is_what_torchinfo_reports() -> None:
    torchinfo = pytest.importorskip("torchinfo")
    model = Residual()
    reported = torchinfo.summary(model.eval(), input_data=[torch.zeros(SHAPE)], verbose=0).total_mult_adds
    assert counted(model).total("torchinfo") == reported
    tokens = Attending(fused=False)
    assert "a linear map over tokens is charged for one token" in convention("torchinfo").differences
    reported = torchinfo.summary(tokens.eval(), input_data=[torch.zeros(SHAPE)], verbose=0).total_mult_adds
    found = counted(tokens)
    products = 2 * BATCH * 4 * 4 * 16
    every, first = (BATCH * n * (16 * 48 + 48 + 16 * 16 + 16 + 2 * (16 * 32) + 48) for n in (4, 1))
    assert found.total("torchinfo") - reported == every - first + products


def test_calflops_rule_is_what_calflops_reports() -> None:
    calflops = pytest.importorskip("calflops")

    def reported(model: nn.Module) -> int:
        return int(
            calflops.calculate_flops(
                model.eval(), args=[torch.zeros(SHAPE)], print_results=False, output_as_string=False
            )[0]
        )

    assert counted(Residual()).total("calflops") == reported(Residual())
    written = Residual(lambda x, y: x + y)
    assert counted(written).total("calflops") - reported(written) == elements(counted(written))["add"]
    upsampling = {"upsample_nearest", "upsample_bilinear", "upsample_bicubic"}
    assert {kind: weight for kind, weight in convention("deepspeed").weights.items() if kind not in upsampling} == dict(
        convention("calflops").weights
    )


def test_a_layers_total_is_in_the_total_and_a_variant_has_it_too() -> None:
    found = measure(resolve("z2cnn"), ())
    for name in rule_names():
        total = found.total(name)
        assert (
            total
            == found.dispatch.total(name)
            == sum(layer.total(name) for layer in found.dispatch.charging(name).layers)
        )
        assert total == VariantCounter(elements=True)(resolve("z2cnn")).total(name)
        with pytest.raises(SettingError, match="which no closed form states"):
            found.closed.total(name)
