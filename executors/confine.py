"""Confines a process before it becomes a role of a run: Landlock for files, sockets and signals, seccomp for the rest.

Standard library only, and little of it, for it is loaded before each role, in whose place it is started:

    python -I -S -B confine.py [--read PATH]... [--write PATH]... [--gpu] -- COMMAND...

Landlock alone leaves open what one user's processes may do to each other (limits, priorities, Unix sockets, shared
memory, keys) and to files that they may not even read (modes, owners, times, attributes, where the next run could
find them): a filter of system calls closes that. Both hold for all that the role starts. Numbers are those of Linux's
headers (uapi/linux/landlock.h, seccomp.h, asm/unistd_64.h, asm-generic/unistd.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

TYPE_CHECKING = False  # typing alone would take a quarter of the time
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
O_PATH: Final = 0o10000000

READ: Final = (1 << 0) | (1 << 2) | (1 << 3)  # execute, read files, list folders
WRITE: Final = 0b1_1111_1110_0010  # write, remove, and make anything
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FILE_RIGHTS: Final = (1 << 0) | (1 << 1) | (1 << 2) | TRUNCATE | IOCTL_DEV

_DENIED: Final[Mapping[str, tuple[int, int]]] = {  # (x86_64, aarch64)
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_getfd": (438, 438), "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "shmget": (29, 194), "shmctl": (31, 195), "shmat": (30, 196), "shmdt": (67, 197), "semget": (64, 190),
    "semctl": (66, 191), "semtimedop": (220, 192), "semop": (65, 193), "msgget": (68, 186), "msgctl": (71, 187),
    "msgrcv": (70, 188), "msgsnd": (69, 189), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    "mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "chroot": (161, 51), "pivot_root": (155, 41), "setns": (308, 268), "unshare": (272, 97),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "ioprio_set": (251, 30), "setpriority": (141, 140), "migrate_pages": (256, 238), "truncate": (76, 45),
    "process_mrelease": (448, 448), "connect": (42, 203),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "fchown": (93, 55), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
    "utimensat": (280, 88),
}  # fmt: skip
_DENIED_X86: Final[Mapping[str, int]] = {
    "chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "utimes": 235, "futimesat": 261,
}  # fmt: skip
_NOT_ON_GPU: Final[Mapping[str, tuple[int, int]]] = {"move_pages": (279, 239)}
_OWN_ONLY: Final[Mapping[str, tuple[int, int]]] = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122)}
"""Allowed on the process itself (pid 0), on no other."""
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR = (56, 220), (435, 435), (41, 198), (53, 199)
_OPEN_X86, _OPENAT, _OPENAT2 = 2, (257, 56), (437, 437)
_KILLS: Final = ((62, 129), (234, 131), (129, 138), (297, 240))
"""kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo: the first argument is a process."""
_OTHER_KILLS: Final = ((200, 130), (424, 424))
"""tkill, pidfd_send_signal: whose process cannot be seen."""
_CLONE_NEWUSER: Final = 0x10000000
_AF_UNIX: Final = 1
_STREAM, _SEQPACKET, _SOCK_TYPE_MASK = 1, 5, 0xF
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_ARCHES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32: Final = 0x40000000

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _AND, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NR_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, (16, 24, 32)
_SIGNALS_SCOPED: Final = 6
"""The first Landlock ABI that keeps signals inside."""

_Instruction = tuple[int, int, int, int]
"""Of classic BPF: (code, jump if true, jump if false, value)."""


class Unconfined(Exception):
    """The kernel does not confine, for the reason in the text."""


def confine(read: Iterable[str], write: Iterable[str], *, gpu: bool) -> None:
    """Confine this process and all that it starts, for ever. Raises Unconfined.

    Args:
        read, write: files and folders that may be read (and executed), and also written; missing ones are left out.
        gpu: whether a GPU's driver has to work.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Unconfined("PR_SET_NO_NEW_PRIVS is refused")
    abi = _landlock(libc, read, write)
    _seccomp(libc, gpu=gpu, own_pid=0 if abi >= _SIGNALS_SCOPED else os.getpid())


