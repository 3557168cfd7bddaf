"""Sessions on a simulated Kubernetes cluster, and an audit of what they left in the journal and in the cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from core.events import AnyEvent, RunFinished, RunIntent, RunQueued, RunStarted
from core.journal import scan
from core.reduce import fold
from core.session import SessionFolder, all_sessions
from core.state import SessionState

PROGRAM = Path(sys.executable).parent / "autoresearch-tui"
NAMESPACE = "autoresearch"
PATHS = {
    "jobs": f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    "pods": f"/api/v1/namespaces/{NAMESPACE}/pods",
    "configmaps": f"/api/v1/namespaces/{NAMESPACE}/configmaps",
}
OURS = "app.kubernetes.io/managed-by=autoresearch-tui"


def call(home: Path, *words: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run the program in a home of its own."""
    environment = {**os.environ, "AUTORESEARCH_HOME": str(home)}
    environment.pop("KUBECONFIG", None)
    return subprocess.run([str(PROGRAM), *words], env=environment, capture_output=True, text=True, timeout=timeout_s)


def begin(home: Path, *words: str) -> SessionFolder:
    """Start a detached session on a simulated cluster; AUTORESEARCH_HOME must point to `home`."""
    told = call(home, "run", "--executor", "kubernetes", "--kube-endpoint", "sim", "--seed", "5", "--detach", *words)
    assert told.returncode == 0, told.stderr
    [folder] = all_sessions()
    return folder


def request(folder: SessionFolder, path: str, body: Any = None) -> Any:
    """Ask the session's simulated cluster for something, past our own client."""
    config = yaml.safe_load((folder.path / "kubeconfig").read_text())
    server = config["clusters"][0]["cluster"]["server"]
    token = config["users"][0]["user"]["token"]
    asked = urllib.request.Request(
        server + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        data = answer.read()
    return json.loads(data) if data else None


def left_in(folder: SessionFolder) -> dict[str, list[str]]:
    """Names of what of ours is in the cluster."""
    return {
        kind: [obj["metadata"]["name"] for obj in request(folder, f"{path}?labelSelector={OURS}")["items"]]
        for kind, path in PATHS.items()
    }


def events_of(folder: SessionFolder) -> list[AnyEvent]:
    return [event for event, _ in scan(folder.journal_dir)]


def audit(folder: SessionFolder) -> SessionState:
    """Nothing is lost, and nothing happened twice: by the journal alone. Returns its state."""
    events = events_of(folder)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    for kind, key in ((RunIntent, "attempt"), (RunFinished, "attempt"), (RunQueued, "run")):
        tally = Counter(getattr(event, key) for event in events if isinstance(event, kind))
        assert not [name for name, count in tally.items() if count > 1], f"{kind.__name__} more than once"
    finished = {event.attempt for event in events if isinstance(event, RunFinished)}
    started = Counter(event.attempt for event in events if isinstance(event, RunStarted))
    assert set(started) <= {event.attempt for event in events if isinstance(event, RunIntent)}
    state = fold(events)
    if state.now.ended is not None:
        intended = {event.attempt for event in events if isinstance(event, RunIntent)}
        assert intended == finished, "an attempt never ended"
    held = Counter(device.run for device in state.now.devices.values() if device.run is not None)
    assert not [run for run, count in held.items() if count > 1]
    return state
