"""Outputs on the meta device, and of stand-ins, made without PyTorch have the shape, dtype and strides of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from e4profile.subjects import meta_outputs

aten = torch.ops.aten
KINDS = st.booleans()
CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)


def _described(out: Any) -> list[tuple[Any, ...]]:
    outputs = out if isinstance(out, tuple) else (out,)
    return [(one.shape, one.dtype, one.stride(), one.device.type, one.layout) for one in outputs]


def _asked(func: Any, args: tuple[Any, ...], as_stand_ins: bool) -> tuple[Any, Any]:
    """What is returned, or the kind of what is raised, here and by PyTorch."""
    answers = []
    if as_stand_ins:
        mode = FakeTensorMode()
        args = tuple(FakeTensor(mode, one, CPU) if isinstance(one, torch.Tensor) else one for one in args)
    for run in (lambda: meta_outputs.run(func, args, {}), lambda: func(*args)):
        try:
            answers.append(_described(run()))
        except Exception as error:
            answers.append(type(error))
    return answers[0], answers[1]


@st.composite
def features(draw: st.DrawFn) -> torch.Tensor:
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    made = torch.empty(sizes, device="meta", dtype=draw(st.sampled_from(DTYPES)))
    return made.transpose(0, -1) if draw(st.booleans()) else made


@settings(deadline=None)
@given(features(), st.data())
def test_a_view_of_a_stand_in_is_that_of_a_real_tensor(images: torch.Tensor, data: st.DataObject) -> None:
    """Where PyTorch's own stand-ins differ: in axes of size 1."""
    shape = data.draw(st.permutations([*images.shape, 1, -1 if images.numel() else 1]))
    real, stand_in = torch.empty_strided(images.shape, images.stride()), FakeTensor(FakeTensorMode(), images, CPU)
    answers = []
    for run in (lambda: meta_outputs.run(aten.view.default, (stand_in, shape), {}), lambda: real.view(shape)):
        try:
            answers.append((run().shape, run().stride()))
        except RuntimeError as error:
            answers.append(type(error))
    assert answers[0] == answers[1]


@settings(deadline=None)
@given(features(), KINDS)
def test_an_elementwise_operator(images: torch.Tensor, as_stand_ins: bool) -> None:
    ours, theirs = _asked(aten.relu.default, (images,), as_stand_ins)
    assert ours == theirs


@settings(deadline=None)
@given(features(), st.booleans(), st.booleans(), st.booleans(), st.integers(-1, 1), st.sampled_from(DTYPES[:3]), KINDS)
def test_a_batch_norm(
    images: torch.Tensor, training: bool, affine: bool, tracked: bool, off: int, dtype: torch.dtype, as_stand_ins: bool
) -> None:
    channels = images.shape[1] if images.dim() > 1 else 2
    vector = torch.empty(max(0, channels + off), device="meta", dtype=dtype)
    weights = (vector, vector) if affine else (None, None)
    running = (vector, vector) if tracked else (None, None)
    ours, theirs = _asked(
        aten.native_batch_norm.default, (images, *weights, *running, training, 0.1, 1e-5), as_stand_ins
    )
    assert ours == theirs


@settings(deadline=None)
@given(features(), st.booleans(), st.integers(1, 3), st.integers(-1, 1), st.sampled_from(DTYPES[:3]), KINDS)
def test_a_group_norm(
    images: torch.Tensor, affine: bool, groups: int, off: int, dtype: torch.dtype, as_stand_ins: bool
) -> None:
    count, channels = images.shape[0], images.shape[1] if images.dim() > 1 else 1
    positions = images[0, 0].numel() if images.dim() > 1 and count and channels else 1
    vector = torch.empty(max(0, channels + off), device="meta", dtype=dtype)
    weights = (vector, vector) if affine else (None, None)
    norm = (images, *weights, count, channels, positions, groups, 1e-5)
    ours, theirs = _asked(aten.native_group_norm.default, norm, as_stand_ins)
    assert ours == theirs


@pytest.mark.parametrize("training", [True, False])
def test_usual_maps_are_made_without_pytorch_and_real_ones_are_computed(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = torch.ones(3)
    args = (torch.randn(2, 3, 4, 4), vector, vector, vector.clone(), vector.clone(), training, 0.1, 1e-5)
    computed = meta_outputs.run(aten.native_batch_norm.default, args, {})[0]
    assert torch.equal(computed, aten.native_batch_norm.default(*args)[0])
    on_meta = tuple(one.to("meta") if isinstance(one, torch.Tensor) else one for one in args)

    def refused(*_: Any) -> Any:
        raise AssertionError("PyTorch's own was asked")

    made = meta_outputs._OUTPUTS[aten.native_batch_norm.default]
    monkeypatch.setattr(meta_outputs, "_OUTPUTS", {refused: made})
    assert meta_outputs.run(refused, on_meta, {})[0].shape == (2, 3, 4, 4)
