"""The irrep basis in Triton: in its interpreter (``test_triton_programs`` runs this file so) or on a GPU."""

from __future__ import annotations

import os

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from e4profile.groups import GRID_EXACT, Group
from e4profile.ops import irreps, triton_reason
from e4profile.ops.irrep_basis import Window
from e4profile.ops.irrep_errors import TOLERANCES, check, errors
from e4profile.ops.irreps import chain, convolve, irrep_filters

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
if reason := triton_reason(torch.empty(0, device=DEVICE)):
    pytest.skip(f"not in this process: {reason}", allow_module_level=True)

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from e4profile.ops import irrep_kernels  # noqa: E402


@triton.jit
def _counted(out, end):
    for i in range(end):
        tl.store(out, i + 1)


if INTERPRETED:
    try:
        _counted[(1,)](torch.empty(1), 2)
    except triton.runtime.errors.InterpreterError as error:  # of older versions where numpy is 2.4 or newer
        pytest.skip(f"triton {triton.__version__} interprets no such loop: {error}", allow_module_level=True)


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """The kernels serve tensors of any device; how many launches there were."""
    launches = []
    for name in ("_convolve", "_weigh"):
        kernel = getattr(irrep_kernels, name)
        watched = type("Watched", (), {"__getitem__": lambda _, grid, k=kernel: launches.append(grid) or k[grid]})()
        monkeypatch.setattr(irrep_kernels, name, watched)
    monkeypatch.setattr(irreps, "irrep_kernels_for", lambda features: irrep_kernels)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield launches


C1, C2, C4, D1, D2, D4 = GRID_EXACT
# the interpreter takes as long for one case of D4 with 9 taps as for ten others
CASES = [
    *((group, 1, 2, torch.float32) for group in GRID_EXACT),
    *((C1, 5, 2, torch.float32), (C2, 3, 2, torch.float16), (C4, 3, 2, torch.bfloat16), (D1, 4, 1, torch.float32)),
    *((D2, 3, 2, torch.float32), (D4, 3, 1, torch.float32)),
]


@pytest.mark.parametrize(("group", "kernel", "stride", "dtype"), CASES, ids=str)
def test_output_and_gradients_are_those_of_the_filter_bank(group, kernel, stride, dtype, launched):
    found = errors(Window(group, kernel, stride, kernel // 2), dtype, DEVICE)
    assert max(found.values()) <= TOLERANCES[str(dtype).removeprefix("torch.")], found
    assert len(launched) == 3


def test_more_fields_and_positions_than_a_program_owns(launched, monkeypatch):
    for name in ("POSITIONS", "FIELDS_IN", "FIELDS_OUT", "WEIGHED_POSITIONS", "WEIGHED_IN", "WEIGHED_OUT"):
        monkeypatch.setattr(irrep_kernels, name, 16)
    monkeypatch.setattr(irrep_kernels, "PROGRAMS", 10)
    found = errors(Window(C2, 1, 1, 0), torch.float32, DEVICE, (17, 18), (3, 5, 4))
    assert max(found.values()) <= 1e-5, found
    # 60 positions in 4 runs, 2 parts of what is written and of what is read; the runs in 10 // 4 shares
    assert launched == [(4 * 2,), (4 * 2,), (2 * 2 * 2,)]


@pytest.mark.parametrize("cosets", [(), Group(8).cosets_on_grid], ids=["strides", "cosets"])
def test_other_strides_and_fields_of_a_larger_group(cosets, launched):
    """The latter with a weight that is gathered already; no bias, and only the gradient of the input."""
    window = Window(C4, 3, 1, 1, cosets)
    generator = torch.Generator(DEVICE).manual_seed(0)
    features = torch.randn(2, 5, 5, 60, 16, device=DEVICE, generator=generator)[..., 3, :].permute(0, 3, 1, 2)
    features.requires_grad_()
    weight = torch.randn(6, 4, 4, 3, 3, device=DEVICE, generator=generator)
    places = torch.tensor(C4.filter_bank_index(3), device=DEVICE)[:, None]
    index = None if cosets else (places + 36 * torch.arange(4, device=DEVICE)[:, None, None]).flatten()
    made = convolve(features, weight, None, index, window)
    wanted = chain(features, irrep_filters(weight, index, window), None, window)
    upstream = torch.randn(1, device=DEVICE, generator=generator).expand(made.shape)
    gradients = (torch.autograd.grad(one, features, upstream)[0] for one in (made, wanted))
    for one, other in ((made, wanted), tuple(gradients)):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()
    assert len(launched) == 2


@pytest.mark.parametrize(
    ("features", "c_out", "window"),
    [
        ((0, 8, 5, 5), 1, Window(C4, 3, 1, 1)),
        ((1, 8, 2, 2), 1, Window(C4, 5, 1, 0)),
        ((1, 8, 5, 5), 1 << 26, Window(C4, 1, 1, 0)),
    ],
)
def test_what_they_do_not_take(features, c_out, window):
    assert not irrep_kernels.takes(torch.empty(features), c_out, window)


def test_what_reaches_beyond_32_bits_is_copied(monkeypatch):
    maps = torch.arange(300.0, device=DEVICE).view(3, 1, 4, 5, 5)[..., :2]
    assert irrep_kernels._near(maps) is maps
    monkeypatch.setattr(irrep_kernels, "LIMIT", 200)
    near = irrep_kernels._near(maps)
    assert near.is_contiguous()
    assert torch.equal(near, maps)


def test_float64_is_left_to_pytorch(launched):
    found = errors(Window(D4, 3, 1, 1), torch.float64, DEVICE)
    assert max(found.values()) <= 1e-13
    assert not launched


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_on_a_gpu_kernels_run_unless_a_counter_watches(monkeypatch, launched):
    monkeypatch.undo()
    rows = check("cuda", ("bfloat16",))
    assert all(row["kernels"] for row in rows)
    for row in rows:
        assert max(row[name] for name in row if name.split()[0] in ("output", "gradient")) <= row["tolerance"], row
    features, weight = (torch.randn(shape, device="cuda") for shape in ((2, 16, 5, 5), (2, 4, 4, 1, 1)))
    with FlopCounterMode(display=False) as counter:
        convolve(features, weight, None, None, Window(C4, 1, 1, 0))
    assert counter.get_total_flops() == 2 * 50 * 2 * 4 * C4.irrep_products
