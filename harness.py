"""The locked half of a run: data, clock, progress, checkpoint and scoring around a researcher's train.py.

One file, three roles, each a process of its own that the launcher (executors/supervisor.py) starts:

    python harness.py train CONFIG    imports train.py, builds, trains, writes the checkpoint
    python harness.py serve CONFIG    imports train.py, loads the checkpoint, turns tokens into logits
    python harness.py score CONFIG    holds the targets, turns logits into bits per byte (numpy only, no train.py)

CONFIG is one JSON object. No role trusts another: the launcher owns the clock, the deadline and the result;
the scorer believes nothing but finite numbers. A forking zygote, a second server with causality probes,
and syscall filters belong in front of `_load_target`, where a role first meets the researcher's code.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import math
import mmap
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import torch

CHECKPOINT: Final = "checkpoint.safetensors"
PROGRESS_LINES: Final = 24
LN2: Final = math.log(2.0)

SERVER_EXIT: Final = {"crash": 10, "oom": 11, "checkpoint": 12, "shape": 13}
"""All that a model server may say: its exit status. Words could carry validation text to the next run."""

CHUNK_TOKENS: Final = 16384
"""Most tokens in one request: 32 kB fit the request pipe, so the scorer may send one request ahead."""

BLOCK_LOGITS: Final = 1 << 18
"""Logits per step of the scorer: 1 MB of float32 stays in a core's cache."""

CHUNK_BYTES: Final = 1 << 26
"""Most bytes of logits in one answer; small enough that the scorer works while the server computes."""


# ---------------------------------------------------------------------------------------------- checkpoint


def _dtype_names() -> dict[str, torch.dtype]:
    """The dtype names of the safetensors format (github.com/huggingface/safetensors, README, "Format")."""
    import torch

    return {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
        "U8": torch.uint8, "BOOL": torch.bool,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    }  # fmt: skip


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors in the safetensors format: u64 header length, JSON header, raw bytes.

    Raises TypeError for a value that the format cannot hold.
    """
    import torch

    names = {dtype: name for name, dtype in _dtype_names().items()}
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        what = getattr(tensor, "dtype", type(tensor))  # a module's extra state may be any object
        if what not in names:
            raise TypeError(f"the model's state {name!r} is a {what}, which a checkpoint cannot hold")
        start, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": names[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read what `write_safetensors` wrote; the tensors lie on the CPU. Raises ValueError for a bad file."""
    import torch

    dtypes = _dtype_names()
    with path.open("rb") as file:
        # A private mapping is writable, as torch wants it, without ever changing the file.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    (length,) = struct.unpack_from("<Q", view)
    if length > len(view) - 8:
        raise ValueError("the header is longer than the file")
    header = json.loads(bytes(view[8 : 8 + length]))
    body = view[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, end) = dtypes[entry["dtype"]], entry["shape"], entry["data_offsets"]
        count = math.prod(shape)
        if not 0 <= start <= end <= len(body) or end - start != count * dtype.itemsize:
            raise ValueError(f"tensor {name!r} does not fit its bytes")
        flat = torch.frombuffer(body[start:end], dtype=torch.uint8) if count else torch.empty(0).byte()
        tensors[name] = flat.clone().view(dtype).reshape(shape)
    return tensors


# --------------------------------------------------------------------------------------------------- corpus


def map_tokens(fd: int, dtype: str) -> np.ndarray[Any, Any]:
    """Map the token file behind `fd` read-only, as one flat array of `dtype`."""
    return np.frombuffer(mmap.mmap(fd, 0, prot=mmap.PROT_READ), np.dtype(dtype))


