"""Mixtures of simulated GPUs: what the user's words mean, and what is said of words that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.executor import ExecutorError
from sim.gpus import GPU_CLASSES
from sim.mix import DEFAULT_MIX, GPUS_PER_NODE, MOST_DEVICES, devices, parse_mix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEFAULT_MIX, {"H100-80GB": 13, "H200-141GB": 3}),
        ("16", {"H100-80GB": 16}),
        ("h200", {"H200-141GB": 1}),
        ("H100-80GB", {"H100-80GB": 1}),
        (" 2 x h100 , H200 ", {"H100-80GB": 2, "H200-141GB": 1}),
        ("2xH100,1xH200,3xH100", {"H100-80GB": 5, "H200-141GB": 1}),
        ("004xL40S,rtx-4090,2xA100-80", {"L40S-48GB": 4, "RTX-4090-24GB": 1, "A100-80GB": 2}),
        ("1024xH100", {"H100-80GB": 1024}),
    ],
)
def test_a_mixture_is_read(text, expected):
    assert {gpu.name: count for gpu, count in parse_mix(text).items()} == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("0xH100", "asks for 0 of H100"),
        ("-1xH100", "asks for -1 of H100"),
        ("0", "asks for 0"),
        ("13xH100,", "a part of it is empty"),
        (",", "a part of it is empty"),
        ("xH100", "knows no `xH100`"),
        ("3xV100", "choose among H100-80GB, H200-141GB"),
        ("A100", "could be any of A100-40GB, A100-80GB"),
        ("2xH", "could be any of H100-80GB, H200-141GB"),
        ("1025xH100", "more than 1,024 devices"),
        ("1000xH100,25xH200", "more than 1,024 devices"),
        ("9" * 5_000, "more than 1,024 devices"),
        ("٣xH100", "`٣xH100` in it is none"),
        ("1.5xH100", "`1.5xH100` in it is none"),
        ("16,H200", "`16` in it is none"),
        ("H100 H200", "`H100 H200` in it is none"),
    ],
)
def test_words_that_mean_no_mixture_are_refused(text, part):
    with pytest.raises(ExecutorError) as caught:
        parse_mix(text)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text(alphabet="0123456789xXhHaA-,. 4LSB٣\n", max_size=20))
def test_any_words_are_a_mixture_or_refused(text):
    try:
        mix = parse_mix(text)
    except ExecutorError:
        return
    assert 1 <= sum(mix.values()) <= MOST_DEVICES


@given(st.dictionaries(st.sampled_from(sorted(GPU_CLASSES)), st.integers(1, 140), min_size=1))
def test_devices_have_short_unique_names_in_order_and_eight_to_a_node(counts):
    found = devices(parse_mix(",".join(f"{count}x{name}" for name, count in counts.items())))
    names = [device.device for device in found]
    assert len(set(names)) == sum(counts.values())
    assert names == sorted(names)
    assert max(map(len, names)) <= len("gpu1023")
    for name, count in counts.items():
        own = [device for device in found if device.cls == name]
        assert len(own) == count
        assert {device.memory_mb for device in own} == {GPU_CLASSES[name].memory_mb}
        others = {device.node for device in found} - {device.node for device in own}
        assert len({device.node for device in found}) == len(others) + -(-count // GPUS_PER_NODE)


def test_the_published_cluster():
    found = devices(parse_mix(DEFAULT_MIX))
    assert [device.node for device in found] == ["h100-01"] * 8 + ["h100-02"] * 5 + ["h200-01"] * 3
    assert (found[0].device, found[15].device) == ("gpu00", "gpu15")


def test_classes_that_nobody_measured_say_so():
    assert {gpu.name for gpu in GPU_CLASSES.values() if gpu.standing == "measured"} == {"H100-80GB", "H200-141GB"}
    for gpu in GPU_CLASSES.values():
        assert gpu.usable_mb < gpu.memory_mb
        assert gpu.source
