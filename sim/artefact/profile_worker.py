"""The profiler's other half, run by a Python that has torch: load a train.py, build and step it without data or device.

Standard library and torch only. Each file runs in a forked child with hard limits, so that none can spoil the next;
tensors are on the meta device, which has shapes but no numbers, and the file is told that it is on a GPU.

    a line in: {source, seq_len, vocab_size, names}
    a line out: {params, flops_per_token, constants}, or {outcome, reason}, or {}
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

CPU_S = 30
WALL_S = 90.0
MOST_ROUNDS = 1000
MEMORY_BYTES = 16 * 2**30
ANSWER_BYTES = 65536
FILE = "train.py"


class _Device(str):
    """A device that is "meta" to torch and "cuda" to whoever asks for its name."""

    __slots__ = ()

    def startswith(self, prefix: Any, *bounds: Any) -> bool:
        return "cuda".startswith(prefix, *bounds)

    def __eq__(self, other: object) -> bool:
        return other == "cuda"

    def __ne__(self, other: object) -> bool:
        return other != "cuda"

    __hash__ = str.__hash__


class _Stop(BaseException):
    """The file has asked for its first batch: everything that runs in a step has run once."""


class _Run:
    """The harness's offer to `train`, up to the first batch."""

    seed = 0
    elapsed_fraction = 0.0

    def __init__(self, torch: Any, device: str, vocab_size: int, seq_len: int) -> None:
        self._torch = torch
        self.device = device
        self.vocab_size = vocab_size
        self.seq_len = seq_len

    def warmup_batch(self, batch_rows: int) -> tuple[Any, Any]:
        tokens = self._torch.zeros(batch_rows, self.seq_len + 1, dtype=self._torch.int64, device="meta")
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def batches(self, _batch_rows: int) -> Any:
        raise _Stop


def _pretend_gpu(torch: Any) -> None:
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.compile = lambda function=None, **_: function if function is not None else lambda inner: inner
    for name in ("optimizer", "adam", "adamw", "sgd"):  # fused optimizers do not know the meta device
        module: Any = importlib.import_module(f"torch.optim.{name}")
        if hasattr(module, "_device_dtype_check_for_fused"):
            module._device_dtype_check_for_fused = lambda *_, **__: None


def _attention_flops(query: Any, _key: Any, _value: Any, *rest: Any, **named: Any) -> int:
    """Count the forward pass of windowed attention: 4 * positions * window * width, as sim.artefact.cost does."""
    # rest: cu_seq_q, cu_seq_k, max_q, max_k, is_causal, scale, window_size
    return _count(query, int(rest[3]), named.get("window_size", rest[6] if len(rest) > 6 else None))


def _attention_backward_flops(_grad: Any, query: Any, *rest: Any, **named: Any) -> int:
    # rest: key, value, out, lse, cu_seq_q, cu_seq_k, max_q, max_k, is_causal, rng_state, scale, window_size
    return 2 * _count(query, int(rest[7]), named.get("window_size", rest[11] if len(rest) > 11 else None))


def _count(query: Any, longest: int, window: Any) -> int:
    tokens, heads, head_dim = query
    seen = longest if window is None or window[0] < 0 else min(longest, int(window[0]))
    flops: int = 4 * tokens * heads * head_dim * seen
    return flops


def _measure(torch: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Load, build, count one row forward and backward, then let `train` take its warm-up step."""
    counting: Any = importlib.import_module("torch.utils.flop_counter")
    module = ModuleType("train")
    sys.modules["train"] = module
    exec(compile(request["source"], FILE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what this process is for
    constants = {name: vars(module)[name] for name in request["names"] if _is_plain(vars(module).get(name, module))}
    for name in ("build", "train"):
        if not callable(getattr(module, name, None)):
            raise AttributeError(f"train.py has no function {name}()")
    seq_len, vocab_size = request["seq_len"], request["vocab_size"]
    device = _Device("meta")
    model = module.build(vocab_size, seq_len, device)
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"build() returned a {type(model).__name__}, not a torch.nn.Module")
    params = sum(parameter.numel() for parameter in model.parameters())
    run = _Run(torch, device, vocab_size, seq_len)
    attention = {
        torch.ops.torch_attn._varlen_attn: _attention_flops,
        torch.ops.torch_attn._varlen_attn_backward: _attention_backward_flops,
    }
    with counting.FlopCounterMode(display=False, custom_mapping=attention) as counter:
        inputs, targets = run.warmup_batch(1)
        logits = model(inputs)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()).backward()
    model.zero_grad()
    with contextlib.suppress(_Stop):
        module.train(run, model)
    return {
        "params": params, "flops_per_token": counter.get_total_flops() / seq_len, "constants": constants,
    }  # fmt: skip


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _ends(error: BaseException) -> dict[str, Any]:
    """Say how a run ends, in the words of the harness; nothing where our confinement or the missing device did it."""
    line = traceback.format_exception_only(error)[-1].strip().splitlines()[0][:240]
    ours = ("meta", "CUDA", "cuda", "can't start new thread")
    if any(word in str(error) for word in ours) or isinstance(error, NotImplementedError | OSError):
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    numbers = [frame.lineno for frame in frames if frame.filename == FILE]
    number = error.lineno if isinstance(error, SyntaxError) else next(reversed(numbers), None)
    outcome = "nan" if isinstance(error, FloatingPointError) else "oom" if isinstance(error, MemoryError) else "crash"
    return {"outcome": outcome, "reason": f"{line} (train.py, line {number})" if number else line}


def _child(torch: Any, request: dict[str, Any], answer_fd: int) -> None:
    """Run one file under hard limits, with no descriptor but its own answer's; never returns."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, answer_fd)
    os.closerange(answer_fd + 1, os.sysconf("SC_OPEN_MAX"))
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),  # measuring takes no thread, and a bomb none either
    ):
        resource.setrlimit(limit, (most, most))
    try:
        answer = _measure(torch, request)
    except BaseException as error:  # noqa: BLE001 - whatever the file raises is how a run of it ends
        answer = _ends(error)
    os.write(answer_fd, json.dumps(answer).encode()[: ANSWER_BYTES - 1] + b"\n")
    os._exit(0)


def _answer(torch: Any, request: dict[str, Any]) -> dict[str, Any]:
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        _child(torch, request, write_fd)
    os.close(write_fd)
    data = b""
    while len(data) <= ANSWER_BYTES and not data.endswith(b"\n") and select.select([read_fd], [], [], WALL_S)[0]:
        part = os.read(read_fd, ANSWER_BYTES)
        if not part:
            break
        data += part
    os.close(read_fd)
    _kill(child)
    try:
        found = json.loads(data[: ANSWER_BYTES + 1])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _kill(child: int) -> None:
    """Kill all processes of a file: we are a subreaper, so whoever loses its parent becomes our child.

    Processes that fork faster than this take the worker with them, and bubblewrap then takes all the others.
    """
    pids = [child]
    for _ in range(MOST_ROUNDS):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        pids = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in _children_of(task)]
        if not pids:
            return
    os._exit(1)


def _children_of(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:  # a thread that has ended, or a kernel without such lists
        return []


def main() -> None:
    """Answer one line for each line that comes in, until there are no more."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    torch: Any = importlib.import_module("torch")
    importlib.import_module("torch.nn.attention.varlen")
    torch.set_num_threads(1)
    _pretend_gpu(torch)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(torch, json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
