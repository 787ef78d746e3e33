"""Stand-ins keep for backward what the tensors that they replace keep, and look like them to a forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensor, fake_tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from e4profile.subjects.borrowed import borrowed
from e4profile.subjects.stand_ins import cuda_attention
from e4profile.witnesses.memory.peak import allocator_emulation
from e4profile.witnesses.memory.saved import saved_for_backward

ATTEND = F.scaled_dot_product_attention


class Of(nn.Module):
    """A function of maps that are learned."""

    def __init__(self, function, *parts):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.parts = nn.ModuleList(parts)
        self.function = function

    def forward(self, features):
        return self.function(self.scale * features, *self.parts)


def halved(layer):
    """A layer in float32 on maps in bfloat16, as in mixed precision."""
    return lambda features: layer(features.bfloat16()).float()


def channels_last(features):
    return F.conv2d(features, features.new_ones(8, 8, 1, 1).to(memory_format=torch.channels_last))


def tokens(features):
    return (features.flatten(2).mT @ features.new_ones(8, 8)).mT.view(features.shape)


OPERATORS = {
    "attention": (lambda x: ATTEND(x, x, x), (4, 33, 16)),
    "attention by its name": (lambda x: F.scaled_dot_product_attention(x, x, x), (4, 33, 16)),
    "causal": (lambda x: ATTEND(x, x, x, is_causal=True), (4, 33, 16)),
    "mask": (lambda x: ATTEND(x, x, x, x.new_zeros(33, 33)), (4, 33, 16)),
    "truth mask": (lambda x: ATTEND(x, x, x, x.new_ones(33, 33, dtype=torch.bool)), (4, 33, 16)),
    "learned mask": (lambda x: ATTEND(x, x, x, x @ x.mT), (4, 33, 16)),
    "attention with dropout": (lambda x: ATTEND(x, x, x, dropout_p=0.5), (4, 33, 16)),
    "another width of values": (lambda x: ATTEND(x, x, x[..., :8]), (4, 33, 16)),
    "fewer keys": (lambda x: ATTEND(x, x[..., :7, :], x[..., :7, :]), (4, 33, 16)),
    "matrices alone": (lambda x: ATTEND(x, x, x), (33, 16)),
    "heads inside": (lambda x: ATTEND(x.mT, x.mT, x.mT), (4, 16, 33)),
    "half": (lambda x: ATTEND(x.half(), x.half(), x.half()).float(), (4, 33, 16)),
    "no batch norm weight": (lambda x: F.batch_norm(x, None, None, training=True), (6, 5, 5)),
    "fold": (lambda x: F.fold(F.unfold(x, 1, stride=2), (2, 3), 1), (3, 4, 5)),
    "pooled": (lambda x: F.adaptive_max_pool2d(x, 2), (3, 7, 7)),
    "rrelu": (lambda x: F.rrelu(x, training=True), (5,)),
    "resized": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bicubic"), (3, 4, 4)),
    "sampled": (lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False), (3, 4, 4)),
    "one map out of tokens": (lambda x: F.group_norm(m := tokens(x), 2) * m.sin(), (8, 4, 4)),
    "divided": (lambda x: F.group_norm(m := tokens(x) / 1.5, 2) * m.sin(), (8, 4, 4)),
    "normed in channels last": (
        lambda x: (m := F.group_norm(channels_last(x), 2)).sin().flatten(1) + m.flatten(1).sin(),
        (8, 4, 4),
    ),
    "cdist": (lambda x: torch.cdist(x, x), (30, 4)),
    "autocast": (lambda x: torch.autocast("cpu", torch.bfloat16)(F.layer_norm)(x.bfloat16(), (8,)).float(), (8,)),
}
LAYERS = {
    "LSTM": (lambda: nn.LSTM(10, 8, 2, batch_first=True), (5, 10)),
    "LSTM both ways": (lambda: nn.LSTM(10, 20, bidirectional=True, batch_first=True), (5, 10)),
    "LSTM, wide": (lambda: nn.LSTM(300, 64, batch_first=True), (7, 300)),
    "GRU": (lambda: nn.GRU(10, 8, 2, batch_first=True), (5, 10)),
    "RNN": (lambda: nn.RNN(10, 8, batch_first=True), (5, 10)),
    "attention": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (9, 16)),
    "layer norm in mixed precision": (lambda: Of(halved(nn.LayerNorm(8))), (8,)),
    "batch norm in mixed precision": (lambda: Of(halved(nn.BatchNorm2d(6))), (6, 4, 4)),
    "group norm in mixed precision": (lambda: Of(halved(nn.GroupNorm(2, 6))), (6, 4, 4)),
}


def assert_as_on_the_cpu(model, shape, batch_size=2, **setting):
    real = saved_for_backward(model, shape, batch_size=batch_size, device="cpu", **setting)
    assert saved_for_backward(model, shape, batch_size=batch_size, **setting).storages == real.storages


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_operator_keeps_what_it_keeps_on_the_cpu(name, batch_size):
    function, shape = OPERATORS[name]
    assert_as_on_the_cpu(Of(function), shape, batch_size)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_a_layer_keeps_what_it_keeps_on_the_cpu(name, train):
    build, shape = LAYERS[name]
    assert_as_on_the_cpu(build(), shape, train=train)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_in_another_dtype(dtype):
    for build, shape in (LAYERS["LSTM"], LAYERS["attention"]):
        assert_as_on_the_cpu(build(), shape, dtype=dtype)


def test_an_embedding_bag_has_a_place_to_spare():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(9, 4, mode="max")

        def forward(self, features):
            return self.bag((features * 0).long())

    assert_as_on_the_cpu(Bag(), (5,))


def test_fused_attention_keeps_no_probabilities():
    found = saved_for_backward(Of(lambda x: ATTEND(x, x, x)), (4, 2048, 16))
    # the scaled input, the output and a normaliser a row; and the scale that multiplied
    assert found.saved_bytes == 4 * 2048 * (16 + 16 + 1) * 4
    assert found.notes == ("attention is assumed to run as on cpu: flash kernel (1 call)",)
    probabilities = 4 * 2048 * 2048 * 4
    with sdpa_kernel(SDPBackend.MATH):
        by_mathematics = saved_for_backward(Of(lambda x: F.scaled_dot_product_attention(x, x, x)), (4, 2048, 16))
    assert by_mathematics.saved_bytes > probabilities
    assert by_mathematics.notes == ("attention is assumed to run as on cpu: math kernel (1 call)",)


CUDA = {
    "flash": ({"dtype": torch.bfloat16}, SDPBackend.FLASH_ATTENTION),
    "flash with heads padded": ({"dtype": torch.float16, "width": 20}, SDPBackend.FLASH_ATTENTION),
    "efficient for float32": ({}, SDPBackend.EFFICIENT_ATTENTION),
    "efficient for a mask": ({"dtype": torch.float16, "mask": True}, SDPBackend.EFFICIENT_ATTENTION),
    "efficient for wide heads": ({"dtype": torch.float16, "width": 264}, SDPBackend.EFFICIENT_ATTENTION),
    "math for float64": ({"dtype": torch.float64}, SDPBackend.MATH),
    "math for a head of 3": ({"width": 3}, SDPBackend.MATH),
    "math without heads": ({"heads": ()}, SDPBackend.MATH),
}


@pytest.mark.parametrize("case", CUDA)
def test_the_kernel_that_cuda_would_choose(case):
    setting, chosen = CUDA[case]
    setting = {"dtype": torch.float32, "width": 16, "mask": False, "heads": (4,), **setting}
    shape = (2, *setting["heads"], 33, setting["width"])
    one = torch.empty(shape, dtype=setting["dtype"], device="meta")
    mask = torch.empty(33, 33, dtype=setting["dtype"], device="meta") if setting["mask"] else None
    kernel = cuda_attention(one, one, one, mask, is_causal=False)
    assert kernel == chosen.name.partition("_")[0].lower()

    def attend(features):
        mask = features.new_zeros(33, 33) if setting["mask"] else None
        return F.scaled_dot_product_attention(features, features, features, mask)

    found = saved_for_backward(Of(attend), shape[1:], batch_size=2, dtype=setting["dtype"], kernels="cuda")
    assert found.notes == (f"attention is assumed to run as on cuda: {kernel} kernel (1 call)",)
    kept = [storage for storage in found.storages if storage.shape[-2:] == (33, 33) and storage.dtype == one.dtype]
    # the mask, or the probabilities
    assert bool(kept) == (kernel == "math" or setting["mask"])


def test_the_kernels_that_are_left_enabled():
    one = torch.empty(2, 4, 33, 16, dtype=torch.float16, device="meta")
    for backend, name in (
        (SDPBackend.EFFICIENT_ATTENTION, "efficient"),
        (SDPBackend.CUDNN_ATTENTION, "cudnn"),
        (SDPBackend.MATH, "math"),
    ):
        with sdpa_kernel(backend):
            assert cuda_attention(one, one, one, is_causal=False) == name


def test_dropout_keeps_truth_values_on_cuda():
    on_cpu, on_cuda = (
        saved_for_backward(Of(nn.Dropout(0.5)), (64,), kernels=kernels).saved_bytes for kernels in ("cpu", "cuda")
    )
    assert on_cpu - on_cuda == 64 * 3


def test_a_forward_sees_its_own_device():
    class Asks(nn.Linear):
        def forward(self, features):
            assert (features.device.type, features.is_meta, self.weight.device.type) == ("cpu", False, "cpu")
            kept = torch.zeros(4) + torch.ones(4, device=features.device)
            return super().forward(features) * kept if features.device.type == "cpu" else features

    with torch.device("meta"):
        found = saved_for_backward(Asks(4, 4), (4,))
    assert saved_for_backward(Asks(4, 4), (4,)) == found
    assert isinstance(F.scaled_dot_product_attention, type(ATTEND))


KINDS = {
    "is": lambda x, weight: type(x) is torch.Tensor and type(weight) is nn.Parameter,
    "equals": lambda x, _: type(x) == torch.Tensor,  # noqa: E721
    "is among": lambda x, _: type(x) in {torch.Tensor: 1},
    "is no fake": lambda x, _: not isinstance(x, torch._subclasses.FakeTensor),
    "is no fake by its name": lambda x, _: not isinstance(x, FakeTensor),
    "is no class": lambda x, _: (
        not isinstance(x, type) and isinstance(type(x), type) and type("A", (), {}).__name__ == "A"
    ),
}


@pytest.mark.parametrize("asked", KINDS.values(), ids=KINDS)
def test_a_forward_sees_tensors_of_its_own_class(asked):
    class Asks(nn.Linear):
        def forward(self, features):
            found = super().forward(features)
            return found.square() if asked(features, self.weight) and asked(found, self.weight) else found

    assert_as_on_the_cpu(Asks(4, 4), (4,))
    assert saved_for_backward(Asks(4, 4), (4,)).notes == ()
    assert "type" not in globals()
    assert FakeTensor is torch._subclasses.FakeTensor is fake_tensor.FakeTensor


def test_what_has_values_beside_stand_ins_keeps_them():
    held = (torch.ones(4), [torch.full((4,), 2.0)])

    class Holds(nn.Linear):
        def forward(self, features):
            return super().forward(features) * held[0] + held[1][0]

    assert_as_on_the_cpu(Holds(4, 4), (4,))
    assert held[0].tolist() == [1.0] * 4
    assert held[1][0].tolist() == [2.0] * 4


class Says(nn.Linear):
    def forward(self, features):
        found = super().forward(features)
        return found * 2 if found.sum().item() > 0 else found * 3


class Picks(nn.Linear):
    def forward(self, features):
        found = super().forward(features)
        return found[(found.detach() > 0).nonzero(as_tuple=True)].square().sum()[None]


class Cuts(nn.Linear):
    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out)
        self.register_buffer("size", torch.tensor(2))

    def forward(self, features):
        return super().forward(features)[:, : int(self.size)].square()


class Numpy(nn.Linear):
    def forward(self, features):
        return super().forward(features * float(features.detach().numpy().mean()))


@pytest.mark.parametrize("build", [Says, Picks, Cuts, Numpy])
def test_a_network_that_needs_values_runs_for_real(build):
    model = build(4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for measure in (saved_for_backward, allocator_emulation):
        setting = {} if measure is saved_for_backward else {"loss": "mean"}
        found, real = (measure(model, (4,), batch_size=2, device=device, **setting) for device in ("meta", "cpu"))
        (note,) = found.notes
        assert note.startswith("run for real on cpu, because it cannot run without values (")
        # one sentence of PyTorch's, without the backends that it knows
        assert len(note) < 250
        for name in ("storages", "saved_bytes", "peak_bytes"):
            assert getattr(found, name, None) == getattr(real, name, None)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())


def test_what_is_wrong_for_real_is_said_for_real():
    class Wrong(nn.Linear):
        def forward(self, features):
            return super().forward(features)[: features.sum().item()]

    with pytest.raises(TypeError, match="slice indices"):
        saved_for_backward(Wrong(4, 4), (4,))
    model = Wrong(4, 4).to("meta")
    with pytest.raises(Exception, match=r"item|scalar"), borrowed(model, (4,), batch_size=1) as lent:
        lent.forward()
