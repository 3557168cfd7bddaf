"""The sizes of `train.py` for devices smaller than the one it is written for.

`train.py` has the size of an 80 GB H100. On a smaller device a session's first revision is that file with one of
these profiles written into its constants, and the settings that go with it are locked for the session: scores
compare only where sequence length, tokens scored and budget are the same. A profile sets sizes and nothing else;
the learning rates, schedules and parts of the model stay what they are.
"""

from __future__ import annotations

import msgspec

Literal = int | float | str | tuple[float, ...]


class Profile(msgspec.Struct, frozen=True):
    """What a session on one kind of device starts from.

    `overrides` replaces constants of `train.py`, by name; a `str` is the text of a literal. `seq_len` and
    `eval_tokens` count tokens. `budget_s` counts what `budget_kind` says: "cpu" process CPU seconds on one thread,
    "gpu" training seconds. `memory_mb` is the device memory from which the profile is meant (0: any).
    """

    name: str
    description: str
    overrides: dict[str, Literal]
    seq_len: int
    eval_tokens: int
    budget_s: float
    budget_kind: str
    memory_mb: int = 0


# The memory of a run is close to 4.2 GB + 0.0097 GB * depth * width * rows / 128 at 2,048 tokens a row: fitted to
# published runs of a like model (44 GB at the full size). Each GPU profile needs at most 60 % of what it is meant
# for, to leave room for edits that make the model bigger.
PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="cuda",
            description="train.py as it is: depth 8, width 512, 50 M parameters at a vocabulary of 8,192",
            overrides={},
            seq_len=2048,
            eval_tokens=2**20,
            budget_s=300.0,
            budget_kind="gpu",
            memory_mb=70_000,
        ),
        Profile(
            name="cuda-24gb",
            description="the same model and the same batch, in four times as many forward passes: about 14 GB",
            overrides={"DEVICE_BATCH_SIZE": 32},
            seq_len=2048,
            eval_tokens=2**20,
            budget_s=300.0,
            budget_kind="gpu",
            memory_mb=22_000,
        ),
        Profile(
            name="cuda-small",
            description="depth 4, width 256 and an eighth of the batch: about 5 GB",
            overrides={"DEPTH": 4, "TOTAL_BATCH_SIZE": 65536, "DEVICE_BATCH_SIZE": 16},
            seq_len=2048,
            eval_tokens=2**20,
            budget_s=300.0,
            budget_kind="gpu",
        ),
        Profile(
            name="cpu",
            description="depth 2, width 48, 92 k parameters on bytes: about 950 steps in 20 CPU seconds",
            overrides={
                "DEPTH": 2,
                "ASPECT_RATIO": 24,
                "HEAD_DIM": 16,
                "TOTAL_BATCH_SIZE": 1024,
                "DEVICE_BATCH_SIZE": 8,
            },
            seq_len=128,
            eval_tokens=2**17,
            budget_s=20.0,
            budget_kind="cpu",
        ),
    )
}


def choose_profile(device_kind: str, memory_mb: int = 0) -> Profile:
    """Return the profile for a device.

    Args:
        device_kind: "cpu" or "cuda".
        memory_mb: the device's memory; 0 where it is not known, which takes the full size.

    Raises:
        ValueError: there is no profile for this kind of device.
    """
    if device_kind == "cpu":
        return PROFILES["cpu"]
    if device_kind != "cuda":
        raise ValueError(f"there is no profile for the device kind {device_kind!r}: it must be cpu or cuda")
    if memory_mb == 0:
        return PROFILES["cuda"]
    fitting = [p for p in PROFILES.values() if p.budget_kind == "gpu" and p.memory_mb <= memory_mb]
    return max(fitting, key=lambda profile: profile.memory_mb)
