"""Settings of a cluster: read from YAML and options, and one clear sentence for each kind of mistake; quantities."""

from __future__ import annotations

import pytest

from core.executor import ExecutorError
from executors.kubernetes.quantity import number
from executors.kubernetes.settings import KubeSettings, from_options, load, to_options


def write(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def test_usual_settings_are_valid():
    assert load(None, {}) == KubeSettings()


def test_options_beat_the_file(tmp_path):
    path = write(tmp_path, "namespace: research\nqueue: gpus\ntolerations:\n- {key: team, operator: Exists}\n")
    found = load(path, {"queue": "night", "cpus": 4})
    assert (found.namespace, found.queue, found.cpus) == ("research", "night", 4)
    assert found.tolerations == [{"key": "team", "operator": "Exists"}]


def test_an_empty_file_says_nothing(tmp_path):
    assert load(write(tmp_path, "# nothing yet\n"), {}) == KubeSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("namspace: x", r"knows no setting 'namspace'; did you mean 'namespace'\?"),
        ("zzzzz: 1", r"knows no setting 'zzzzz'; there is allow_mig, "),
        ("7: x", r"knows no setting '7'"),
        ("cpus: four", r"cpus is 'four': expected a whole number or nothing, got a text"),
        ("cpu_slots: 1.5", r"cpu_slots is 1.5: expected a whole number"),
        ("cpu_slots: true", r"cpu_slots is True: expected a whole number, got true or false"),
        ("allow_mig: 1", r"allow_mig is 1: expected true or false"),
        ("tolerations: {a: b}", r"tolerations is {'a': 'b'}: expected a list, got a block"),
        ("products: [H100, 7]", r"products\[1\] is 7: expected a text"),
        ("node_selector: {a: 1}", r"node_selector\[...\] is .*: expected a text"),
        ("endpoint: real", r"endpoint is 'real': it is sim"),
        ("memory: 64GB", r"memory is '64GB', which is no size"),
        ("memory: '-1Gi'", r"memory is '-1Gi', which is no size"),
        ("shm: ''", r"shm is '', which is no size"),
        ("tmp: '64'", r"tmp is '64', which is no size"),
        ("cpus: 0", r"cpus is 0, and has to be 1 or more"),
        ("in_flight: 0", r"in_flight is 0, and has to be 1 or more"),
        ("submit_per_s: .nan", r"submit_per_s is nan, and has to be 0.1 or more"),
        ("grace_s: -5", r"grace_s is -5"),
        ("namespace: My_Space", r"namespace is 'My_Space', which is no name in Kubernetes"),
        ("image: ''", r"image is '', which is empty or holds blanks"),
        ("image: 'a b'", r"image is 'a b', which is empty or holds blanks"),
        ("image_pull_policy: Sometimes", r"image_pull_policy is 'Sometimes': it is Always or IfNotPresent or Never"),
        ("data: /mnt/data", r"data is '/mnt/data': write pvc:NAME, pvc:NAME/FOLDER or image:REFERENCE"),
        ("data: 'pvc:'", r"data is 'pvc:': write"),
        ("data: pvc:x/../y", r"data is 'pvc:x/../y': write"),
        ("cache: x", r"cache is 'x': write pvc:NAME"),
        ("[1, 2]", r"holds no settings"),
        ("just words", r"holds no settings"),
        ("a: [1", r"is no YAML in line \d: mend it"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, text, says):
    with pytest.raises(ExecutorError, match=says) as error:
        load(write(tmp_path, text + "\n"), {})
    assert "cluster.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_option_is_told_as_one():
    with pytest.raises(ExecutorError, match=r"^the settings of the cluster: cpus is -1"):
        load(None, {"cpus": -1})


def test_an_option_that_was_not_given_leaves_the_file_alone(tmp_path):
    assert load(write(tmp_path, "queue: gpus"), {"queue": None}).queue == "gpus"


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ExecutorError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "cluster.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ExecutorError, match="cannot be read: 'utf-8'"):
        load(tmp_path / "cluster.yaml", {})


def test_a_session_keeps_its_settings(tmp_path):
    said = {"namespace": "research", "tolerations": [{"key": "team"}], "overlay": {"spec": {}}, "memory": "9Gi"}
    settings = load(None, said)
    assert to_options(settings) == said
    assert from_options(to_options(settings)) == settings


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("8", 8), ("64Gi", 64 << 30), ("1.5Gi", 3 << 29), ("2k", 2000), ("1e3", 1000), (4, 4),
     ("", 0), ("Gi", 0), ("1GiB", 0), ("0x10", 0), ("nan", 0), (None, 0)],
)  # fmt: skip
def test_quantities(text, value):
    assert number(text) == value
