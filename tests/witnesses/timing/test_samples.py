from __future__ import annotations

import gc
import math
from itertools import chain, repeat

import pytest
from stub_clocks import ScriptedClock

from e4profile.errors import SettingError
from e4profile.witnesses.timing import crowding
from e4profile.witnesses.timing.clock import MeasurementError, Reading, Work
from e4profile.witnesses.timing.measure import compare_works
from e4profile.witnesses.timing.samples import Samples, StopRule, collect

IDLE = Work(lambda _: None)


def take(script, rule=None, overhead_s=0.0):
    clock = ScriptedClock(script, overhead_s)
    return clock, collect([IDLE], clock, rule, now=clock.now)[0]


def test_quiet_samples_stop_at_the_noise_target_after_the_minimum():
    _, samples = take(repeat(0.001), StopRule(min_run_time_s=0.0))
    assert samples.seconds == (0.001,) * 10
    assert samples.stopped_by == "noise target"
    assert "0.00%" in samples.stopped_because
    assert not samples.noisy


def test_the_minimum_run_time_is_reached_before_stopping():
    _, samples = take(repeat(0.001), StopRule(min_run_time_s=0.1))
    assert 100 <= len(samples.seconds) <= 112


def test_wall_time_between_samples_counts():
    _, samples = take(repeat(0.001), StopRule(min_run_time_s=0.1), overhead_s=0.009)
    assert len(samples.seconds) == 10


def test_noise_goes_on_to_the_cap_and_says_so():
    _, samples = take(chain.from_iterable(repeat((0.01, 0.02))), StopRule(min_run_time_s=0.0, max_run_time_s=1.5))
    assert samples.stopped_by == "max run time"
    assert "max_run_time_s (=1.5)" in samples.stopped_because
    assert len(samples.seconds) == 100
    assert samples.noisy
    assert "interquartile range" in samples.noise_reasons[0]


def test_the_cap_cuts_even_below_the_minimum_and_the_result_is_noisy():
    _, samples = take(repeat(4.0), StopRule(max_run_time_s=10.0))
    assert "with the median not known, target 1.00%" in samples.stopped_because
    assert samples.seconds == (4.0, 4.0, 4.0)
    assert any("3 samples is not known" in reason for reason in samples.noise_reasons)


def test_the_number_of_samples_is_capped():
    rule = StopRule(min_run_time_s=1.0, max_run_time_s=2.0, max_samples=50)
    _, samples = take(repeat(1e-9), rule)
    assert (len(samples.seconds), samples.stopped_by) == (50, "max samples")


def test_warm_up_waits_until_the_calls_settle_and_keeps_them_out():
    falling = [9.0, 0.8, 0.4, 0.2, 0.1, 0.05]
    _, samples = take(chain(falling, repeat(0.01)), StopRule(min_run_time_s=0.0, max_run_time_s=60.0))
    assert samples.first_call_s == 9.0
    assert samples.warm_up_calls == 11
    assert samples.warm_up_stable
    assert set(samples.seconds) == {0.01}


def test_warm_up_that_never_settles_ends_and_is_named():
    growing = (0.001 * 1.1**index for index in range(1000))
    _, samples = take(growing, StopRule(min_run_time_s=0.0, max_run_time_s=0.4))
    assert not samples.warm_up_stable
    assert any("had not settled" in reason for reason in samples.noise_reasons)


def test_dropped_samples_are_discarded_and_counted():
    script = chain(repeat(Reading(0.01), 7), [Reading(0.05, dropped=True)] * 3, repeat(Reading(0.01)))
    _, samples = take(script, StopRule(min_run_time_s=0.0))
    assert (samples.dropped, set(samples.seconds), len(samples.seconds)) == (3, {0.01}, 10)


def test_nothing_but_dropped_samples_is_an_error():
    script = chain(repeat(Reading(0.1), 7), repeat(Reading(0.1, dropped=True)))
    with pytest.raises(MeasurementError, match=r"all \d+ samples were discarded"):
        take(script, StopRule(max_run_time_s=10.0))


def test_two_programs_take_turns_and_every_other_round_is_reversed():
    order: list[str] = []
    works = [Work(lambda _: order.append("a")), Work(lambda _: order.append("b"))]
    clock = ScriptedClock(repeat(0.01))
    collect(works, clock, StopRule(min_run_time_s=0.0), now=clock.now)
    assert "".join(order) == "a" * 7 + "b" * 7 + "abba" * 5


def test_a_discarded_round_is_a_turn_too():
    order: list[str] = []
    works = [Work(lambda _: order.append("a")), Work(lambda _: order.append("b"))]
    script = chain(repeat(Reading(0.01), 14), [Reading(0.01, dropped=True)], repeat(Reading(0.01)))
    clock = ScriptedClock(script)
    collect(works, clock, StopRule(min_run_time_s=0.0, min_samples=2, max_samples=2), now=clock.now)
    assert "".join(order[14:]) == "ab" + "baab"


def test_the_noise_is_looked_at_ever_more_rarely():
    looks: list[int] = []

    def noisy(kept):
        looks.append(len(kept[0]))
        return math.inf

    clock = ScriptedClock(repeat(0.01))
    collect([IDLE], clock, StopRule(min_run_time_s=0.0, max_samples=30), noise=noisy, now=clock.now)
    # the last look is for the sentence that says why sampling ended
    assert looks == [10, 12, 14, 16, 18, 20, 23, 26, 29, 30]


