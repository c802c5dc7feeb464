"""What tests of several folders share."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import settings
from readme import README

from semseg.sagemaker.log_lines import LOGGER

NEEDED = {"mxnet": ("parity/*", "unit/engines/gluon"), "torch": ("*/torch", "*/torch/*")}
"""The folders of tests that need a library, which not every environment has (scripts/setup)."""

collect_ignore_glob = [folder for library, folders in NEEDED.items() if not find_spec(library) for folder in folders]

# Threads add up the gradient of MXNet's BilinearResize2D in no fixed order: GluonCV, as the oracle, gets one.
os.environ["OMP_NUM_THREADS"] = "1"

# Threads that wait for others do not keep a core from the tests beside them.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

# No test asks GluonCV's store for weights; those about fetching have a store of their own.
os.environ["SEMSEG_OFFLINE"] = "1"

# A busy machine may take its time over an example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the tests outside of these folders that are marked as needing a library that is not installed."""
    left_out = [item for item in items if any(not find_spec(mark.args[0]) for mark in item.iter_markers("needs"))]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    """Commands direct the log to their stdout; a test must not hear of another's, nor of that of a fixture."""
    LOGGER.handlers, LOGGER.propagate = [], True
    LOGGER.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def metric_definitions() -> dict[str, str]:
    """The regexes by metric that the README gives to users of a bring-your-own container."""
    definitions = dict(re.findall(r"^((?:train|validation):\w+) +(#.*)$", README, re.MULTILINE))
    assert len(definitions) == 8
    return definitions


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The address of moto's S3 server, a process of its own; the environment holds credentials that it accepts."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"]
    environ = os.environ | {"PYTHONUNBUFFERED": "1", "MOTO_S3_DEFAULT_MAX_KEYS": "10"}  # lists come in pages
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    with (
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert process.stdout
        drain = threading.Thread(target=deque, args=(process.stdout, 0))  # a full pipe would stop the server
        try:
            address = next(line for line in process.stdout if "Running on" in line)  # it listens from here on
            drain.start()
            for name, value in credentials.items():
                patch.setenv(name, value)
            yield address.rpartition(" ")[2].strip()
        finally:
            process.terminate()
            drain.join(60)


@pytest.fixture(scope="session")
def moto(moto_server: str) -> Iterator[Any]:
    """A resource of boto3 on that server."""
    import boto3

    resource = boto3.resource("s3", endpoint_url=moto_server, region_name="us-east-1")
    yield resource
    resource.meta.client.close()


@pytest.fixture
def bucket(moto: Any, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, called `bucket`, of boto3; the environment says where it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_server)
    bucket = moto.create_bucket(Bucket="bucket")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture(scope="session")
def record_class() -> Any:
    """The published schema of `aialgs.data.Record`, the fields used here, in a pool of its own.

    The SageMaker SDK registers the same names in the default pool, which refuses to hold them twice.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")

    def tensor(name: str, kind: Any) -> None:
        message = file.message_type.add(name=name)
        for number, (key, key_type) in enumerate(
            [("values", kind), ("keys", field.TYPE_UINT64), ("shape", field.TYPE_UINT64)], 1
        ):
            added = message.field.add(name=key, number=number, label=field.LABEL_REPEATED, type=key_type)
            added.options.packed = True

    tensor("Float32Tensor", field.TYPE_FLOAT)
    tensor("Int32Tensor", field.TYPE_INT32)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for name, number, kind in [("float32_tensor", 2, "Float32Tensor"), ("int32_tensor", 7, "Int32Tensor")]:
        value.field.add(
            name=name,
            number=number,
            label=field.LABEL_OPTIONAL,
            type=field.TYPE_MESSAGE,
            type_name=f".aialgs.data.{kind}",
            oneof_index=0,
        )
    record = file.message_type.add(name="Record")
    entry = record.nested_type.add(name="FeaturesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=field.LABEL_OPTIONAL,
        type=field.TYPE_MESSAGE,
        type_name=".aialgs.data.Value",
    )
    record.field.add(
        name="features",
        number=1,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name=".aialgs.data.Record.FeaturesEntry",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))
