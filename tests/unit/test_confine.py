"""What a confined process can still do to its launcher and its machine: nothing, tried for real."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from executors import confine
from executors.sandbox import SYSTEM, _without

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
refused("emptying", lambda: os.open(secret, os.O_RDONLY | os.O_TRUNC))
refused("mode", lambda: os.chmod(secret, 0))
refused("owner", lambda: os.chown(secret, -1, -1))
refused("times", lambda: os.utime(secret))
refused("attributes", lambda: os.setxattr(out, "user.x", b"y"))
refused("datagrams", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
refused("io_uring", lambda: call(425, 8, 0))
refused("mount", lambda: call(165, b"x", b"/mnt", b"tmpfs", 0, 0))
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
    *("shared memory", "keyring", "namespace", "clone3", "emptying", "mode", "owner", "times", "attributes"),
    *("datagrams", "io_uring", "mount"),
)


def confined(rules: dict, *command: str) -> subprocess.CompletedProcess[str]:
    script = Path(confine.__file__)
    paths = [word for name in ("read", "write") for path in rules[name] for word in (f"--{name}", path)]
    words = [*paths, *(["--gpu"] if rules["gpu"] else []), "--", *command]
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(script), *words], capture_output=True, text=True, timeout=60
    )


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


def test_where_landlock_is_too_old_for_signals_the_filter_keeps_them_inside():
    code = f"""
import ctypes, os, signal, sys
sys.path.insert(0, {str(Path(confine.__file__).parent)!r})
import confine
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(confine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
confine._seccomp(libc, gpu=False, own_pid=os.getpid())
for deed in (lambda: os.kill(os.getppid(), 0), lambda: os.kill(0, 0), lambda: os.kill(-1, 0),
             lambda: signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)):
    try:
        deed()
    except PermissionError:
        print("refused", flush=True)
os.kill(os.getpid(), 0)
os.abort()
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["refused"] * 4, done.stderr
    assert done.returncode == -signal.SIGABRT, "it may end itself"


def test_a_confined_process_is_the_first_that_the_kernel_kills_for_memory():
    done = confined({"read": prefixes(), "write": [], "gpu": False}, "/bin/cat", "/proc/self/oom_score_adj")
    assert done.stdout == "1000\n", done.stderr


def test_whether_this_machine_confines_is_tried_for_real(monkeypatch):
    assert confine.probe() == ""
    monkeypatch.setattr(confine.os, "uname", lambda: type("Uname", (), {"machine": "riscv64"}))
    assert "riscv64" in confine.probe()


def test_what_is_hidden_in_a_visible_folder_stays_hidden(tmp_path):
    home = tmp_path / "python"
    for name in ("lib/torch", "share/corpus", "share/doc"):
        (home / name).mkdir(parents=True)
    (home / "share" / "link").symlink_to(home / "share" / "corpus")
    shown = _without(str(home), [home / "share" / "corpus", tmp_path / "elsewhere"])
    assert shown == [str(home / "lib"), str(home / "share" / "doc")]


@pytest.mark.parametrize(("arch", "column"), confine._ARCHES.values(), ids=list(confine._ARCHES))
@pytest.mark.parametrize(("gpu", "own_pid"), [(True, 0), (False, 0), (False, 77)])
def test_every_jump_of_the_filter_stays_inside_it(arch, column, gpu, own_pid):
    import struct

    program = confine.filter_program(arch, column, gpu=gpu, own_pid=own_pid)
    code = list(struct.iter_unpack("HBBI", program))
    assert len(code) < 4096, "the kernel's limit"
    for index, (what, yes, no, _) in enumerate(code):
        if what in (confine._JEQ, confine._JGE, confine._JSET):
            assert index + 1 + max(yes, no) < len(code)
    assert code[-1][0] == confine._RETURN
    numbers = [numbers[column] for numbers in confine._DENIED.values()]
    assert len(set(numbers)) == len(numbers)


def test_where_the_kernel_cannot_confine_it_says_so_and_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(confine.os, "uname", lambda: type("Uname", (), {"machine": "riscv64"}))
    with pytest.raises(confine.Unconfined, match="riscv64"):
        confine._seccomp(ctypes.CDLL(None), gpu=False, own_pid=0)
    assert os.getpid() > 0
