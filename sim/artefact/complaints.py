"""What torch says of values that it does not take, word for word, where no torch is there to say it.

Seen on torch 2.13 by running `train.py` with each value on a CPU, its step compiled; the limits of FlashAttention
are those in its source (Dao-AILab/flash-attention, csrc/flash_attn/flash_api.cpp) and were not seen on a GPU.
"""

from __future__ import annotations

from typing import Any, Final

from sim.gpus import GPU_CLASSES

LARGEST_BYTES: Final = max(gpu.memory_mb for gpu in GPU_CLASSES.values()) * 2**20
FLOAT_BYTES: Final = 4
MAX_HEAD_DIM: Final = 256


class OutOfMemoryError(RuntimeError):
    """Stands for torch's own, under its name."""

    __module__ = "torch"


class TorchRuntimeError(RuntimeError):
    """Stands for the compiler's, under its name."""

    __module__ = "torch._dynamo.exc"


class InternalTorchDynamoError(RuntimeError):
    """Stands for the compiler's, under its name."""

    __module__ = "torch._dynamo.exc"


class Allocator:
    """The parameters that a model creates, one after the other, until they fit no device that is simulated."""

    def __init__(self) -> None:
        self._used_bytes = 0

    def take(self, *shape: Any, count: int = 1, first_is_sequence: bool = False) -> None:
        """Create `count` float32 tensors of this shape, or raise what torch raises.

        first_is_sequence: the shape reached torch as one tuple, whose first item decides whether it is one.
        """
        _check_sizes(shape, first_is_sequence=first_is_sequence)
        size_bytes = FLOAT_BYTES
        for size in shape:
            size_bytes *= int(size)
        if size_bytes >= 2**63:
            raise RuntimeError(f"Storage size calculation overflowed with sizes={[int(size) for size in shape]}")
        self._used_bytes += size_bytes * count
        if self._used_bytes > LARGEST_BYTES:
            raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {_gib(size_bytes)}")


def _check_sizes(shape: tuple[Any, ...], *, first_is_sequence: bool) -> None:
    for position, size in enumerate(shape):
        if not isinstance(size, int) and first_is_sequence and position == 0:
            got = type(size).__name__
            raise TypeError(
                f"empty(): argument 'size' (position 1) must be tuple of ints, but found element of type {got} at pos 0"
            )
        problem = ""
        if not isinstance(size, int):
            problem = f'type must be tuple of ints,but got {type(size).__name__}"'
        elif not -(2**63) <= size < 2**63:
            problem = "Overflow when unpacking long long"
        if problem:
            raise TypeError(
                f"empty(): argument 'size' failed to unpack the object at pos {position + 1} with error \"{problem}"
            )
    if negative := next((size for size in shape if size < 0), None):
        raise RuntimeError(f"Trying to create tensor with negative dimension {negative}: {list(shape)}")


def _gib(size_bytes: int) -> str:
    gib = size_bytes / 2**30
    return f"{gib:.2f} GiB" if gib >= 1 else f"{size_bytes / 2**20:.2f} MiB"


def check_full(size: Any, value: Any) -> None:
    """Raise as `nn.Parameter(torch.full((size,), value))` does."""
    if isinstance(size, bool) or not isinstance(size, int):
        got = type(size).__name__
        raise TypeError(
            f"full(): argument 'size' (position 1) must be tuple of ints, but found element of type {got} at pos 0"
        )
    if not isinstance(value, int | float):
        raise TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {type(value).__name__}")
    if size < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {size}: [{size}]")
    if isinstance(value, int):
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")


def check_power(base: Any) -> None:
    """Raise as `base ** tensor` does."""
    if not isinstance(base, int | float):
        raise TypeError(f"unsupported operand type(s) for ** or pow(): '{type(base).__name__}' and 'Tensor'")
    if isinstance(base, int) and not -(2**63) <= base < 2**64:
        raise OverflowError("int too big to convert")


def check_betas(betas: Any) -> None:
    """Raise as AdamW does when it is made (torch/optim/adam.py)."""
    for index in (0, 1):
        if not 0.0 <= betas[index] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {betas[index]}")
    if not (isinstance(betas[0], float) and isinstance(betas[1], float)):
        raise ValueError("betas must be either both floats or both Tensors")


def check_rows(rows: Any) -> None:
    """Raise as a batch of random tokens with this number of rows does."""
    if isinstance(rows, bool) or not isinstance(rows, int):
        raise TypeError(
            "randint() received an invalid combination of arguments - got (int, tuple, generator=torch._C.Generator), "
            "but expected one of:"
        )


def check_softcap(cap: Any) -> None:
    """Raise as the compiler does for `tensor / cap`."""
    if not isinstance(cap, int | float):
        raise TorchRuntimeError("RuntimeError when making fake tensor call")


def check_scalar(value: Any) -> None:
    """Raise as `torch.tensor(value)`, used in arithmetic, does."""
    if isinstance(value, bool):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, "
            "use the `~` or `logical_not()` operator instead."
        )
    if isinstance(value, str):
        raise TypeError("new(): invalid data type 'str'")
    if value is None:
        raise RuntimeError("Could not infer dtype of NoneType")


def check_head_dim(head_dim: int) -> None:
    """Raise as FlashAttention does for heads that it cannot attend with."""
    if head_dim > MAX_HEAD_DIM:
        raise RuntimeError(f"FlashAttention forward only supports head dimension at most {MAX_HEAD_DIM}")
    if head_dim % 8:
        raise RuntimeError("query, key, value, and out_ must have a head_size that is a multiple of 8")


def loop_count(steps: Any) -> int:
    """Return how often the compiled `for step in range(steps)` runs; the compiler takes what int() takes."""
    if isinstance(steps, float) and not abs(steps) < float("inf"):
        raise TypeError("'float' object cannot be interpreted as an integer")
    try:
        return max(0, int(steps))
    except (TypeError, ValueError) as error:
        raise InternalTorchDynamoError(f"{type(error).__name__}: {error}") from error
