from __future__ import annotations

import copy
from queue import SimpleQueue

import pytest
import torch
from stub_clocks import RunningClock
from torch import nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers import Chain, E4Conv2d, GroupMaxPool
from e4profile.records.times import environment_labels, from_record, to_record
from e4profile.witnesses.timing.clock import MeasurementError
from e4profile.witnesses.timing.measure import Timed, compare_interleaved, measure_time
from e4profile.witnesses.timing.passes import PassSetting, prepared
from e4profile.witnesses.timing.samples import StopRule

QUICK = StopRule(min_run_time_s=0.0, max_run_time_s=5.0)


def small_net(classes: int = 3) -> Chain:
    torch.manual_seed(3)
    return Chain(
        lift=nn.Conv2d(1, 8, 3, padding=1),
        norm=nn.BatchNorm2d(8),
        body=E4Conv2d(2, 2, 3, group="p4"),
        dropout=nn.Dropout(0.5),
        group_pool=GroupMaxPool(2, group="p4"),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(2, classes),
    )


def timed(model, pass_="forward", mode="eval", name="", **more):
    return measure_time(model, (1, 6, 6), PassSetting(pass_, mode, **more), QUICK, name=name, clock=RunningClock())


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("pass_", ["forward", "backward", "step"])
def test_the_network_is_left_as_it_was_found(pass_, mode):
    model = small_net()
    model.train()
    model.norm.eval()
    model.lift.weight.grad = torch.full_like(model.lift.weight, 2.0)
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    random_state = torch.random.get_rng_state()
    threads = torch.get_num_threads()

    timed(model, pass_, mode, threads=1 if threads > 1 else 2)

    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.lift.weight.grad, torch.full_like(model.lift.weight, 2.0))
    assert model.classifier.weight.grad is None
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads


def test_a_failing_network_is_left_as_it_was_found_too():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, images):
            raise RuntimeError("no kernel for this")

    model = Failing().train()
    random_state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with pytest.raises(MeasurementError, match=r"step at batch size 2 in torch\.float32 on cpu cannot run: no kernel"):
        timed(model, "step", "train", batch_size=2, threads=1 if threads > 1 else 2)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads


# a list of this file would be given back as it was found
_seen: SimpleQueue[tuple[bool, bool, int]] = SimpleQueue()


def _taken() -> list[tuple[bool, bool, int]]:
    return [_seen.get() for _ in range(_seen.qsize())]


