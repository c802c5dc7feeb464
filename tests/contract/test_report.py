"""What a training leaves for people: the report, TensorBoard's files, the model card."""

from __future__ import annotations

import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_train
from small_train import CONTINUE
from tensorboardX.proto.event_pb2 import Event as Entry


def report_of(job: Any) -> str:
    return str((job.paths.output_data / "report.html").read_text())


def epochs_of(body: str) -> list[tuple[str, str]]:
    """The number and the cells of each row in the table of the epochs."""
    table, _, _ = body[body.index('id="epochs"') :].partition("</table>")
    return re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', table)


@pytest.fixture(scope="module")
def finished(new_job: Callable[..., Any]) -> tuple[Any, str]:
    """A job of three epochs that has finished, and its log."""
    job = new_job()
    job.configure(epochs="3", _tensorboard="True", learning_rate="0.01")
    code, log = job.run()
    assert code == 0, log
    return job, log


def test_report_metrics_log_tensorboard_and_card_agree(
    finished: tuple[Any, str], metric_definitions: dict[str, str]
) -> None:
    """The report has each number in full in a `data` element; TensorBoard's are float32."""
    job, log = finished
    epochs = [json.loads(line) for line in (job.paths.output_data / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((job.paths.output_data / "metrics.json").read_text())
    body = report_of(job)
    rows = epochs_of(body)
    names = [
        "train_loss",
        "validation_loss",
        "mIOU",
        "mIOU_present",
        "pixel_accuracy",
        "learning_rate",
        "train_throughput",
    ]
    assert [(int(number), re.findall(r'<data value="([^"]+)"', row)) for number, row in rows] == [
        (epoch["epoch"] + 1, [str(epoch[name]) for name in names]) for epoch in epochs
    ]
    logged = {"train:loss": "train_loss", "validation:mIOU": "mIOU", "validation:loss": "validation_loss"}
    for metric, name in logged.items():
        assert re.findall(metric_definitions[metric], log) == [str(epoch[name]) for epoch in epochs]

    whole = summary["whole_pictures"]["validation"]
    figures = re.findall(r'<dt>([^<]+)</dt><dd><span class="value"><data value="([^"]+)"', body)
    assert dict(figures) == {
        "Best mIOU": str(summary["best"]["mIOU"]),
        "Pixel accuracy": str(summary["best"]["pixel_accuracy"]),
        "mIOU, whole validation": str(whole["mIOU"]),
    }
    assert f"#final_metric. host: algo-1, validation mIOU: {whole['mIOU']} ." in log
    classes = body[body.index('class="measures"') :]
    measured = re.findall(r"<tr><th.*?</th>(.*?)</tr>", classes[: classes.index("</table>")], re.DOTALL)
    ious = [[re.findall(r'<data value="([^"]+)"', row)[column] for row in measured[1:]] for column in (0, 3)]
    assert ious == [[str(iou) for iou in found["IOU"]] for found in (summary["best"], whole)]

    written = scalars(job.paths.output_data / "tensorboard")
    assert written["validation/mIOU"] == pytest.approx([epoch["mIOU"] for epoch in epochs], rel=1e-6)
    assert written["train/loss"] == pytest.approx([epoch["train_loss"] for epoch in epochs], rel=1e-6)
    assert written["whole_validation/mIOU"] == pytest.approx([whole["mIOU"]], rel=1e-6)
    card = (job.paths.model / "README.md").read_text()
    assert f"epoch {summary['best']['epoch'] + 1} | {summary['best']['mIOU']:.4f} |" in card
    assert f"| 5 whole images of validation | {whole['mIOU']:.4f} |" in card


def scalars(folder: Path) -> dict[str, list[float]]:
    """The values of each tag in TensorBoard's file, in order."""
    (path,) = folder.iterdir()
    data, found = path.read_bytes(), dict[str, list[float]]()
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        for value in Entry.FromString(data[12 : 12 + size]).summary.value:
            found.setdefault(value.tag, []).append(value.simple_value)
        data = data[16 + size :]
    return found


def test_the_report_shows_the_training(finished: tuple[Any, str]) -> None:
    body = report_of(finished[0])
    assert "All epochs are done." in body
    assert "<h1>FCN on ResNet-50</h1>" in body
    assert body.count('alt="Prediction of validation/') == 8  # four that stay the same, and the four worst
    for words in ("Confusion matrix", "JPEG RGB", "48 x 40", "learning_rate", "semseg-container", "base_size 48"):
        assert words in body


def test_the_python_of_the_card_runs(finished: tuple[Any, str], tmp_path: Path) -> None:
    """With the artifact's archive and an image beside it."""
    job, _ = finished
    (block,) = re.findall(r"```python\n(.*?)```", (job.paths.model / "README.md").read_text(), re.DOTALL)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        for path in job.paths.model.iterdir():
            archive.add(path, path.name)
    image = next((job.paths.base / "input/data/validation").iterdir())
    shutil.copy(image, tmp_path / "image.jpg")
    support = str(Path(small_train.__file__).parent)
    program = f"import sys; sys.path.append({support!r})\nfrom small_learner import small_training\n"
    program += f"with small_training():\n{textwrap.indent(block, '    ')}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(40, 48) ")
    assert (tmp_path / "mask.png").exists()


def test_images_stay_the_same_in_each_epoch(finished: tuple[Any, str], new_job: Callable[..., Any]) -> None:
    """As in another training on the same files, with another seed and other batches."""
    other = new_job()
    other.configure(epochs="1", _seed="7", validation_mini_batch_size="1")
    code, log = other.run()
    assert code == 0, log
    fixed = [re.findall(r'class="name">([^<]+)<', report_of(job))[:4] for job in (finished[0], other)]
    assert fixed[0] == fixed[1]
    assert len(set(fixed[0])) == 4


def test_tensorboard_is_not_written_unless_it_is_asked_for(job: Any) -> None:
    job.configure(epochs="1")
    assert job.run()[0] == 0
    assert not (job.paths.output_data / "tensorboard").exists()


def test_a_stopped_training_has_a_report(job: Any) -> None:
    job.configure(epochs="50", _export_onnx="False")
    code, log = job.run_until("epoch: 1, train throughput")
    assert code == 0, log
    assert "Stopped on request after 1 of 50 epochs." in report_of(job)
    assert "Trained for 1 of 50 epochs, stopped on request." in (job.paths.model / "README.md").read_text()


def test_a_failed_training_has_a_report_with_the_reason(job: Any) -> None:
    """Here as its last parameters do not fit on the disk."""
    job.configure(epochs="3", _export_onnx="False")
    job.paths.model.mkdir(parents=True)
    with job.start(hold_at="epoch: 0, validation mIOU") as process:
        assert process.stdout
        next(line for line in process.stdout if "epoch: 0, validation mIOU" in line)
        (job.paths.model / ".model_algo-1.partial").symlink_to("/dev/full")
        process.send_signal(CONTINUE)
        process.communicate(timeout=60)
    assert process.returncode == 1
    body = report_of(job)
    assert "Failed after 3 of 3 epochs." in body
    assert f"The disk is full: no space is left in {job.paths.model}." in body
    assert not (job.paths.model / "README.md").exists()


def test_a_training_goes_on_without_a_report_that_cannot_be_written(job: Any) -> None:
    """Each epoch warns; the rest of output/data and the model are whole."""
    job.configure(epochs="2", _export_onnx="False")
    with job.start(hold_at="LRScheduler setup") as process:
        assert process.stdout
        log = ""
        for line in process.stdout:
            log += line
            if "LRScheduler setup" in line:
                break
        job.paths.output_data.mkdir(parents=True, exist_ok=True)
        (job.paths.output_data / ".report.html.partial").mkdir()
        process.send_signal(CONTINUE)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert rest.count("The training goes on, but report.html could not be written.") >= 2
    assert not (job.paths.output_data / "report.html").exists()
    assert len((job.paths.output_data / "metrics.jsonl").read_text().splitlines()) == 2
    assert (job.paths.model / "README.md").exists()


def test_a_killed_training_leaves_a_whole_report_and_goes_on_with_it(job: Any) -> None:
    config = {"S3Uri": "s3://bucket/checkpoints", "LocalPath": str(job.paths.base / "kept")}
    job.paths.checkpoint_config.write_text(json.dumps(config))
    job.configure(epochs="3", _export_onnx="False", _tensorboard="True")
    code, _ = job.run_until("epoch: 1, train throughput", signal.SIGKILL)
    assert code == -signal.SIGKILL
    body = report_of(job)
    assert "1 of 3 epochs are done." in body
    assert body.rstrip().endswith("</html>")
    code, log = job.run()
    assert code == 0, log
    assert [number for number, _ in epochs_of(report_of(job))] == ["1", "2", "3"]
    assert len(list((job.paths.output_data / "tensorboard").iterdir())) == 2
