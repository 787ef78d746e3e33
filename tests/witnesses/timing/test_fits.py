from __future__ import annotations

import math
import random

import pytest

from e4profile.errors import E4ProfileError
from e4profile.questions.time.fits import _fastest, _reasons, _Searched
from e4profile.witnesses.timing.clock import MeasurementError, Work
from e4profile.witnesses.timing.fits import (
    Bound,
    FittingBatch,
    TooMuchMemory,
    largest_batch_within,
    most_in_memory,
    out_of_memory,
    within_memory,
)
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.samples import Samples, StopRule, TimeRecord, collect, noise_notes


def record(batch: int, seconds: tuple[float, ...]) -> TimeRecord:
    samples = Samples(seconds, 0, seconds[0], 2, True, "noise target", "")
    return TimeRecord("net", "forward", "eval", "", "cpu", "float32", (batch, 1), False, False, 1, "stub", samples, {})


def exact(law):
    asked = []

    def measure(batch: int) -> TimeRecord:
        asked.append(batch)
        return record(batch, (law(batch),) * 10)

    return measure, asked


@pytest.mark.parametrize(
    "law",
    [
        lambda n: 0.001 * n,
        lambda n: 0.02 + 0.0001 * n,
        lambda n: 1e-5 * n**2,
        lambda n: 0.001 * math.ceil(n / 8),
        lambda n: 0.029 if n <= 300 else 0.0301,
    ],
)
@pytest.mark.parametrize("limit_s", [0.03, 0.0297])
def test_the_largest_batch_is_found_with_few_measurements(law, limit_s):
    measure, asked = exact(law)
    found = largest_batch_within(measure, limit_s)
    expected = max(n for n in range(1, 5000) if law(n) <= limit_s)
    assert found.batch_size <= expected < found.batch_above
    assert found.batch_above - found.batch_size <= max(1, expected // 100)
    assert len(asked) == found.measured == len(set(asked)) <= 3 * math.log2(2 * expected) + 2
    assert found.largest.record.median_s <= limit_s < found.above.record.median_s


def test_one_image_that_is_too_slow_is_an_answer():
    measure, asked = exact(lambda n: 0.1 * n)
    found = largest_batch_within(measure, 0.03)
    assert (found.batch_size, found.batch_above, found.largest, asked) == (0, 1, None, [1])


def test_the_largest_that_is_tried_is_told():
    measure, asked = exact(lambda n: 1e-6)
    found = largest_batch_within(measure, 0.03, most=100)
    assert (found.batch_size, found.batch_above, found.above) == (100, None, None)
    assert asked == [1, 2, 4, 8, 16, 32, 64, 100]
    assert found.stopped == "at least 100: no batch above 100 is tried"


def failing(at, error):
    def measure(batch: int) -> TimeRecord:
        if at(batch):
            raise error
        return record(batch, (0.001 * batch,) * 10)

    return measure


def test_passes_that_would_take_long_are_estimated_and_not_timed():
    measure, asked = exact(lambda n: 0.01 * n)
    found = largest_batch_within(measure, 1e6, longest_s=1.0)
    assert asked == [1, 2, 4, 8, 16, 32, 64]
    assert (found.batch_size, found.batch_above) == (64, None)
    assert found.stopped.startswith("at least 64: a pass on 128 images would take about 1.3 s, and none longer than 1 ")
    assert found.stopped.endswith("at the rate so far the limit holds about 1e+08")


def test_memory_ends_the_search_and_other_errors_end_the_command():
    found = largest_batch_within(failing(lambda n: n > 8, MeasurementError("CUDA out of memory")), 1.0)
    assert (found.batch_size, found.batch_above, found.above) == (8, 16, None)
    assert found.stopped == "at least 8: a batch of 16 does not fit into memory"
    with pytest.raises(MeasurementError, match="wrong shape"):
        largest_batch_within(failing(lambda n: n > 8, MeasurementError("wrong shape")), 1.0)
    refused = largest_batch_within(failing(lambda n: n > 8, TooMuchMemory("no room")), 1.0)
    assert refused.stopped == "at least 8: no room", "known by its type, however it is worded"
    assert not out_of_memory(ValueError("wrong"))
    wrapped = E4ProfileError("cannot run")
    wrapped.__cause__ = MemoryError()
    assert out_of_memory(wrapped)


def test_a_norm_that_refuses_one_image_starts_at_two():
    error = MeasurementError("Expected more than 1 value per channel")
    assert largest_batch_within(failing(lambda n: n == 1, error), 0.01).batch_size == 10
    with pytest.raises(MeasurementError, match="Expected more than 1"):
        largest_batch_within(failing(lambda n: n < 3, error), 0.01)


def test_noise_is_told_and_ends_the_search():
    def measure(batch: int) -> TimeRecord:
        middle = 0.001 * batch
        return record(batch, tuple(middle * share for share in (0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.3, 1.4, 1.5)))

    found = largest_batch_within(measure, 0.03)
    assert found.within_noise
    assert found.measured <= 7, "both bounds straddle the limit: what lies between cannot be told"
    quiet, _ = exact(lambda n: 0.001 * n)
    assert not largest_batch_within(quiet, 0.0305).within_noise


@pytest.mark.parametrize(("limit_s", "within"), [(0.9, True), (1.1, True), (0.89, False), (1.11, False)])
def test_an_interval_holds_its_ends(limit_s, within):
    assert Bound(record(1, (0.9, 1.0, 1.0, 1.0, 1.0, 1.1)), limit_s).within_noise == within


@pytest.mark.parametrize(("above", "jumps"), [(22, True), (23, False)])
def test_a_jump_is_told_of_a_batch_that_is_a_tenth_larger_at_most(above, jumps):
    slower = Bound(record(above, (0.0013 * above,) * 6), 0.02)
    assert FittingBatch(Bound(record(20, (0.02,) * 6), 0.02), slower, above, 2).jumps == jumps


def test_a_jump_that_the_images_do_not_explain_is_noise():
    jump, _ = exact(lambda n: 0.0005 * n if n <= 40 else 0.001 * n)
    assert largest_batch_within(jump, 0.03).within_noise


@pytest.mark.parametrize("disturbed", [{2}, {16}, {30}, {16, 30}, set()])
def test_a_batch_that_was_disturbed_is_measured_again(disturbed):
    asked = []

    def measure(batch: int) -> TimeRecord:
        asked.append(batch)
        first = asked.count(batch) == 1
        slower = 40 if first and batch in disturbed else 1
        return record(batch, (0.001 * batch * slower,) * 10)

    found = largest_batch_within(measure, 0.03)
    assert found.batch_size == 30
    assert disturbed <= set(asked)
    assert found.measured == len(asked)
    assert not found.jumps


def test_a_leap_that_stays_is_told_and_measured_twice():
    measure, asked = exact(lambda n: 0.001 * n if n <= 8 else 0.1 * n)
    found = largest_batch_within(measure, 0.03)
    assert (found.batch_size, found.batch_above) == (8, 9)
    assert (asked.count(8), asked.count(9)) == (2, 2)
    assert found.jumps
    assert found.within_noise
    assert found.undecided == ()


def test_it_is_said_which_interval_holds_the_limit():
    def measure(batch: int) -> TimeRecord:
        spread = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2) if batch > 30 else (0.9, 0.95) + (1.0,) * 7
        return record(batch, tuple(0.00095 * batch * share for share in spread))

    found = largest_batch_within(measure, 0.03, most=40)
    assert (found.batch_size, found.batch_above) == (31, 32)
    assert [bound.record.batch_size for bound in found.undecided] == [31, 32]
    quiet = largest_batch_within(lambda n: measure(n) if n > 30 else record(n, (0.00095 * n,) * 10), 0.0286)
    assert [bound.record.batch_size for bound in quiet.undecided] == [31]
    said = _reasons(quiet, 0.0286)
    assert said[0].startswith("the interval of the next batch (31), 2")
    assert said[0].endswith("holds 28.60 ms")


