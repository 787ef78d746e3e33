"""Factories of torchvision and timm by path, held against the figures that torchvision itself carries."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import Measurement, measure

try:
    import torchvision
except (ImportError, RuntimeError) as error:  # a wheel for another build of torch fails late
    text = f"torchvision does not import: {type(error).__name__}: {str(error).splitlines()[0]}"
    pytest.skip(text, allow_module_level=True)

EXACT = ("closed-form", "dispatch")

CLASSIFIERS = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16",
)  # fmt: skip
VIDEO = {"mvit_v1_b": 224, "r2plus1d_18": 112, "s3d": 224, "swin3d_t": 224}
"""Image sizes; the figures are for 16 frames."""

AUXILIARY = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": True, "init_weights": False},
}
"""Whether the published parameters include the auxiliary heads, which do not run in evaluation mode."""


def counted(name: str, shape: str, **arguments: Any) -> Measurement:
    return measure(resolve(name, [shape], arguments), EXACT)


def says(name: str) -> tuple[int, Decimal, int]:
    """Parameters, 10^9 MACs with three decimals and image size, as torchvision's metadata has them."""
    weights = torchvision.models.get_model_weights(name)
    first = next(iter(weights))
    (size,) = set(first.transforms().crop_size)
    return first.meta["num_params"], Decimal(str(first.meta["_ops"])), size


def in_billions(macs: int) -> Decimal:
    return (Decimal(macs) / 10**9).quantize(Decimal("0.001"))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_have_the_cost_that_torchvision_prints(name: str) -> None:
    params, billions, size = says(name)
    found = counted(f"torchvision.models:{name}", f"1x3x{size}x{size}", **AUXILIARY.get(name, {}))
    assert found.dispatch.uncounted == {}
    assert found.dispatch.summed_products == {}
    assert found.differences == []
    assert (found.dispatch.params, in_billions(found.dispatch.macs)) == (params, billions)


@pytest.mark.parametrize("name", VIDEO)
def test_video_networks(name: str) -> None:
    weights = next(iter(torchvision.models.get_model_weights(name)))
    found = counted(f"torchvision.models.video:{name}", f"1x3x16x{VIDEO[name]}x{VIDEO[name]}")
    assert found.dispatch.uncounted == {}
    assert found.dispatch.params == weights.meta["num_params"]
    assert in_billions(found.dispatch.macs) == Decimal(str(weights.meta["_ops"]))


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_segmentation_networks_with_outputs_in_a_dict(name: str) -> None:
    weights = next(iter(torchvision.models.get_model_weights(name)))
    arguments = {"weights_backbone": None, "num_classes": 21}
    if not name.startswith("lraspp"):
        arguments["aux_loss"] = True
    found = counted(f"torchvision.models.segmentation:{name}", "1x3x520x520", **arguments)
    assert found.dispatch.uncounted == {}
    assert found.dispatch.params == weights.meta["num_params"]
    assert in_billions(found.dispatch.macs) == Decimal(str(weights.meta["_ops"]))


def test_arguments_of_a_factory() -> None:
    full = counted("torchvision.models:resnet18", "1x3x224x224")
    ten = counted("torchvision.models:resnet18", "1x3x224x224", num_classes=10)
    assert full.dispatch.params - ten.dispatch.params == 990 * 513
    assert full.dispatch.macs - ten.dispatch.macs == 990 * 512
    assert full.closed.macs == full.dispatch.macs


def test_deformable_convolution() -> None:
    import torch
    from torch import nn

    from e4profile.witnesses.counts.dispatch import count_dispatch

    if not torchvision.extension._has_ops():
        pytest.skip("this build of torchvision has no compiled operators")

    class Deformable(nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
            sizes = (1, 1, 1, 1, 1, 1, 2, 1)
            made: torch.Tensor = torch.ops.torchvision.deform_conv2d(
                x, weight, offset, x.new_zeros(0), x.new_zeros(6), *sizes, False
            )
            return made

    inputs = (torch.empty(2, 4, 5, 5), torch.empty(6, 2, 3, 3), torch.empty(2, 18, 5, 5))
    found = count_dispatch(Deformable(), inputs)
    assert (found.operations, found.uncounted) == ({"convolution": 2 * 6 * 25 * 2 * 9}, {})


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "crossvit_9_240", "maxvit_pico_rw_256"])
def test_timm_has_one_factory_for_all(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    size = timm.get_pretrained_cfg(name).input_size[-1]
    found = counted("timm:create_model", f"1x3x{size}x{size}", model_name=name)
    assert found.dispatch.uncounted == {}
    assert found.differences == []
    assert found.dispatch.params == sum(one.numel() for one in timm.create_model(name).parameters())
    if name == "resnet18":
        same = counted("torchvision.models:resnet18", "1x3x224x224")
        assert (found.dispatch.params, found.dispatch.macs) == (same.dispatch.params, same.dispatch.macs)
