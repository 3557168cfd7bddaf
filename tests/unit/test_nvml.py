"""What the runner of a pod learns from NVIDIA's management library: tried against a small library of the same names."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from executors.nvml import Gpu, Sampler, label
from tests.support.attempts import wait_until

SOURCE = r"""
#include <stdlib.h>
#include <string.h>
typedef unsigned int uint; typedef unsigned long long u64;
typedef struct { void *device; u64 type, data; uint gi, ci; } Event;
static u64 set(const char *name) { const char *v = getenv(name); return v ? strtoull(v, 0, 10) : 0; }
int nvmlInit_v2(void) { return (int)set("FAKE_INIT"); }
int nvmlDeviceGetCount_v2(uint *n) { *n = getenv("FAKE_NONE") ? 0 : 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(uint i, void **h) { *h = (void *)7; return i; }
int nvmlDeviceGetName(void *h, char *name, uint n) { strncpy(name, "NVIDIA H100 80GB HBM3", n); return h != (void *)7; }
int nvmlDeviceGetTotalEccErrors(void *h, uint kind, uint counter, u64 *n) {
  *n = set("FAKE_ECC"); return kind == 1 && counter == 0 ? 0 : 2; }
int nvmlDeviceGetRemappedRows(void *h, uint *a, uint *b, uint *c, uint *d) {
  *a = *b = *c = 0; *d = (uint)set("FAKE_ROWS"); return 0; }
int nvmlEventSetCreate(void **s) { *s = (void *)9; return 0; }
int nvmlDeviceRegisterEvents(void *h, u64 types, void *s) { return types == 8 && s == (void *)9 ? 0 : 2; }
int nvmlEventSetWait_v2(void *s, Event *e, uint ms) {
  const char *v = getenv("FAKE_XIDS"); static int at; int i;
  if (!v || ms) return 10;
  i = at++;
  while (i-- && v) { v = strchr(v, ','); if (v) v++; }
  if (!v) { at = 0; unsetenv("FAKE_XIDS"); return 10; }
  e->type = 8; e->data = strtoull(v, 0, 10); return 0; }
int nvmlDeviceGetUtilizationRates(void *h, uint *u) { u[0] = 87; u[1] = 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *h, u64 *m) { m[2] = 3ull << 30; return 0; }
int nvmlDeviceGetPowerUsage(void *h, uint *mw) { *mw = 512500; return 0; }
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler for a library to talk to")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "fake.c").write_text(SOURCE)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libfake.so"), str(folder / "fake.c")]
    subprocess.run(command, check=True, timeout=60)
    return str(folder / "libfake.so")


@pytest.fixture
def said(monkeypatch):
    """Sets what the library says; through the C library, as ctypes loads it into this process."""

    def say(**words: str) -> None:
        for key, value in words.items():
            monkeypatch.setenv(f"FAKE_{key.upper()}", value)

    yield say
    for key in ("INIT", "NONE", "ECC", "ROWS", "XIDS"):
        os.unsetenv(f"FAKE_{key}")


def test_a_healthy_device_is_named_and_measured(library):
    gpu = Gpu(library)
    assert gpu.name == "NVIDIA H100 80GB HBM3"
    assert gpu.sickness("NVIDIA-H100-80GB-HBM3") == gpu.sickness("NVIDIA H100 80GB HBM3") == gpu.sickness("") == ""
    assert gpu.sample() == {"util": 0.87, "mem_mb": 3072.0, "power_w": 512.5}, "no temperature: it has no such function"


@pytest.mark.parametrize(
    ("words", "sickness"),
    [
        ({"ecc": "3"}, "has 3 uncorrectable ECC errors"),
        ({"rows": "1"}, "could not replace a bad row"),
        ({"xids": "31,79"}, "reported Xid 79"),
        ({"xids": "13,31,43,45,63"}, ""),
    ],
    ids=["ecc", "row", "hardware", "programs"],
)
def test_a_sick_device_is_told_from_a_program_that_fails(library, said, words, sickness):
    gpu = Gpu(library)
    said(**words)
    found = gpu.sickness("")
    assert sickness in found
    assert bool(found) == bool(sickness)


def test_another_product_than_promised_is_refused(library):
    words = "this is a NVIDIA H100 80GB HBM3, and the run was promised a NVIDIA-H200"
    assert Gpu(library).sickness("NVIDIA-H200") == words
    assert Gpu(library).sickness("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb") == "", "a part of it is asked for as a whole"
    assert label("NVIDIA A100-SXM4-40GB (x)") == "NVIDIA-A100-SXM4-40GB-X"


@pytest.mark.parametrize("words", [{"init": "9"}, {"none": "1"}], ids=["no-driver", "no-device"])
def test_without_a_device_there_is_an_error(library, said, words):
    said(**words)
    with pytest.raises(OSError, match="NVML"):
        Gpu(library)


def test_without_a_library_there_is_an_error():
    with pytest.raises(OSError, match="libnothing"):
        Gpu("libnothing.so.1")


def test_samples_are_summed_up_since_the_last_line_and_over_all(monkeypatch):
    monkeypatch.setattr("executors.nvml.SAMPLE_S", 0.001)
    answers = [
        {"util": 1.0, "mem_mb": 5.0, "power_w": 100.0},
        {"util": 0.5, "mem_mb": 9.0},
        {"util": 0.0, "mem_mb": 1.0},
    ]
    asked = []

    def sample():
        asked.append(1)
        return answers[len(asked) - 1] if len(asked) <= len(answers) else {}

    sampler = Sampler(sample)
    wait_until(lambda: len(asked) > len(answers), "the samples")
    sampler.end()
    assert sampler.since_last() == {"util": 0.5, "mem_mb": 9.0, "power_w": 100.0}
    assert sampler.summary() == {"util": 0.5, "mem_mb": 9.0, "power_w": 100.0}