def test_the_network_that_serves_most_is_named_for_each_pass():
    def row(network: str, pass_: str, batch: int, per_s: float | None) -> _Searched:
        largest = None if per_s is None else Bound(record(batch, (batch / per_s,)), 0.03)
        return _Searched(network, PassSetting(pass_), FittingBatch(largest, None, None, 1), 0.03)

    rows = [row("a", "forward", 4, 400.0), row("b", "forward", 2, 1500.0), row("a", "step", 1, 9.0)]
    told = "most images per second within 30.00 ms, forward: b with 1,500, in batches of 2"
    assert _fastest([*rows, row("b", "step", 0, None)], 0.03) == [told]
    assert _fastest(rows[2:], 0.03) == []


def test_a_batch_that_would_take_most_of_the_memory_is_not_tried():
    measure, asked = exact(lambda n: 1e-6)
    # 3 GiB are there before, and each image takes 1 MiB
    bounded = within_memory(measure, 5 << 30, lambda: (3 << 30) + (max(asked, default=0) << 20))
    found = largest_batch_within(bounded, 1e6)
    assert (found.batch_size, found.batch_above, max(asked)) == (2048, 4096, 2048)
    assert found.stopped.startswith("at least 2048: a batch of 4096 would take about 7 GiB")


def test_inputs_that_would_fill_the_memory_are_not_tried():
    assert most_in_memory(1) > most_in_memory(1 << 40)
    assert most_in_memory(1 << 60) == 1


