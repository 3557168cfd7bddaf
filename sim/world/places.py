"""Where attempts run: what is lasting about a simulated node and device, and when each is not itself.

Noise is modelled as published repetitions of one file show it (docs/simulator.md, the table of noise).
"""

from __future__ import annotations

import math
from typing import Final

from sim import draws
from sim.faults import Faults
from sim.world.spells import Spells

SPEED_SD: Final = 0.008
"""Spread of training speed between nodes (log-normal). Measured: 1,013 ± 8.4 steps of one file on H200."""
HOST_GAP_BPB: Final = 0.0007
HOST_LOW_SHARE: Final = 0.54
"""One file scores on two levels, 0.0007 apart, 54 % on the lower. Measured: modes .96357 and .96426 of 11,192
repetitions on H100 (multiautoresearch); that the host decides is inferred."""

LOST_REASON: Final = "the device fell off the bus (Xid 79)"

_THROTTLED_MEAN_S = 1_800.0
_LOST_LEAST_S, _LOST_MEAN_S = 300.0, 1_800.0
_PULL_LEAST_S, _PULL_MOST_S = 120.0, 240.0


class Node:
    """A machine of up to eight devices. Its traits last for the session.

    `speed` is its training speed against its class, `offset_bpb` what it adds to a score, `ready_s` the session
    second from which it has the image, `throttled` when its devices are slowed down.
    """

    def __init__(self, seed: int, name: str, faults: Faults) -> None:
        self.speed = math.exp(SPEED_SD * draws.normal(seed, "node-speed", name))
        low = draws.uniform(seed, "host-level", name) < HOST_LOW_SHARE
        self.offset_bpb = HOST_GAP_BPB * (float(not low) - (1.0 - HOST_LOW_SHARE))
        pull = faults.image_pull
        pulls = draws.uniform(seed, "image-pull", pull.seed, name) < pull.rate
        length_s = draws.uniform(seed, "image-pull", pull.seed, name, "length") * (_PULL_MOST_S - _PULL_LEAST_S)
        self.ready_s = _PULL_LEAST_S + length_s if pulls else 0.0
        share, own = faults.throttling.rate, faults.throttling.seed
        good_mean_s = _THROTTLED_MEAN_S * (1.0 - share) / share if share else math.inf
        self.throttled = Spells(good_mean_s, 0.0, _THROTTLED_MEAN_S, seed, "throttling", own, name)


def outages(seed: int, device: str, faults: Faults) -> Spells:
    """When a device is lost, and for how long."""
    rate = faults.device_loss.rate
    mean_s = 3_600.0 / rate if rate else math.inf
    return Spells(mean_s, _LOST_LEAST_S, _LOST_MEAN_S, seed, "device-loss", faults.device_loss.seed, device)