def test_a_round_with_a_dropped_sample_is_discarded_whole():
    warm = repeat(Reading(0.01), 14)
    script = chain(warm, [Reading(0.01), Reading(0.09, dropped=True)], repeat(Reading(0.01)))
    clock = ScriptedClock(script)
    a, b = collect([IDLE, IDLE], clock, StopRule(min_run_time_s=0.0), now=clock.now)
    assert (a.dropped, b.dropped, len(a.seconds), len(b.seconds)) == (1, 1, 10, 10)
    assert 0.09 not in b.seconds


class _ByWork:
    """One duration per work: reversed rounds must not exchange the two programs' samples."""

    name = "by work"

    def read(self, work):
        return Reading(work.call(work.prepare()))


def test_compared_samples_belong_to_their_program():
    (a, b), estimate = compare_works(
        Work(lambda _: 0.002), Work(lambda _: 0.001), _ByWork(), StopRule(min_run_time_s=0.0)
    )
    assert (set(a.seconds), set(b.seconds)) == ({0.002}, {0.001})
    assert (estimate.ratio, estimate.verdict) == (2.0, "slower")


def test_the_call_gets_what_was_prepared_and_only_then():
    seen = []
    work = Work(seen.append, iter(range(100)).__next__)
    clock = ScriptedClock(repeat(0.01))
    collect([work], clock, StopRule(min_run_time_s=0.0), now=clock.now)
    assert seen == list(range(17))


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_collection_is_off_meanwhile_and_then_as_it_was(was_on):
    states = []
    (gc.enable if was_on else gc.disable)()
    try:
        clock = ScriptedClock(repeat(0.01))
        collect([Work(lambda _: states.append(gc.isenabled()))], clock, StopRule(min_run_time_s=0.0), now=clock.now)
        assert not any(states)
        assert gc.isenabled() is was_on
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"relative_noise": 0.0}, r"relative_noise \(=0.0\)"),
        ({"min_samples": 0}, r"min_samples \(=0\)"),
        ({"min_run_time_s": 3.0, "max_run_time_s": 2.0}, r"min_run_time_s \(=3\)"),
        ({"min_run_time_s": -1.0}, r"min_run_time_s \(=-1\)"),
        ({"min_samples": 10, "max_samples": 9}, r"exceeds max_samples \(=9\)"),
    ],
)
def test_a_rule_that_cannot_be_met_is_refused(values, message):
    with pytest.raises(SettingError, match=message):
        StopRule(**values)


def test_a_bound_is_met_by_its_own_value():
    rule = StopRule(relative_noise=0.01, min_samples=5, max_samples=50, max_run_time_s=2.0)
    assert rule.reason(9, 1.0, 0.01) == "noise target"
    assert rule.reason(9, 2.0, 0.02) == "max run time"
    assert rule.reason(50, 1.0, 0.02) == "max samples"
    assert rule.reason(49, 1.9, 0.02) is None
    assert StopRule(min_samples=7, max_samples=7).min_samples == 7

    def causes(*seconds: float) -> list[str]:
        return list(Samples(seconds, 0, 1.0, 7, True, "noise target", "").noise_causes)

    assert causes(18.0, *[20.0] * 4, 21.0) == ["median"]
    assert causes(19.0, *[20.0] * 4, 21.0) == []
    assert causes(*[9.0] * 30, *[10.0] * 40, *[10.1] * 30) == ["spread"]
    assert causes(*[9.0] * 30, *[10.0] * 40, *[10.0] * 30) == []
    _, samples = take(chain([1.0], [20.0] * 3, [21.0] * 3, repeat(21.0)), StopRule(0.01, 5, 0.0, 1000.0))
    assert (samples.warm_up_calls, samples.warm_up_stable) == (7, True)


def test_a_median_on_the_limit_is_on_neither_side_of_it():
    rule = StopRule(limit_s=1.0)
    assert [rule.decided([seconds] * 20) for seconds in (0.9, 1.0, 1.1)] == [True, False, True]
    assert not rule.decided([0.5] * 10 + [1.0] * 10)
    assert not StopRule().decided([0.5] * 20)


def test_statistics_are_derived_from_the_raw_samples():
    samples = Samples((0.1, 0.2, 0.3, 0.4, 0.5), 0, 1.0, 7, True, "noise target", "")
    assert samples.median_s == 0.3
    assert samples.iqr_s == pytest.approx(0.2)
    assert samples.noisy


@pytest.mark.parametrize(
    ("free_s", "own_s", "crowded"),
    [(0.2, 1.0, True), (0.0, 2.0, False), (1.0, 1.0, False), (0.2, 1.6, False), (None, 1.0, False)],
)
def test_cores_are_crowded_where_others_leave_none_free(monkeypatch, free_s, own_s, crowded):
    clock = {"idle": 100.0, "own": 5.0, "wall": 7.0}
    monkeypatch.setattr(crowding.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(crowding, "idle_s", lambda: clock["idle"])
    monkeypatch.setattr(crowding.time, "process_time", lambda: clock["own"])
    monkeypatch.setattr(crowding.time, "perf_counter", lambda: clock["wall"])
    ask = crowding.crowding()
    assert not ask()
    idle = None if free_s is None else clock["idle"] + free_s
    clock.update(idle=idle, own=clock["own"] + own_s, wall=clock["wall"] + 1.0)
    assert ask() is crowded


def test_the_speed_is_the_median_of_a_loop_that_runs_now_and_then(monkeypatch):
    wall = iter([1.0, 1.0, 1.3, 1.31, 2.0, 2.0, 2.1, 3.0, 3.0, 3.2])
    monkeypatch.setattr(crowding.time, "perf_counter", lambda: next(wall))
    speed = crowding.Speed()
    assert speed.loop_s is None
    for _ in range(4):  # the second comes too soon after the first
        speed.watch()
    assert speed.loop_s == pytest.approx(0.2)