def ticking(step: float):
    time = 0.0

    def now() -> float:
        nonlocal time
        time += step
        return time

    return now


class _Stub:
    name = "stub"

    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.count = seconds, 0

    def read(self, work: Work):
        from e4profile.witnesses.timing.clock import Reading

        self.count += 1
        return Reading(self.seconds[self.count % len(self.seconds)])


@pytest.mark.parametrize(("limit_s", "reason"), [(0.5, "limit decided"), (5.0, "limit decided"), (1.0, "max samples")])
def test_sampling_stops_once_the_limit_is_decided(limit_s, reason):
    rule = StopRule(relative_noise=1e-6, min_run_time_s=0.0, max_samples=200, limit_s=limit_s)
    spread = [0.9 + 0.2 * (0.618034 * step % 1) for step in range(997)]
    (found,) = collect([Work(lambda _: None)], _Stub(spread), rule, now=ticking(1e-9))
    assert found.stopped_by == reason
    assert (len(found.seconds) < 50) == (reason == "limit decided")


def test_noise_is_one_note_per_cause():
    quiet = Samples((1.0,) * 20, 0, 1.0, 3, True, "noise target", "")
    spread = Samples((1.0, 1.0, 1.0, 2.0, 2.0, 3.0) * 20, 0, 1.0, 3, True, "noise target", "")
    few = Samples((1.0, 1.0), 0, 1.0, 3, False, "max run time", "")
    notes = noise_notes([quiet, spread, few, few])
    assert [note.split(" (")[0] for note in notes] == ["noisy: 1 of 4 rows", "noisy: 3 of 4 rows", "noisy: 2 of 4 rows"]
    assert "up to " in notes[0]
    assert noise_notes([quiet]) == []
    assert noise_notes([quiet, few], "networks", ["a", "b"])[0].endswith("): b")


def test_a_median_on_the_limit_is_seldom_put_on_one_side_of_it():
    """Looking again and again at an interval of 95% would put every fifth on one side."""
    looks = [10]
    while looks[-1] < 200:
        looks.append(looks[-1] + 1 + looks[-1] // 10)
    rule, decided = StopRule(limit_s=1.0), 0
    for seed in range(150):
        draws = random.Random(seed)
        seconds = [draws.lognormvariate(0.0, 0.05) for _ in range(looks[-1])]
        decided += any(rule.decided(seconds[:count]) for count in looks)
    assert decided <= 15