def probe() -> str:
    """Why this machine does not confine, tried in a child of this process; empty where it does."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            confine((), (), gpu=False)
            os.listdir("/")  # noqa: PTH208
            os.write(tell, b"Landlock hides nothing")
        except PermissionError:
            pass
        except BaseException as error:  # noqa: BLE001  a child may not run on into its parent's code
            os.write(tell, str(error).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


def _landlock(libc: ctypes.CDLL, read: Iterable[str], write: Iterable[str]) -> int:
    """Enter Landlock; returns its ABI."""
    abi: int = libc.syscall(CREATE_RULESET, None, 0, 1)
    if abi <= 0:
        raise Unconfined("this kernel has no Landlock")
    newer = (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0) | (IOCTL_DEV if abi >= 5 else 0)
    handled = READ | WRITE | newer
    net, scoped = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    attributes = struct.pack("QQQ", handled, net, scoped)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise Unconfined(f"Landlock refuses its rules: {os.strerror(ctypes.get_errno())}")
    for paths, rights in ((read, READ | (IOCTL_DEV & handled)), (write, handled)):
        for path in paths:
            _allow(libc, ruleset, path, rights)
    if libc.syscall(RESTRICT_SELF, ruleset, 0) != 0:
        raise Unconfined(f"Landlock cannot be entered: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)
    return abi


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):  # noqa: PTH112  pathlib is not worth its import here
        rights &= FILE_RIGHTS
    rule = struct.pack("=Qi", rights, fd)
    done = libc.syscall(ADD_RULE, ruleset, 1, rule, 0)
    os.close(fd)
    if done != 0:
        raise Unconfined(f"Landlock refuses a rule for {path}: {os.strerror(ctypes.get_errno())}")


def _seccomp(libc: ctypes.CDLL, *, gpu: bool, own_pid: int) -> None:
    arch = _ARCHES.get(os.uname().machine)
    if arch is None:
        raise Unconfined(f"no filter of system calls is known for {os.uname().machine}")
    program = filter_program(*arch, gpu=gpu, own_pid=own_pid)
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        raise Unconfined(f"seccomp is refused: {os.strerror(ctypes.get_errno())}")


def filter_program(audit_arch: int, column: int, *, gpu: bool, own_pid: int = 0) -> bytes:
    """The filter as classic BPF.

    Args:
        audit_arch, column: of `_ARCHES`.
        gpu: let CUDA's driver have what it needs.
        own_pid: signals may go to this process only (for kernels whose Landlock does not keep them inside; a child of
            the role then cannot even signal itself); 0: no such rule.
    """
    refuse, missing = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    allow = (_RETURN, 0, 0, _ALLOW)
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT), (_JEQ, 1, 0, audit_arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR_AT),
    ]  # fmt: skip
    denied = [numbers[column] for numbers in _DENIED.values()]
    denied += [] if gpu else [numbers[column] for numbers in _NOT_ON_GPU.values()]
    opens = [(_OPENAT[column], 2)]
    if column == 0:  # x86 has more of them, and all once more under other numbers
        code += [(_JGE, 0, 1, _X32), refuse]
        denied += _DENIED_X86.values()
        opens.append((_OPEN_X86, 1))
    for number in denied:
        code += _on(number, refuse)
    # glibc then takes clone and openat, whose flags can be seen.
    code += [*_on(_CLONE3[column], missing), *_on(_OPENAT2[column], missing)]
    for numbers in _OWN_ONLY.values():
        code += _on(numbers[column], _argument(0), (_JEQ, 0, 1, 0), allow, refuse)
    if own_pid:
        for numbers in _KILLS:
            code += _on(numbers[column], _argument(0), (_JEQ, 0, 1, own_pid), allow, refuse)
        for numbers in _OTHER_KILLS:
            code += _on(numbers[column], refuse)
    for number, at in opens:  # an old Landlock lets a file be emptied by whoever may read it, or nobody
        code += _on(number, _argument(at), (_AND, 0, 0, _O_ACCMODE | _O_TRUNC), (_JEQ, 0, 1, _O_TRUNC), refuse, allow)
    code += _on(_CLONE[column], _argument(0), (_JSET, 0, 1, _CLONE_NEWUSER), refuse, allow)
    # A datagram socket could send to any other by its path, though it is born connected.
    connected = (_argument(1), (_AND, 0, 0, _SOCK_TYPE_MASK), (_JEQ, 1, 0, _STREAM), (_JEQ, 0, 1, _SEQPACKET))
    code += _on(_SOCKETPAIR[column], *connected, allow, refuse)
    if gpu:  # CUDA's driver makes a Unix socket, and does without an answer on it
        code += _on(_SOCKET[column], _argument(0), (_JEQ, 1, 0, _AF_UNIX), refuse, *connected, allow, refuse)
    else:
        code += _on(_SOCKET[column], refuse)
    code.append(allow)
    return b"".join(struct.pack("HBBI", *one) for one in code)


def _on(number: int, *body: _Instruction) -> list[_Instruction]:
    """Do `body`, which returns in any case, for the system call `number`; else leave its number loaded and go on."""
    return [(_JEQ, 0, len(body), number), *body]


def _argument(index: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT[index])


def main(arguments: list[str]) -> None:
    """Confine this process, then become the command."""
    words, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    paths: dict[str, list[str]] = {"--read": [], "--write": []}
    gpu = "--gpu" in words
    pairs = [word for word in words if word != "--gpu"]
    for name, path in zip(pairs[::2], pairs[1::2], strict=True):
        paths[name].append(path)
    try:  # the kernel's first choice when memory runs out; cannot be said from within
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    except OSError:
        pass
    try:
        confine(paths["--read"], paths["--write"], gpu=gpu)
    except Unconfined as error:
        sys.stderr.write(f"not confined: {error}\n")
        sys.exit(78)
    os.execv(command[0], command)  # noqa: S606  a list, and no shell


if __name__ == "__main__":
    main(sys.argv[1:])
