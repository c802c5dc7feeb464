"""Every way the data arrives: the same pairs give the same batches, and a fault ends the job with its place."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import numpy as np
import pytest
import small_train
from PIL import Image
from piped_jobs import PIPE, SEMSEG, fed, into_pipes, manifest_lines
from quick_job import QUICK

from semseg.codecs.params import read_params
from semseg.data.loader import TrainingLoader
from semseg.data.local_job import lay_out
from semseg.data.pipe_loader import PipeTrainingLoader
from semseg.data.s3 import ObjectStore
from semseg.data.samples import Sampler
from semseg.data.shapes import CLASSES, write_shapes
from semseg.sagemaker.channels import read_channels
from semseg.sagemaker.paths import Paths
from semseg.training.inputs import open_inputs
from semseg.types import Classes

CAMVID = Path(os.environ.get("SEMSEG_CAMVID", Path(__file__).parents[2] / "../shared/data/camvid"))
PAIRS, BATCH, CROP, BASE = 11, 4, 96, 240
Batches = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real pairs in the four directories, CamVid's if it is at hand, with names that a careless reader would break."""
    directory = tmp_path_factory.mktemp("street")
    if not CAMVID.is_dir():
        write_shapes(directory, train=PAIRS, validation=3, size=(480, 360), seed=5)
        return directory
    for channel, count in [("train", PAIRS), ("validation", 3)]:
        for name in (channel, f"{channel}_annotation"):
            (directory / name).mkdir()
            for number, path in enumerate(sorted((CAMVID / name).iterdir())[:count]):
                shutil.copy(path, directory / name / f"street {number:02} 100% + ü{path.suffix}")
    return directory


@pytest.fixture(scope="module")
def bucket(street: Path, moto_server: str) -> Iterator[str]:
    """The same pairs in S3: s3://bucket/street/train, ..."""
    client = boto3.client("s3", endpoint_url=moto_server, region_name="us-east-1")
    client.create_bucket(Bucket="streets")
    for path in street.rglob("*.*"):
        client.upload_file(str(path), "streets", f"street/{path.relative_to(street)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", moto_server)
        yield "s3://streets/street"


def batches_of(paths: Paths) -> Batches:
    """The first three epochs of the job's training images, not shuffled, byte for byte."""
    with ObjectStore() as store:
        train, _ = open_inputs(read_channels(paths), 12, store)
        sampler = Sampler(train.label_map, CROP, BASE, seed=3, workers=2, checked=False)
        loader: TrainingLoader | PipeTrainingLoader
        if train.listing:
            loader = TrainingLoader(train.listing.pairs, sampler, BATCH, shuffle=False)
        else:
            loader = PipeTrainingLoader(train.split.images, sampler, BATCH, PAIRS, lambda: False, shuffle=False)
        epochs = chain.from_iterable(loader.epoch(epoch) for epoch in range(3))
        return [(batch.images.tobytes(), batch.labels.tobytes()) for batch in epochs]


def new_paths(base: Path, config: dict[str, Any] | None = None) -> Paths:
    """A job without hyperparameters whose channels have such a configuration."""
    paths = Paths(base)
    paths.input_data_config.parent.mkdir(parents=True)
    paths.channel("").mkdir()
    paths.input_data_config.write_text(json.dumps(config or {}))
    return paths


def link_channels(paths: Paths, street: Path) -> Paths:
    for channel in street.iterdir():
        paths.channel(channel.name).symlink_to(channel)
    return paths


def with_manifests(paths: Paths, train: str, validation: str) -> Paths:
    for split, lines in [("train", train), ("validation", validation)]:
        paths.channel(split).mkdir()
        (paths.channel(split) / f"{split}.manifest").write_text(lines)
    return paths


