"""Checks the requests that the SDKs send to AWS when they run the README's blocks; a fake API records them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from semseg.codecs.masks import encode_mask
from semseg.codecs.media_types import PNG
from semseg.codecs.tensors import encode_probabilities
from semseg.sagemaker.hyperparameters import parse

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:thing/name"
ARTIFACT = "s3://bucket/jobs/job/output/model.tar.gz"
ACCESS_DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
"""IAM's response when SDK 3 checks the permissions of the role."""

NO_WAITING = "import time; time.sleep = lambda seconds: None"
"""The SDKs poll every 30 seconds; here everything is complete at once."""

TIMES = {"CreationTime": 1, "LastModifiedTime": 2, "TrainingStartTime": 1, "TrainingEndTime": 2}


class Account:
    """A fake AWS account that records each (action, request); whatever is created is complete at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def requests(self, action: str) -> list[dict[str, Any]]:
        """The requests for an action, in order."""
        return [request for name, request in self.calls if name == action]

    def manage(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((action, request))
        if action.startswith("Create"):
            return {f"{action.removeprefix('Create')}Arn": ARN}
        if action.startswith("Describe") and action != "DescribeLogStreams":
            thing = action.removeprefix("Describe")
            state = {f"{thing}Arn": ARN, f"{thing}Status": "InService" if thing == "Endpoint" else "Completed"}
            model = {"ModelArtifacts": {"S3ModelArtifacts": ARTIFACT}, "SecondaryStatus": "Completed"}
            return {**self.requests(f"Create{thing}")[-1], **TIMES, **state, **model}
        return {"logStreams": []}

    def invoke(self, content_type: str, accept: str, body: bytes) -> bytes:
        self.calls.append(("InvokeEndpoint", {"ContentType": content_type, "Accept": accept, "Body": body}))
        if accept == PNG:
            return encode_mask(np.zeros((40, 48), dtype=np.uint8))
        return b"".join(map(bytes, encode_probabilities(np.full((4, 40, 48), 0.25, dtype=np.float32))))


class Handler(BaseHTTPRequestHandler):
    """The HTTP API of the fake account: JSON for SageMaker and CloudWatch, and invocations of an endpoint."""

    account: Account

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        action = self.headers.get("X-Amz-Target", "").partition(".")[2]
        if self.path.endswith("/invocations"):
            self.answer(200, self.account.invoke(self.headers["Content-Type"], self.headers["Accept"], body))
        elif action:
            self.answer(200, json.dumps(self.account.manage(action, json.loads(body))).encode())
        else:
            self.answer(403, ACCESS_DENIED)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


@pytest.fixture
def account() -> Iterator[tuple[Account, str]]:
    """A fake account, and the address of its API."""
    fake = Account()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"account": fake})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield fake, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check_training(account: Account, metric_definitions: dict[str, str]) -> None:
    (request,) = account.requests("CreateTrainingJob")
    algorithm = request["AlgorithmSpecification"]
    assert (algorithm["TrainingImage"], algorithm["TrainingInputMode"]) == (f"{REGISTRY}/semseg:gpu", "File")
    metrics = {metric["Name"]: metric["Regex"] for metric in algorithm["MetricDefinitions"]}
    assert metrics
    assert metrics.items() <= metric_definitions.items()
    resources = request["ResourceConfig"]
    assert (resources["InstanceType"], resources["InstanceCount"]) == ("ml.g5.xlarge", 1)
    assert request["EnableNetworkIsolation"] is True
    assert request["OutputDataConfig"]["S3OutputPath"] == "s3://bucket/jobs"
    places = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request["InputDataConfig"]
    }
    channels = ("train", "train_annotation", "validation", "validation_annotation")
    assert places == {name: f"s3://bucket/shapes/{name}/" for name in channels}
    hyperparameters, _ = parse(request["HyperParameters"])
    assert (hyperparameters.num_classes, hyperparameters.use_pretrained_model) == (4, False)


def check_endpoint(account: Account, jpeg: bytes) -> None:
    model = account.requests("CreateModel")[0]
    variant = account.requests("CreateEndpointConfig")[0]["ProductionVariants"][0]
    assert model["PrimaryContainer"]["Image"] == f"{REGISTRY}/semseg:cpu"
    assert model["PrimaryContainer"]["ModelDataUrl"] == ARTIFACT
    assert model["EnableNetworkIsolation"] is True
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.c5.xlarge", 1)
    assert account.requests("InvokeEndpoint")[0] == {"ContentType": "image/jpeg", "Accept": "image/png", "Body": jpeg}
    assert len(account.requests("CreateEndpoint")) == len(account.requests("DeleteEndpoint")) == 1


def check_transform(account: Account) -> None:
    (request,) = account.requests("CreateTransformJob")
    assert request["BatchStrategy"] == "SingleRecord"
    assert request["TransformInput"]["ContentType"] == "image/jpeg"
    assert request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://bucket/shapes/validation/"
    assert request["TransformOutput"] == {"S3OutputPath": "s3://bucket/jobs/masks", "Accept": "image/png"}
    assert request["TransformResources"]["InstanceType"] == "ml.c5.xlarge"


def run_after(head: str, name: str, workplace: Callable[[str], Any], blocks: dict[str, str], address: str) -> None:
    """Runs the block `name` after `head`, the beginning of the block for SDK 2; fails if it fails."""
    done = workplace("v2").run(NO_WAITING, blocks["shared"], head, blocks[name], AWS_ENDPOINT_URL=address)
    assert done.returncode == 0, done.stdout


@pytest.mark.req("R10", "R49", "R50", "R51", "R52", "R54", "R55", "R56")
@pytest.mark.parametrize("sdk", ["v2", "v3"])
def test_a_training_job_an_endpoint_and_a_batch_transform(
    sdk: str,
    workplace: Callable[[str], Any],
    blocks: dict[str, str],
    account: tuple[Account, str],
    metric_definitions: dict[str, str],
) -> None:
    """Trains on a GPU instance and serves on a CPU instance."""
    fake, address = account
    place = workplace(sdk)
    done = place.run(NO_WAITING, blocks["shared"], blocks[sdk], 'mask.save("mask.png")', AWS_ENDPOINT_URL=address)
    assert done.returncode == 0, done.stdout
    check_training(fake, metric_definitions)
    check_endpoint(fake, (place.folder / "shapes/validation/0000.jpg").read_bytes())
    check_transform(fake)
    assert (place.folder / "mask.png").is_file()
    if sdk == "v2":
        assert fake.requests("InvokeEndpoint")[1]["Accept"] == "application/x-recordio-protobuf"


def test_a_serverless_endpoint(
    workplace: Callable[[str], Any], blocks: dict[str, str], account: tuple[Account, str]
) -> None:
    fake, address = account
    run_after(blocks["v2"].partition("predictor = ")[0], "serverless", workplace, blocks, address)
    (variant,) = fake.requests("CreateEndpointConfig")[0]["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 2}
    assert "InstanceType" not in variant
    assert fake.requests("CreateModel")[0]["PrimaryContainer"]["Image"] == f"{REGISTRY}/semseg:cpu"


def test_a_tuning_job(
    workplace: Callable[[str], Any],
    blocks: dict[str, str],
    account: tuple[Account, str],
    metric_definitions: dict[str, str],
) -> None:
    fake, address = account
    run_after(blocks["v2"].partition("estimator.fit(")[0], "tuning", workplace, blocks, address)
    (request,) = fake.requests("CreateHyperParameterTuningJob")
    objective = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    assert objective == {"Type": "Maximize", "MetricName": "validation:mIOU"}
    definitions = request["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    assert {"Name": "validation:mIOU", "Regex": metric_definitions["validation:mIOU"]} in definitions


def test_a_model_of_the_built_in_algorithm_is_served_and_trained_further(
    workplace: Callable[[str], Any], blocks: dict[str, str], account: tuple[Account, str]
) -> None:
    fake, address = account
    run_after(blocks["v2"].partition("estimator = ")[0], "earlier", workplace, blocks, address)
    earlier = "s3://bucket/earlier/output/model.tar.gz"
    (model,) = fake.requests("CreateModel")
    assert (model["PrimaryContainer"]["Image"], model["PrimaryContainer"]["ModelDataUrl"]) == (
        f"{REGISTRY}/semseg:cpu",
        earlier,
    )
    (request,) = fake.requests("CreateTrainingJob")
    channels = {channel["ChannelName"]: channel for channel in request["InputDataConfig"]}
    assert channels["model"]["DataSource"]["S3DataSource"]["S3Uri"] == earlier
    assert channels["model"]["InputMode"] == "File"
