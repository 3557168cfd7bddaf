"""What a confined process can still do to its launcher and its machine: nothing, tried for real."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from executors import confine
from executors.sandbox import SYSTEM

pytestmark = pytest.mark.skipif(
    ctypes.CDLL(None).syscall(confine.CREATE_RULESET, None, 0, 1) <= 0, reason="this kernel has no Landlock"
)

ATTACK = """
import ctypes, os, resource, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, deed):
    try:
        deed()
    except OSError as error:
        print(name, "refused", error.errno)
    else:
        print(name, "DONE")
def call(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "")
victim, secret, out, other_socket = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
refused("read", lambda: open(secret).read())
refused("list", lambda: os.listdir(os.path.dirname(secret)))
refused("write", lambda: open(secret, "w"))
refused("truncate", lambda: os.truncate(secret, 0))
refused("environ", lambda: open(f"/proc/{victim}/environ", "rb").read())
refused("kill", lambda: os.kill(victim, signal.SIGTERM))
refused("limits", lambda: resource.prlimit(victim, resource.RLIMIT_FSIZE, (0, 0)))
refused("affinity", lambda: os.sched_setaffinity(victim, {0}))
refused("ptrace", lambda: call(101, 16, victim, 0, 0))
refused("unix socket", lambda: socket.socket(socket.AF_UNIX).connect(other_socket))
refused("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
refused("shared memory", lambda: call(29, 1234, 4096, 0o1600))
refused("keyring", lambda: call(248, b"user", b"x", b"y", 1, -4))
refused("namespace", lambda: call(272, 0x10000000))
refused("clone3", lambda: call(435, 0, 0))
open(out + "/mine", "w").write("x")
os.sched_setaffinity(0, os.sched_getaffinity(0))
resource.getrlimit(resource.RLIMIT_FSIZE)
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
socket.socketpair()
print("own ok")
"""
NAMES = (
    *("read", "list", "write", "truncate", "environ", "kill", "limits", "affinity", "ptrace", "unix socket", "udp"),
    *("shared memory", "keyring", "namespace", "clone3"),
)


def confined(rules: dict, *command: str) -> subprocess.CompletedProcess[str]:
    script = Path(confine.__file__)
    words = [sys.executable, "-I", "-S", "-B", str(script), json.dumps(rules), *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def prefixes() -> list[str]:
    hops = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent.parent)}
    return [*SYSTEM, *hops]


def test_a_confined_process_can_do_nothing_to_its_launcher(tmp_path):
    private, out = tmp_path / "private", tmp_path / "out"
    private.mkdir()
    out.mkdir()
    (private / "val.bin").write_text("targets")
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(out / "s"))
    other.listen()
    script = out / "attack.py"
    script.write_text(ATTACK)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        try:
            rules = {"read": prefixes(), "write": [str(out), "/dev/null"], "gpu": False}
            words = (str(script), str(victim.pid), str(private / "val.bin"), str(out), str(out / "s"))
            done = confined(rules, sys.executable, "-I", "-B", *words)
            assert victim.poll() is None, "it was killed"
        finally:
            victim.communicate(b"\n")
            other.close()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "own ok", done.stdout + done.stderr
    assert [line.split(" refused")[0] for line in lines[:-1]] == list(NAMES), done.stdout
    assert (private / "val.bin").read_text() == "targets"
    assert (out / "mine").read_text() == "x"


def test_on_a_gpu_the_driver_may_have_its_socket_and_nobody_else_an_answer(tmp_path):
    code = (
        "import socket\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "for deed in (lambda: s.connect('/x'), lambda: socket.socket(socket.AF_INET)):\n"
        "    try:\n        deed()\n    except PermissionError:\n        print('refused')\n"
    )
    done = confined({"read": prefixes(), "write": [], "gpu": True}, sys.executable, "-I", "-c", code)
    assert done.stdout.split() == ["refused", "refused"], done.stderr


@pytest.mark.parametrize(("arch", "column"), confine._ARCHES.values(), ids=list(confine._ARCHES))
@pytest.mark.parametrize("gpu", [True, False])
def test_every_jump_of_the_filter_stays_inside_it(arch, column, gpu):
    import struct

    program = confine.filter_program(arch, column, gpu=gpu)
    code = list(struct.iter_unpack("HBBI", program))
    assert len(code) < 4096, "the kernel's limit"
    for index, (what, yes, no, _) in enumerate(code):
        if what in (confine._JEQ, confine._JGE, confine._JSET):
            assert index + 1 + max(yes, no) < len(code)
    assert code[-1][0] == confine._RETURN
    numbers = [numbers[column] for numbers in confine._DENIED.values()]
    assert len(set(numbers)) == len(numbers)


def test_where_the_kernel_cannot_confine_it_says_so_and_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(confine.platform, "machine", lambda: "riscv64")
    with pytest.raises(confine.Unconfined, match="riscv64"):
        confine._seccomp(ctypes.CDLL(None), gpu=False, own_pid=0)
    assert os.getpid() > 0
