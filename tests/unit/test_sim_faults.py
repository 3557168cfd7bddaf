"""Faults of the simulated cluster, as users ask for them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.executor import ExecutorError
from sim.faults import KINDS, Fault, Faults, parse_faults, preset


def test_every_kind_is_documented_and_has_a_rate():
    assert [kind.name for kind in KINDS] == [field.name for field in msgspec.structs.fields(Faults)]
    for kind in KINDS:
        assert kind.source
        assert kind.what
        assert kind.harsh >= kind.default


@pytest.mark.parametrize("name", ["default", "none", "harsh"])
def test_a_preset_is_found_by_its_name(name):
    assert parse_faults(name) == preset(name)


def test_rates_change_a_preset():
    assert parse_faults("preemption=0.1") == msgspec.structs.replace(preset("default"), preemption=Fault(0.1))
    only = parse_faults("none, device_loss = 2, oom=1")
    assert only == msgspec.structs.replace(preset("none"), device_loss=Fault(2.0), oom=Fault(1.0))


def test_each_kind_can_have_a_seed_of_its_own():
    faults = parse_faults("none,seed=7,nan=0.5@3,oom=0.5@0,crash=0.5")
    assert (faults.nan, faults.oom, faults.crash) == (Fault(0.5, 3), Fault(0.5, 0), Fault(0.5, 7))
    assert faults.preemption == Fault(0.0, 7)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "does not know ''"),
        ("none,", "does not know ''"),
        ("None", "begin with default, none, harsh"),
        ("lightning=1", "preemption, device_loss, infrastructure"),
        ("preemption", "does not know 'preemption'"),
        ("preemption=-0.1", "a rate per device-hour, 0 or more"),
        ("preemption=inf", "0 or more"),
        ("oom=nan", "a share from 0 to 1"),
        ("oom=1.5", "a share from 0 to 1"),
        ("oom=", "a share from 0 to 1"),
        ("seed=-1", "a whole number"),
        ("seed=1.5", "a whole number"),
        ("oom=0.1@", "a whole number"),
        ("seed=" + "9" * 5_000, "at most 18 digits"),
        ("none,default", "does not know 'default'"),
    ],
)
def test_what_is_no_fault_is_refused(text, part):
    with pytest.raises(ExecutorError, match="--faults") as caught:
        parse_faults(text)
    assert part in str(caught.value)


@given(st.text(alphabet="nopre=0.1@7,-e seds", max_size=20))
def test_any_words_are_faults_or_refused(text):
    try:
        faults = parse_faults(text)
    except ExecutorError:
        return
    assert all(fault.rate >= 0.0 for fault in msgspec.structs.astuple(faults))