class _Watch(nn.Module):
    """Notes how it was called, outside of all that is given back."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        _taken()

    def forward(self, images):
        _seen.put((torch.is_grad_enabled(), self.training, torch.get_num_threads()))
        return (images * self.weight).mean((2, 3))


@pytest.mark.parametrize(("mode", "gradients"), [("eval", False), ("train", True)])
def test_forward_builds_a_graph_in_training_mode_only(mode, gradients):
    model = _Watch()
    timed(model, "forward", mode, threads=2)
    assert set(_taken()) == {(gradients, mode == "train", 2)}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_backward_and_step_differ_by_what_is_on_the_clock(mode):
    model = _Watch()
    with prepared(model, (1, 4, 4), PassSetting("backward", mode, batch_size=2)) as taken:
        _taken()
        loss = taken.work.prepare()
        assert _seen.qsize() == 1
        assert taken.network.weight.grad is None
        taken.work.call(loss)
        assert _seen.qsize() == 1
        assert taken.network.weight.grad is not None
    with prepared(model, (1, 4, 4), PassSetting("step", mode, batch_size=2)) as taken:
        _taken()
        state = taken.work.prepare()
        assert _seen.empty()
        taken.work.call(state)
        first = taken.network.weight.grad.clone()
        taken.work.call(taken.work.prepare())
        assert _taken() == [(True, mode == "train", torch.get_num_threads())] * 2
        assert torch.equal(taken.network.weight.grad, first), "gradients are reset, not accumulated"


def test_the_record_says_what_was_run():
    record = timed(small_net(), "step", "train", batch_size=3, dtype="float64", threads=1, name="small")
    assert (record.name, record.pass_, record.mode, record.loss) == ("small", "step", "train", "cross_entropy")
    assert (record.device, record.dtype, record.input_shape, record.batch_size) == ("cpu", "float64", (3, 1, 6, 6), 3)
    assert (record.threads, record.clock, record.compiled) == (1, "running stub", False)
    assert record.environment["threads"] == 1
    assert record.samples.seconds == (0.001,) * 10
    assert timed(small_net()).loss == ""


def test_an_output_without_class_scores_is_averaged():
    record = timed(nn.Conv2d(1, 2, 3), "backward")
    assert record.loss == "mean"


def test_given_images_are_used_as_they_are():
    images = torch.randn(5, 1, 6, 6)
    record = measure_time(small_net(), images, rule=QUICK, clock=RunningClock())
    assert record.batch_size == 5
    with prepared(small_net(), images) as taken:
        assert torch.equal(taken.example.tensors[0], images)
    with pytest.raises(SettingError, match=r"batch_size \(=2\) contradicts images of shape \(5, 1, 6, 6\)"):
        measure_time(small_net(), images, PassSetting(batch_size=2), QUICK, clock=RunningClock())


def test_compilation_is_asked_for_once_and_recorded(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    record = timed(small_net(), compile=True)
    assert record.compiled
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"pass_": "forwards"}, UnknownNameError, "did you mean forward"),
        ({"mode": "test"}, UnknownNameError, "unknown mode 'test'"),
        ({"dtype": "float8"}, UnknownNameError, "unknown dtype"),
        ({"dtype": torch.int64}, UnknownNameError, "unknown dtype 'int64'"),
        ({"device": "meta"}, SettingError, "no clock here"),
        ({"batch_size": 0}, SettingError, r"batch_size \(=0\)"),
        ({"threads": 0}, SettingError, r"threads \(=0\)"),
        ({"graphs": True}, SettingError, "graphs need device 'cuda'"),
    ],
)
def test_values_that_cannot_be_measured_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        PassSetting(**values)


def test_a_missing_gpu_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(SettingError, match="finds no CUDA device"):
        timed(small_net(), device="cuda")


def test_a_network_without_values_or_gradients_is_refused():
    with pytest.raises(SettingError, match="meta device"):
        timed(small_net().to("meta"))
    with pytest.raises(SettingError, match="requires a gradient"):
        timed(small_net().requires_grad_(False), "step")


def test_a_record_survives_the_store():
    record = timed(small_net(), "backward", "train", name="small")
    assert from_record(to_record(record)) == record
    line = to_record(record)
    del line.counts["seconds"]
    with pytest.raises(SettingError, match=r"'small'.*seconds"):
        from_record(line)


def test_two_networks_are_compared_on_the_same_terms():
    setting = PassSetting(pass_="step", mode="train", batch_size=2)
    a, b = Timed("a", small_net(), (1, 6, 6)), Timed("b", small_net(5), (1, 6, 6))
    found = compare_interleaved(a, b, setting, StopRule(min_run_time_s=0.0), clock=RunningClock())
    assert (found.first.name, found.second.name) == ("a", "b")
    assert len(found.first.samples.seconds) == len(found.second.samples.seconds) == 10
    assert found.first.environment == found.second.environment
    assert (found.estimate.ratio, found.estimate.verdict) == (1.0, "ambiguous")


def test_environments_go_into_one_table_only_when_asked_and_then_labelled():
    here, there = {"torch": "1", "threads": 1}, {"torch": "1", "threads": 2}
    newer = {**here, "e4profile": "9"}
    assert environment_labels([here, here, newer]) == ["", "", ""]
    with pytest.raises(SettingError, match="threads: 1 against 2"):
        environment_labels([here, there])
    assert environment_labels([here, there, newer, {**there, "torch": "2"}], mixed=True) == ["A", "B", "A", "C"]


def test_more_threads_than_processors_are_refused() -> None:
    before = torch.get_num_threads()
    with pytest.raises(SettingError, match=r"threads \(=100000000\) must be at most \d+"):
        measure_time(small_net(), (1, 8, 8), PassSetting(threads=100_000_000))
    assert torch.get_num_threads() == before
