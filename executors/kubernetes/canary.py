"""The program that a canary pod runs: looks at what an attempt will need, and says it in its termination message.

The message is one JSON object, `{"ar": 1, "canary": {...}}`, with python, torch, numpy (versions, or null), gpu (its
name, or null), gpu_memory_mb, data (names in /data, or null where it cannot be read), meta (whether meta.json can be
read), writable (those of the folders an attempt writes to), landlock (the kernel's ABI, 0 for none), uid and node.
"""

from __future__ import annotations

from typing import Final

PROGRAM: Final = """\
import ctypes, json, os, platform, sys
found = {"python": platform.python_version(), "uid": os.getuid(), "node": os.environ.get("AR_NODE", "")}
for name in ("torch", "numpy"):
    try:
        found[name] = str(__import__(name).__version__)
    except Exception as error:
        found[name] = None
        found[name + "_error"] = repr(error)[:300]
found["gpu"], found["gpu_memory_mb"] = None, 0
if found["torch"]:
    import torch
    try:
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name(0)
            found["gpu_memory_mb"] = torch.cuda.get_device_properties(0).total_memory >> 20
            torch.ones(8, device="cuda").sum().item()
    except Exception as error:
        found["gpu_error"] = repr(error)[:300]
try:
    found["data"] = sorted(os.listdir("/data"))[:20]
    found["meta"] = os.access("/data/meta.json", os.R_OK)
except OSError as error:
    found["data"], found["meta"], found["data_error"] = None, False, str(error)
found["writable"] = [path for path in ("/work", "/tmp", "/dev/shm", "/cache") if os.access(path, os.W_OK)]
abi = ctypes.CDLL(None, use_errno=True).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
found["landlock"] = max(0, abi)
with open("/dev/termination-log", "w") as log:
    log.write(json.dumps({"ar": 1, "canary": found}))
print(json.dumps(found))
sys.exit(0)
"""
