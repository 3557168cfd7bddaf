"""How long the parts of a cluster take, in session seconds, as recorded on a real control plane (1.36)."""

from __future__ import annotations

import msgspec


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Delays of a cluster. A value is the recorded one unless its field says otherwise.

    `node_grace_s` is how long a node may be silent before it counts as unreachable (Kubernetes' default; the
    recordings were made with 20). `controller_qps` and `controller_burst` limit the writes of the Job controller
    (the controller-manager's defaults); `sync_batch_s` is how long it collects changes of a Job's pods.
    """

    create_s: float = 0.008
    bind_s: float = 0.004
    admit_s: float = 0.012
    mount_s: float = 0.4
    start_s: float = 0.095
    terminated_s: float = 0.03
    phase_s: float = 1.1
    kill_s: float = 0.3
    finalize_s: float = 0.9
    remount_s: float = 0.5
    pull_failed_s: float = 0.45
    pull_retry_s: float = 14.5
    most_retry_s: float = 120.0
    evict_s: float = 2.5
    sync_batch_s: float = 1.0
    create_retry_s: float = 1.0
    most_create_retry_s: float = 600.0
    replace_s: float = 10.0
    controller_qps: float = 20.0
    controller_burst: int = 30
    node_grace_s: float = 50.0
    pod_gc_s: float = 59.0
    reschedule_s: float = 0.2
    collect_s: float = 0.02
    ttl_slack_s: float = 0.3