def window_starts(tokens: int, seq_len: int, seed: int) -> Iterator[int]:
    """Yield the first token of training windows for ever; the order depends on the seed only.

    Every epoch cuts the corpus into windows of `seq_len` + 1 tokens at a fresh offset and shuffles them, so
    that a run sees no window twice before it has seen all of them.
    """
    rng = np.random.default_rng(seed)
    while True:
        offset = int(rng.integers(0, min(seq_len, tokens - seq_len)))
        windows = max(1, (tokens - 1 - offset) // seq_len)
        for window in rng.permutation(windows):
            yield offset + int(window) * seq_len


# -------------------------------------------------------------------------------------------------- trainer


@dataclass(frozen=True)
class TrainConfig:
    """What the launcher tells the trainer. Descriptors are inherited; there is no path to the corpus."""

    train_py: str
    out_dir: str
    progress_fd: int
    control_fd: int
    seed: int
    device: str
    vocab_size: int
    seq_len: int
    budget_kind: str
    budget_s: float
    max_steps: int


class Progress:
    """The trainer's side of the progress pipe: one JSON object per line."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, kind: str, **fields: Any) -> None:
        """Write one line; lines stay below PIPE_BUF, so that they are never torn."""
        os.write(self._fd, json.dumps({"kind": kind, **fields}).encode()[:4000] + b"\n")


class Run:
    """What train.py may know of its run, and how it says how far it is."""

    def __init__(self, config: TrainConfig, progress: Progress) -> None:
        self.device: str = config.device
        self.vocab_size: int = config.vocab_size
        self.seq_len: int = config.seq_len
        self.seed: int = config.seed
        self.steps = 0
        self.tokens = 0
        self._config = config
        self._progress = progress
        self._corpus: np.ndarray[Any, Any] | None = None
        self._starts: Iterator[int] = iter(())
        self._clock_start_s = 0.0
        self._next_line = 0.0

    def batches(self, batch_rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give training batches until the budget is spent; the first call starts the clock.

        Args:
            batch_rows: B, rows per batch.

        Returns:
            an iterator of (inputs_BT, targets_BT), int64, on the run's device; targets are the inputs
            shifted by one token. Their order depends on the seed only.
        """
        if batch_rows < 1:
            raise ValueError(f"batches(batch_rows={batch_rows}): at least one row is needed")
        if self._corpus is None:
            self._corpus = self._receive_corpus()
            self._starts = window_starts(len(self._corpus), self.seq_len, self.seed)
            self._clock_start_s = self._clock_s()
        return self._generate(batch_rows, self._corpus)

    def warmup_batch(self, batch_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give (inputs_BT, targets_BT) of random tokens, free of the clock: to compile with."""
        import torch

        random_numbers = torch.Generator().manual_seed(self.seed)
        shape = (batch_rows, self.seq_len + 1)
        tokens = torch.randint(self.vocab_size, shape, generator=random_numbers).to(self.device)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    @property
    def elapsed_fraction(self) -> float:
        """The spent share of the budget, 0 to 1; 0 until the first batch was asked for.

        It reaches 1 a little before the launcher's deadline, so that there is time to write the checkpoint.
        """
        if self._corpus is None:
            return 0.0
        if self._config.budget_kind == "steps":
            return min(1.0, self.steps / self._config.max_steps)
        budget_s = self._config.budget_s
        usable_s = max(budget_s - 0.25 - 0.005 * budget_s, budget_s / 2)
        return min(1.0, (self._clock_s() - self._clock_start_s) / usable_s)

    def report(self, loss: float | torch.Tensor) -> None:
        """Say that one optimizer step is done, with its loss in nats per token.

        Raises FloatingPointError where the loss is not finite: the run then ends as `nan`.
        """
        self.steps += 1
        frac = self.elapsed_fraction
        due = frac >= self._next_line
        if not due and self.device != "cpu":
            return  # Reading a loss waits for the GPU: do it only for the few lines that are shown.
        value = loss if isinstance(loss, int | float) else loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {self.steps}")
        if due:
            self._next_line = (math.floor(frac * (PROGRESS_LINES - 1)) + 1) / (PROGRESS_LINES - 1)
            self._progress.send(
                "progress", step=self.steps, frac=round(frac, 4), loss=round(value, 5), mem_mb=_gpu_mb(self.device)
            )

    def _generate(self, batch_rows: int, corpus: np.ndarray[Any, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        span = np.arange(self.seq_len + 1)
        fences: list[torch.cuda.Event] = []
        while self.elapsed_fraction < 1.0:
            starts = np.fromiter(self._starts, np.int64, batch_rows)
            host = torch.from_numpy(corpus[starts[:, None] + span].astype(np.int32))
            if self.device == "cpu":
                tokens = host.long()
            else:
                tokens = host.pin_memory().to(self.device, non_blocking=True).long()
            self.tokens += batch_rows * self.seq_len
            yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
            if self.device != "cpu":
                # Work is queued far ahead of the GPU: without a fence the loop would learn too late that
                # the budget is spent. Two batches ahead keep the GPU busy.
                fences.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
                fences[-1].record()
                if len(fences) > 2:
                    fences.pop(0).synchronize()

    def _receive_corpus(self) -> np.ndarray[Any, Any]:
        """Ask the launcher for the training tokens; it notes the time and sends a read-only descriptor."""
        with socket.socket(fileno=os.dup(self._config.control_fd)) as control:
            control.send(b"data")
            message, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not fds:
            raise OSError("the launcher sent no training data")
        tokens = map_tokens(fds[0], json.loads(message)["dtype"])
        os.close(fds[0])
        return tokens

    def _clock_s(self) -> float:
        """Budget seconds as this process can see them; the launcher's own count decides."""
        if self._config.budget_kind == "gpu":
            return time.monotonic()
        times = os.times()
        return time.process_time() + times.children_user + times.children_system


def _gpu_mb(device: str) -> float | None:
    """Peak MB that torch allocated on the GPU; None on a CPU, where the launcher measures from outside."""
    import torch

    return None if device == "cpu" else round(torch.cuda.max_memory_allocated() / 2**20, 1)


def _seed_all(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _prepare_torch(device: str) -> None:
    """Import torch and settle its threads; raises where the device is not there."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)  # One slot is one core, and small models lose by a second thread.
    elif not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} in {sys.executable} sees no CUDA device")


def _load_target(path: str) -> ModuleType:
    """Import train.py by path. From here on this process runs code that we do not trust."""
    spec = importlib.util.spec_from_file_location("train", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["train"] = module
    spec.loader.exec_module(module)
    for name in ("build", "train"):
        if not callable(getattr(module, name, None)):
            raise AttributeError(f"train.py has no function {name}()")
    return module


def _build(module: ModuleType, vocab_size: int, seq_len: int, device: str) -> torch.nn.Module:
    import torch

    model = module.build(vocab_size, seq_len, device)
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"build() returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def run_trainer(config: TrainConfig) -> None:
    """Be the trainer: seed, build, train, write the checkpoint. Says each stage; ends the process itself."""
    progress = Progress(config.progress_fd)
    try:
        _prepare_torch(config.device)
        progress.send("stage", stage="import")
        module = _load_target(config.train_py)
        progress.send("stage", stage="build")
        _seed_all(config.seed)
        model = _build(module, config.vocab_size, config.seq_len, config.device)
        params = sum(parameter.numel() for parameter in model.parameters())
        progress.send("stage", stage="train", params=params)
        run = Run(config, progress)
        module.train(run, model)
        progress.send("stage", stage="save")
        if run.tokens == 0:
            raise RuntimeError("train() returned without taking a batch from run.batches()")
        out = Path(config.out_dir)
        write_safetensors(out / "unfinished", model.state_dict())
        (out / "unfinished").rename(out / CHECKPOINT)
        progress.send("done", steps=run.steps, tokens=run.tokens, mem_mb=_gpu_mb(config.device))
    except BaseException as error:  # noqa: BLE001 - whatever train.py raises ends the run, with its reason
        traceback.print_exc()
        progress.send("error", outcome=classify(error), reason=last_line(error, config.train_py))
        _leave(1)
    _leave(0)


def _leave(status: int) -> None:
    """End at once: nothing that train.py registered or left running may spend time after the checkpoint."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def classify(error: BaseException) -> str:
    """Name the outcome that an exception stands for: `oom`, `nan` or `crash`."""
    # By name, because torch's own error may be raised where torch could not even be imported whole.
    if type(error).__name__ in {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in str(error):
        return "oom"
    return "nan" if isinstance(error, FloatingPointError) else "crash"


def last_line(error: BaseException, train_py: str) -> str:
    """The traceback's last line, with the deepest line of train.py that it passed through."""
    line = traceback.format_exception_only(error)[-1].strip().splitlines()[0][:240]
    frames = traceback.extract_tb(error.__traceback__)
    numbers = [frame.lineno for frame in frames if frame.filename == train_py]
    number = error.lineno if isinstance(error, SyntaxError) else next(reversed(numbers), None)
    return f"{line} (train.py, line {number})" if number else line


# --------------------------------------------------------------------------------------------- model server


@dataclass(frozen=True)
class ServeConfig:
    """What the launcher tells the model server. Tokens come and logits go by inherited pipes."""

    train_py: str
    checkpoint: str
    tokens_fd: int
    logits_fd: int
    seed: int
    device: str
    vocab_size: int
    seq_len: int
    logits_dtype: str


def run_server(config: ServeConfig) -> None:
    """Be the model server: load the checkpoint, answer each request of tokens with raw logits.

    A request is a u32 row count and rows x seq_len u16 tokens; the answer is rows x seq_len x vocab_size
    numbers of `logits_dtype`. Nothing of train.py runs before the first request arrives, so the launcher
    may start this process early.
    """
    try:
        _prepare_torch(config.device)
        requests = _requests(config)
        first = next(requests, None)
        model = _restore(config)
        while first is not None:
            _write_all(config.logits_fd, _answer(model, first, config))
            first = next(requests, None)
    except BaseException as error:  # noqa: BLE001 - only a class may leave this process
        known = error.args[0] if isinstance(error, _ServerError) else classify(error)
        os._exit(SERVER_EXIT.get(known, SERVER_EXIT["crash"]))
    os._exit(0)


class _ServerError(Exception):
    """Carries one of the names in SERVER_EXIT."""


def _requests(config: ServeConfig) -> Iterator[np.ndarray[Any, Any]]:
    with os.fdopen(config.tokens_fd, "rb") as file:
        while header := file.read(4):
            (rows,) = struct.unpack("<I", header)
            data = file.read(rows * config.seq_len * 2)
            yield np.frombuffer(data, "<u2").reshape(rows, config.seq_len)


def _restore(config: ServeConfig) -> torch.nn.Module:
    """Build the model as the trainer did and put the checkpoint's weights into it."""
    module = _load_target(config.train_py)
    _seed_all(config.seed)
    model = _build(module, config.vocab_size, config.seq_len, config.device)
    try:
        model.load_state_dict(read_safetensors(Path(config.checkpoint)))
    except (RuntimeError, ValueError, KeyError, struct.error) as error:
        raise _ServerError("checkpoint") from error
    return model.eval()


def _answer(model: torch.nn.Module, tokens_BT: np.ndarray[Any, Any], config: ServeConfig) -> memoryview:
    import torch

    with torch.inference_mode():
        logits_BTV = model(torch.from_numpy(tokens_BT.astype(np.int64)).to(config.device))
        if tuple(logits_BTV.shape) != (*tokens_BT.shape, config.vocab_size):
            raise _ServerError("shape")
        wire = getattr(torch, config.logits_dtype)
        # Half precision costs 2e-4 nats at worst, bfloat16 ten times that.
        return memoryview(logits_BTV.to(wire).cpu().contiguous().numpy()).cast("B")


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


# --------------------------------------------------------------------------------------------------- scorer


@dataclass(frozen=True)
class ScoreConfig:
    """What the launcher tells the scorer."""

    corpus_dir: str
    corpus_dtype: str
    tokens_fd: int
    logits_fd: int
    vocab_size: int
    seq_len: int
    eval_tokens: int
    logits_dtype: str
    threads: int


def eval_windows(val: np.ndarray[Any, Any], eval_tokens: int, seq_len: int) -> np.ndarray[Any, Any]:
    """Cut the first `eval_tokens` of `val` into the fixed windows of every score, (windows, seq_len + 1).

    A window's last token is only a target, and the next window's inputs begin after it: no window's input
    holds a target of another's last position.
    """
    windows = min(eval_tokens, len(val)) // (seq_len + 1)
    return val[: windows * (seq_len + 1)].reshape(windows, seq_len + 1)


def nats_of(
    logits_NV: np.ndarray[Any, Any], targets_N: np.ndarray[Any, Any], pool: ThreadPoolExecutor
) -> np.ndarray[Any, Any]:
    """Per-token cross-entropy in nats (float64) by our own log-sum-exp, in blocks of rows that fit the cache.

    The blocks go to the threads of `pool` (numpy lets them run at once); their order does not matter.
    Raises FloatingPointError where a logit is not finite.
    """
    rows = max(1, BLOCK_LOGITS // logits_NV.shape[1])
    blocks = [slice(start, start + rows) for start in range(0, len(targets_N), rows)]

    def nats(block: slice) -> np.ndarray[Any, Any]:
        logits = logits_NV[block].astype(np.float32)
        top = logits.max(axis=1, keepdims=True)
        if not (np.isfinite(top).all() and np.isfinite(logits.min())):
            raise FloatingPointError("a logit is not finite")
        logits -= top
        chosen = np.take_along_axis(logits, targets_N[block, None].astype(np.int64), axis=1)
        total = np.exp(logits, out=logits).sum(axis=1, keepdims=True)
        nats_R: np.ndarray[Any, Any] = (np.log(total.astype(np.float64)) - chosen)[:, 0]
        return nats_R

    return np.concatenate(list(pool.map(nats, blocks)))


def score(config: ScoreConfig) -> dict[str, Any]:
    """Ask the model server about every window and return the score, or why there is none.

    Returns:
        {val_bpb, tokens}: bits per byte over the targets that stand for text, and the targets scored; or
        {error}: "nan" (a logit is not finite), "server" (it went away).
    """
    folder = Path(config.corpus_dir)
    with (folder / "val.bin").open("rb") as file:
        windows = eval_windows(map_tokens(file.fileno(), config.corpus_dtype), config.eval_tokens, config.seq_len)
    bytes_V = _token_bytes(folder, config.vocab_size)
    nats = 0.0
    text_bytes = 0
    try:
        with ThreadPoolExecutor(config.threads) as pool:
            for targets_N, logits_NV in _ask(windows, config):
                bytes_N = bytes_V[targets_N]
                nats += float(nats_of(logits_NV, targets_N, pool)[bytes_N > 0].sum())
                text_bytes += int(bytes_N.sum())
    except FloatingPointError:
        return {"error": "nan"}
    except (BrokenPipeError, EOFError):
        return {"error": "server"}
    return {"val_bpb": nats / (LN2 * text_bytes), "tokens": windows.shape[0] * config.seq_len}


def _token_bytes(folder: Path, vocab_size: int) -> np.ndarray[Any, Any]:
    """How many bytes of text each token id stands for, int64."""
    data = (folder / "token_bytes.bin").read_bytes()
    return np.frombuffer(data, np.uint8 if len(data) == vocab_size else np.uint16).astype(np.int64)


def _ask(
    windows: np.ndarray[Any, Any], config: ScoreConfig
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Send the inputs, one request ahead of the answers; yield (targets_N, logits_NV) in private memory."""
    wire = np.dtype(config.logits_dtype)
    row_bytes = config.seq_len * config.vocab_size * wire.itemsize
    rows = max(1, min(CHUNK_TOKENS // config.seq_len, CHUNK_BYTES // row_bytes))
    chunks = [windows[start : start + rows] for start in range(0, len(windows), rows)]
    buffer = bytearray(rows * row_bytes)

    def send(chunk: np.ndarray[Any, Any]) -> None:
        data = struct.pack("<I", len(chunk)) + chunk[:, :-1].astype("<u2").tobytes()
        _write_all(config.tokens_fd, memoryview(data))

    send(chunks[0])
    for position, chunk in enumerate(chunks):
        if position + 1 < len(chunks):
            send(chunks[position + 1])
        view = memoryview(buffer)[: len(chunk) * row_bytes]
        _read_exactly(config.logits_fd, view)
        targets_N = chunk[:, 1:].reshape(-1)
        yield targets_N, np.frombuffer(view, wire).reshape(len(targets_N), config.vocab_size)


def _read_exactly(fd: int, view: memoryview) -> None:
    while view:
        count = os.readv(fd, [view])
        if count == 0:
            raise EOFError
        view = view[count:]


# ----------------------------------------------------------------------------------------------------- main


def _harden(*, dies_with_parent: bool) -> None:
    """Die with the launcher; be the kernel's first choice when memory runs out (not the engine)."""
    if dies_with_parent:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main(arguments: list[str]) -> None:
    """Be the role that the launcher names; the configuration is one JSON object."""
    role, config = arguments[0], json.loads(arguments[1])
    if role == "score":
        ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: no same-user process may read the targets
        print(json.dumps(score(ScoreConfig(**config))))  # noqa: T201 - the launcher reads this pipe
        return
    _harden(dies_with_parent=True)
    if role == "train":
        run_trainer(TrainConfig(**config))
    else:
        run_server(ServeConfig(**config))


if __name__ == "__main__":
    main(sys.argv[1:])