@pytest.fixture(scope="module")
def expected(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    """What File mode gives."""
    found = batches_of(link_channels(new_paths(tmp_path_factory.mktemp("file")), street))
    assert [len(labels) // CROP**2 for _, labels in found] == [BATCH] * (3 * PAIRS // BATCH)
    assert len(set(found)) == len(found)
    return found


@pytest.mark.req("R15", "R20")
def test_fast_file_mode_gives_the_same_batches_and_nothing_is_written(
    street: Path, expected: Batches, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in street.rglob("*")}
    config = {name: {"TrainingInputMode": "FastFile"} for name in ("train", "train_annotation")}
    assert batches_of(link_channels(new_paths(tmp_path, config), street)) == expected
    assert {path: path.stat().st_mtime_ns for path in street.rglob("*")} == before


@pytest.mark.req("R36", "R37", "R39", "R40")
def test_a_manifest_of_relative_paths_gives_the_same_batches(street: Path, expected: Batches, tmp_path: Path) -> None:
    paths = new_paths(tmp_path)
    for split in ("train", "validation"):
        for folder in (split, f"{split}_annotation"):
            shutil.copytree(street / folder, paths.channel(split) / folder)
        lines = manifest_lines(street, split, "", **{"streets-metadata": {"job-name": "label-city-streets"}})
        (paths.channel(split) / "streets.jsonl").write_text(lines)
    assert batches_of(paths) == expected


@pytest.mark.req("R18", "R36", "R37")
def test_a_manifest_in_s3_gives_the_same_batches(street: Path, expected: Batches, bucket: str, tmp_path: Path) -> None:
    train, validation = (manifest_lines(street, split, f"{bucket}/") for split in ("train", "validation"))
    assert batches_of(with_manifests(new_paths(tmp_path), train, validation)) == expected


def test_ground_truth_output_gives_the_same_batches_and_the_names(
    street: Path, expected: Batches, bucket: str, tmp_path: Path
) -> None:
    colors = {str(number): {"class-name": f"thing {number}", "hex-color": f"#0000{number:02x}"} for number in range(12)}
    metadata = {"internal-color-map": colors, "type": "groundtruth/semantic-segmentation", "human-annotated": "yes"}
    lines = {
        split: manifest_lines(street, split, f"{bucket}/", **{"streets-ref-metadata": metadata})
        for split in ("train", "validation")
    }
    paths = with_manifests(new_paths(tmp_path), lines["train"], lines["validation"])
    assert batches_of(paths) == expected
    with ObjectStore() as store:
        train, _ = open_inputs(read_channels(paths), 12, store)
    assert train.classes == Classes(tuple(f"thing {number}" for number in range(12)), tuple(range(12)))


def test_prefixes_of_s3_give_the_same_batches(street: Path, expected: Batches, bucket: str, tmp_path: Path) -> None:
    channels = {channel.name: f"{bucket}/{channel.name}" for channel in street.iterdir()}
    with ObjectStore() as store:
        lay_out(Paths(tmp_path), channels, {}, store)
    assert batches_of(Paths(tmp_path)) == expected


@pytest.mark.req("R18", "R35", "R41")
def test_pipes_give_the_same_batches(street: Path, expected: Batches, tmp_path: Path) -> None:
    paths = new_paths(tmp_path / "job", {"train": PIPE, "validation": PIPE})
    manifest = street / "train.manifest"
    manifest.write_text(manifest_lines(street, "train", ""))
    try:
        with fed(paths, {"train": manifest}):
            assert batches_of(paths) == expected
    finally:
        manifest.unlink()


@pytest.fixture(scope="module")
def continued(new_job: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, Any, str]:
    """A model of Ground Truth data, and a run that starts from it with data from pipes: its job and its log."""
    data = new_job(train=6, validation=2).paths.channel("")
    colors = {str(number): {"class-name": name, "hex-color": f"#00000{number}"} for number, name in enumerate(CLASSES)}
    for mask in data.glob("*_annotation/*"):
        with Image.open(mask) as image:
            Image.fromarray(np.asarray(image)).save(mask)  # grey: only the values count
    for split in ("train", "validation"):
        lines = manifest_lines(data, split, "", **{"streets-ref-metadata": {"internal-color-map": colors}})
        (data / f"{split}.manifest").write_text(lines)
    first = Paths(tmp_path_factory.mktemp("shapes") / "first")
    command = [sys.executable, small_train.__file__, "train", "--job", str(first.base)]
    command += ["--train", str(data / "train.manifest"), "--validation", str(data / "validation.manifest")]
    command += [word for name, value in QUICK.items() for word in (f"--{name.replace('_', '-')}", value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

    job = new_job(train=1, validation=1)
    into_pipes(job)
    job.paths.channel("model").mkdir()
    with tarfile.open(job.paths.channel("model") / "model.tar.gz", "w:gz") as archive:
        for name in ("hyperparams.json", "classes.json", "model_best.params"):
            archive.add(first.model / name, name)
    job.configure(num_training_samples="6", learning_rate="1e-12")
    with fed(job.paths, {split: data / f"{split}.manifest" for split in ("train", "validation")}):
        code, log = job.run()
    assert code == 0, log
    return first, job, log


@pytest.mark.req("R18", "R38", "R43", "R44", "R45", "R46", "R47", "R48")
def test_a_training_starts_from_an_earlier_model_with_data_from_pipes(continued: tuple[Paths, Any, str]) -> None:
    """At next to no learning rate the parameters stay where they were."""
    first, job, log = continued
    before, after = (read_params(paths.model / "model_best.params") for paths in (first, job.paths))
    assert before.keys() == after.keys()
    weights = [name for name in before if name.endswith("weight")]
    assert all(np.allclose(before[name], after[name], atol=1e-7) for name in weights)
    assert "Training starts from the earlier model" in log
    assert log.count("#quality_metric. host: algo-1, epoch: 1") == 5


def test_names_of_classes_reach_the_artifact_and_that_of_the_next_training(continued: tuple[Paths, Any, str]) -> None:
    first, job, _ = continued
    for paths in (first, job.paths):
        assert json.loads((paths.model / "classes.json").read_text()) == {
            "classes": list(CLASSES),
            "colors": {str(number): f"#00000{number}" for number in range(4)},
        }


@pytest.mark.req("R46")
def test_an_earlier_model_of_another_network_is_refused(continued: tuple[Paths, Any, str], job: Any) -> None:
    first, _, _ = continued
    job.paths.channel("model").symlink_to(first.model)
    job.configure(num_classes="5", crop_size="32")
    code, log = job.run()
    assert code == 1, log
    failure = job.paths.failure.read_text()
    for words in ("num_classes", "5", "4", "crop_size", "32", "24"):
        assert words in failure


def fails(job: Any, *words: str) -> None:
    """Runs the job and expects its end: exit code 1, and the failure file with these words."""
    with job.start() as process:
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 1, log
    failure = job.paths.failure.read_text()
    for word in words:
        assert word in failure, failure


WRITER = """
import os, sys
pipe = sys.argv[1]
os.mkfifo(pipe)
with open(pipe, "wb", buffering=0) as file:
    file.write(bytes.fromhex(sys.argv[2]))
    os.kill(os.getpid(), 9)
"""


def test_a_writer_that_dies_amid_a_record_ends_the_job(job: Any) -> None:
    job.paths.input_data_config.write_text(json.dumps({"train": PIPE}))
    image = next(job.paths.channel("train").iterdir()).read_bytes()
    for name in ("train", "train_annotation"):
        shutil.rmtree(job.paths.channel(name))
    job.configure(num_training_samples="8")
    begun = struct.pack("<II", 0xCED7230A, len(image)) + image[:100]
    command = [sys.executable, "-c", WRITER, str(job.paths.channel("train_0")), begun.hex()]
    with subprocess.Popen(command) as writer:
        try:
            fails(job, "ClientError", "record 0 of train_0 is cut short", f"{len(image) - 100} more bytes")
        finally:
            writer.kill()  # it still waits for a reader if the job has not opened the pipe


def test_a_pipe_needs_the_number_of_samples(job: Any) -> None:
    into_pipes(job)
    fails(job, "ClientError: No value(s) were specified for 'num_training_samples'", "lines in the augmented manifest")


def test_sigterm_while_waiting_for_a_pipe_ends_well(job: Any) -> None:
    into_pipes(job)
    job.configure(num_training_samples="8")
    job.paths.model.mkdir()
    (job.paths.model / "model_best.params").write_text("of an earlier run")
    code, rest = job.run_until("init_train_data_iter")
    assert code == 0, rest
    assert "Stopped before the first training step" in rest
    assert not job.paths.failure.exists()
    assert [path.read_text() for path in job.paths.model.iterdir()] == ["of an earlier run"]


class Refusing(BaseHTTPRequestHandler):
    """An S3 that grants nothing."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_an_object_that_s3_refuses_ends_the_job_with_its_line(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train", "train_annotation"):
        shutil.rmtree(job.paths.channel(name))
    job.paths.channel("train").mkdir()
    line = json.dumps({"source-ref": "s3://streets/a.jpg", "streets-ref": "s3://streets/a.png"})
    (job.paths.channel("train") / "streets.manifest").write_text(f"{line}\n" * 100)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        fails(job, "ClientError", "line 1", "source-ref", "s3://streets/a.jpg", "403")
        server.shutdown()


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SEMSEG, "check", *arguments], capture_output=True, text=True, timeout=120)


def test_check_reports_on_good_data(job: Any) -> None:
    channels = [f"--{path.name.replace('_', '-')}={path}" for path in job.paths.channel("").iterdir()]
    done = check(*channels, "--num-classes", "4")
    assert done.returncode == 0, done.stderr
    assert "No errors." in done.stdout
    done = check(*channels, "--num-classes", "4", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [report["splits"][name]["pairs"] for name in ("train", "validation")] == [10, 5]


def test_check_ends_with_1_on_wrong_data(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of SAGEMAKER_BASE_DIR, as it is laid out."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job.paths.base))
    job.configure(num_classes="2")
    done = check()
    assert done.returncode == 1
    assert "are not classes under {'scale': 1}: num_classes is 2" in done.stdout


def test_check_does_not_drain_a_pipe(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job.paths.base))
    into_pipes(job)
    done = check()
    assert done.returncode == 1
    assert "The channel train is in Pipe mode: only training can read it." in done.stderr


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    done = check("--train", str(tmp_path), "--num-classes", "4")
    assert done.returncode == 1
    assert done.stderr.startswith("semseg: Missing required channel: train_annotation, validation")
    assert "Give --train-annotation and --validation and --validation-annotation; or --split 0.2" in done.stderr
    done = check("--train", str(tmp_path), "--num-classes", "4", "--split", "0.2")
    assert (done.returncode, done.stderr) == (
        1,
        "semseg: Missing required channel: train_annotation (looked in the options). Give --train-annotation.\n",
    )
    done = check("--num-classes", "4")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "semseg: There is nothing to check: no channel is given, and there is no job in /opt/ml."
    )


def test_check_names_the_files_of_nested_folders(tmp_path: Path) -> None:
    for stem in ("day/1", "night/2"):
        for folder, end in (("images", ".png"), ("masks", "_L.png")):
            path = tmp_path / folder / f"{stem}{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    options = ["--train", f"{tmp_path}/images", "--train-annotation", f"{tmp_path}/masks", "--num-classes", "4"]
    done = check(*options, "--suffix=_L", "--split=0.5")
    assert done.returncode == 1
    assert f"{tmp_path}/masks/day/1_L.png" in done.stdout
    assert f"{tmp_path}/masks/night/2_L.png" in done.stdout
    assert "train_annotation/" not in done.stdout


def test_training_names_the_places_that_were_given(job: Any, tmp_path: Path) -> None:
    data, labels = job.paths.channel(""), tmp_path / "my labels.json"
    labels.write_text('{"colors": {"5": "#000000"}}')
    channels = [f"--{path.name.replace('_', '-')}={path}" for path in data.iterdir()]
    options = [*channels, f"--label-map={labels}", "--num-classes=4", f"--job={tmp_path}/new"]
    done = subprocess.run([SEMSEG, "train", *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"ClientError: {labels}: key '5' of 'colors' is not a class" in done.stdout
    assert f"{labels}: key '5'" in (tmp_path / "new/output/failure").read_text()


def test_check_names_the_places_that_were_given(job: Any, tmp_path: Path) -> None:
    """Not those of the temporary folder in which it lays a job out."""
    given = tmp_path / "given"
    (given / "model/nested").mkdir(parents=True)
    (given / "model/nested/model_best.params").touch()
    (given / "my labels.json").write_text('{"scale": "1"}')
    data = job.paths.channel("")
    (data / "train/notes.txt").touch()
    channels = [f"--{path.name.replace('_', '-')}={path}" for path in data.iterdir()]

    done = check(*channels, f"--label-map={given}/my labels.json", "--num-classes=4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"{data}/train/notes.txt is not a readable image file"]

    (given / "my labels.json").write_text("{}")
    wrong = check(*channels, f"--label-map={given}/my labels.json", "--num-classes=4")
    nested = check(*channels, f"--model={given}/model", "--num-classes=4")
    missing = check(channels[0], "--num-classes=4")
    assert [done.returncode for done in (wrong, nested, missing)] == [1, 1, 1]
    assert "has no key" in wrong.stderr
    assert f"There is a model in {given}/model/nested: give that folder" in nested.stderr
    assert "(looked in the options)" in missing.stderr
    assert all("semseg-" not in done.stderr for done in (wrong, nested, missing))


@pytest.mark.parametrize(("wanted", "code"), [("better-ref", 0), ("worse-ref", 1)])
def test_of_two_labels_in_a_manifest_one_is_chosen(job: Any, tmp_path: Path, wanted: str, code: int) -> None:
    for split in ("train", "validation"):
        (image, *_), (mask, *_) = (sorted(job.paths.channel(name).iterdir()) for name in (split, f"{split}_annotation"))
        shutil.copy(image, tmp_path / f"{split}{image.suffix}")
        shutil.copy(mask, tmp_path / f"{split}.png")
        entry = {"source-ref": f"{split}{image.suffix}", "worse-ref": "gone.png", "better-ref": f"{split}.png"}
        (tmp_path / f"{split}.manifest").write_text(json.dumps(entry))
    manifests = [f"--{split}={tmp_path / split}.manifest" for split in ("train", "validation")]
    done = check(*manifests, "--num-classes=4", f"--label-attribute={wanted}")
    assert done.returncode == code, done.stderr
    undecided = check(*manifests, "--num-classes=4")
    assert "has several keys that end in -ref: 'worse-ref', 'better-ref'" in undecided.stdout
