"""The GPU of a pod through NVIDIA's management library: is it healthy, how busy was it, did the driver report a fault.

Standard library only: it travels with the runner of a pod. Names and numbers are those of nvml.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import threading
from collections.abc import Callable
from typing import Any, Final

LIBRARY: Final = "libnvidia-ml.so.1"
SAMPLE_S: Final = 1.0
APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 68, 109})
"""Faults that a program brings about by itself; the list of NVIDIA's k8s-device-plugin (internal/rm/health.go)."""
RECORD_XIDS: Final = frozenset({63})
"""A row was remapped: the device mended itself."""

_NAME_BYTES: Final = 96
_UNCORRECTED, _VOLATILE = 1, 0
_TEMPERATURE_GPU: Final = 0
_EVENT_XID: Final = 8


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Event(ctypes.Structure):
    _fields_ = (
        ("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint),
    )  # fmt: skip


class Gpu:
    """The first device that NVML shows: a pod of ours has one.

    Args:
        library: for tests; the driver's otherwise.

    Raises:
        OSError: there is no library, it does not start, or there is no device.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self._nvml = ctypes.CDLL(library)
        count, self._handle, self._events = ctypes.c_uint(), ctypes.c_void_p(), ctypes.c_void_p()
        self._must("nvmlInit_v2")
        self._must("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if count.value == 0:
            raise OSError("NVML shows no device")
        self._must("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(0), ctypes.byref(self._handle))
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._must("nvmlDeviceGetName", self._handle, name, ctypes.c_uint(_NAME_BYTES))
        self.name = name.value.decode(errors="replace")
        if self._ask("nvmlEventSetCreate", ctypes.byref(self._events)):
            self._ask("nvmlDeviceRegisterEvents", self._handle, ctypes.c_ulonglong(_EVENT_XID), self._events)

    def sickness(self, product: str) -> str:
        """What is wrong with the device; empty where nothing is known to be.

        Args:
            product: the one that the run was promised, as NVML or a node's label names it; empty for any.
        """
        if product and not label(self.name).startswith(label(product).partition("-MIG-")[0]):
            return f"this is a {self.name}, and the run was promised a {product}"
        errors = ctypes.c_ulonglong()
        kind = (ctypes.c_uint(_UNCORRECTED), ctypes.c_uint(_VOLATILE))
        if self._ask("nvmlDeviceGetTotalEccErrors", self._handle, *kind, ctypes.byref(errors)) and errors.value:
            return f"the {self.name} has {errors.value} uncorrectable ECC errors"
        rows = [ctypes.c_uint() for _ in range(4)]  # corrected, uncorrected, pending, failed
        if self._ask("nvmlDeviceGetRemappedRows", self._handle, *map(ctypes.byref, rows)) and rows[3].value:
            return f"the {self.name} could not replace a bad row of its memory"
        return self.fault()

    def fault(self) -> str:
        """The driver's report since the last call that speaks of the device and not of a program; empty without."""
        found = ""
        event, now = _Event(), ctypes.c_uint(0)
        while self._events.value and self._ask("nvmlEventSetWait_v2", self._events, ctypes.byref(event), now):
            if event.type == _EVENT_XID and event.data not in APPLICATION_XIDS | RECORD_XIDS:
                found = found or f"the driver of the {self.name} reported Xid {event.data}"
        return found

    def sample(self) -> dict[str, float]:
        """What the device does now: util (0 to 1), mem_mb, power_w, temp_c; without what it does not tell."""
        told: dict[str, float] = {}
        busy, memory, milliwatts, degrees = _Utilization(), _Memory(), ctypes.c_uint(), ctypes.c_uint()
        if self._ask("nvmlDeviceGetUtilizationRates", self._handle, ctypes.byref(busy)):
            told["util"] = busy.gpu / 100.0
        if self._ask("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory)):
            told["mem_mb"] = round(memory.used / 2**20, 1)
        if self._ask("nvmlDeviceGetPowerUsage", self._handle, ctypes.byref(milliwatts)):
            told["power_w"] = milliwatts.value / 1000.0
        if self._ask("nvmlDeviceGetTemperature", self._handle, ctypes.c_uint(_TEMPERATURE_GPU), ctypes.byref(degrees)):
            told["temp_c"] = float(degrees.value)
        return told

    def _ask(self, function: str, *arguments: Any) -> bool:
        """Whether the call worked: older drivers and other products lack some of them."""
        with contextlib.suppress(AttributeError):
            return int(getattr(self._nvml, function)(*arguments)) == 0
        return False

    def _must(self, function: str, *arguments: Any) -> None:
        if not self._ask(function, *arguments):
            raise OSError(f"NVML's {function} fails")


def label(product: str) -> str:
    """A product as nodes are labelled with it (GPU feature discovery: blanks become hyphens, others are dropped)."""
    return re.sub(r"[^A-Z0-9_.-]", "", re.sub(r"\s+", "-", product.strip().upper()))


class Sampler:
    """Asks the device once a second, in a thread of its own: a sick driver may take its time to answer.

    Args:
        sample: see `Gpu.sample`.
    """

    def __init__(self, sample: Callable[[], dict[str, float]]) -> None:
        self._sample = sample
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._since: list[dict[str, float]] = []
        self._sums: dict[str, tuple[float, int]] = {}
        self._peaks: dict[str, float] = {}
        threading.Thread(target=self._run, daemon=True).start()

    def since_last(self) -> dict[str, float]:
        """Means since the last call (memory: the highest), of the newest sample where there was none since."""
        with self._lock:
            samples, self._since = self._since, self._since[-1:]
        keys = {key for one in samples for key in one}
        values = {key: [one[key] for one in samples if key in one] for key in keys}
        return {key: _rounded(max(v) if key == "mem_mb" else sum(v) / len(v)) for key, v in values.items()}

    def summary(self) -> dict[str, float]:
        """Over all samples: means of util and power_w, the highest of mem_mb and temp_c."""
        with self._lock:
            means = {key: _rounded(total / count) for key, (total, count) in self._sums.items()}
            return means | {key: _rounded(self._peaks[key]) for key in ("mem_mb", "temp_c") if key in self._peaks}

    def end(self) -> None:
        """Ask no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            told = self._sample()
            with self._lock:
                self._since = [*self._since[-600:], told]
                for key, value in told.items():
                    total, count = self._sums.get(key, (0.0, 0))
                    self._sums[key] = (total + value, count + 1)
                    self._peaks[key] = max(value, self._peaks.get(key, value))
            self._over.wait(SAMPLE_S)


def _rounded(value: float) -> float:
    return round(value, 3)
