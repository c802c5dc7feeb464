from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semseg.errors import UserError
from semseg.sagemaker.hosts import read_hosts
from semseg.sagemaker.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    paths.resource_config.parent.mkdir(parents=True)
    return paths


def write(paths: Paths, **config: Any) -> None:
    paths.resource_config.write_text(json.dumps(config))


def test_a_single_host(paths: Paths) -> None:
    assert read_hosts(paths).current == "algo-1"
    write(paths, current_host="algo-1-x", hosts=["algo-1-x"], topology=None)
    hosts = read_hosts(paths)
    assert (hosts.current, hosts.count, hosts.index) == ("algo-1-x", 1, 0)
    write(paths, current_host=1)
    with pytest.raises(UserError, match="current_host must be a string"):
        read_hosts(paths)


def test_several_hosts_have_the_same_order_on_each(paths: Paths) -> None:
    write(paths, current_host="algo-2", hosts=["algo-3", "algo-2", "algo-1"], network_interface_name="ens5")
    hosts = read_hosts(paths)
    assert (hosts.names, hosts.index, hosts.count) == (("algo-1", "algo-2", "algo-3"), 1, 3)
    assert hosts.interface == "ens5"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hosts": ["algo-1", 2]}, "hosts must be"),
        ({"hosts": ["algo-1", "algo-1"]}, "hosts must be"),
        ({"hosts": ["algo-1", "x" * 254]}, "hosts must be"),
        ({"hosts": ["algo-1", "algo 2"]}, "hosts must be"),
        ({"hosts": ["algo-1", "algo-2\n"]}, "hosts must be"),
        ({"hosts": [f"algo-{number}" for number in range(1001)]}, "up to 1000"),
        ({"current_host": "algo-3"}, "current_host must be one of hosts"),
        ({"network_interface_name": None}, "network_interface_name must be"),
        ({"network_interface_name": "eth0,=eth1"}, "network_interface_name must be"),
        ({"network_interface_name": "e" * 16}, "network_interface_name must be"),
    ],
)
def test_invalid_hosts_are_refused(paths: Paths, changes: dict[str, Any], message: str) -> None:
    write(paths, **{"current_host": "algo-1", "hosts": ["algo-1", "algo-2"], **changes})
    with pytest.raises(UserError, match=message):
        read_hosts(paths)


@pytest.mark.parametrize(
    ("config", "instance", "has_gpu"),
    [
        ({}, "", False),
        ({"current_instance_type": "ml.g5.xlarge"}, "ml.g5.xlarge", True),
        ({"current_instance_type": "ml.p3.2xlarge"}, "ml.p3.2xlarge", True),
        ({"current_instance_type": "ml.p4d.24xlarge"}, "ml.p4d.24xlarge", True),
        ({"current_instance_type": "ml.p6-b200.48xlarge"}, "ml.p6-b200.48xlarge", True),
        ({"current_instance_type": "ml.g4dn.xlarge"}, "ml.g4dn.xlarge", True),
        ({"current_instance_type": "ml.gr6.4xlarge"}, "ml.gr6.4xlarge", True),
        ({"current_instance_type": "ML.G6.XLARGE"}, "ML.G6.XLARGE", True),
        ({"current_instance_type": "local_gpu"}, "local_gpu", True),
        ({"current_instance_type": "local_cpu"}, "local_cpu", False),
        ({"current_instance_type": "local"}, "local", False),
        ({"current_instance_type": "ml.c5.xlarge"}, "ml.c5.xlarge", False),
        ({"current_instance_type": "ml.m7g.large"}, "ml.m7g.large", False),  # Graviton
        ({"current_instance_type": "ml.trn1.2xlarge"}, "ml.trn1.2xlarge", False),
        ({"current_instance_type": "ml.inf2.xlarge"}, "ml.inf2.xlarge", False),
        ({"instance_groups": [{"instance_type": "ml.g5.xlarge", "hosts": ["algo-1"]}]}, "ml.g5.xlarge", True),
        (
            {
                "instance_groups": [
                    {"instance_type": "ml.c5.xlarge", "hosts": ["algo-2"]},
                    {"instance_type": "ml.p3.2xlarge", "hosts": ["algo-1"]},
                ]
            },
            "ml.p3.2xlarge",
            True,
        ),
        ({"current_instance_type": None, "instance_groups": None, "topology": None}, "", False),
        ({"current_instance_type": 5, "instance_groups": {"a": 1}}, "", False),
        ({"current_instance_type": ["ml.g5"], "instance_groups": [3, {"hosts": 1}, {"hosts": ["algo-1"]}]}, "", False),
        ({"current_instance_type": "ml.g5.xlarge\nforged", "instance_groups": [{"hosts": [["algo-1"]]}]}, "", False),
        ({"current_instance_type": "ml.g5." + 1000 * "x"}, "", False),
    ],
)
def test_the_instance_type_says_whether_there_is_a_gpu(
    paths: Paths, config: dict[str, object], instance: str, has_gpu: bool
) -> None:
    paths.resource_config.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]} | config))
    hosts = read_hosts(paths)
    assert (hosts.instance_type, hosts.gpu_instance) == (instance, instance if has_gpu else "")
