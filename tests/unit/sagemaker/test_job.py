from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.label_map import parse_label_map
from semseg.data.loader import TrainingLoader
from semseg.data.pairs import list_pairs
from semseg.data.samples import Sampler
from semseg.data.shapes import write_shapes
from semseg.errors import DataError, DeviceMemoryError, SemsegError, Stopped
from semseg.sagemaker.job import run_job
from semseg.sagemaker.paths import Paths


def raising(error: BaseException) -> int:
    def job(stop: threading.Event) -> None:
        raise error

    return run_job(job, Paths(Path(os.environ["TREE"])))


@pytest.fixture
def failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the failure file in an empty tree."""
    monkeypatch.setenv("TREE", str(tmp_path))
    return Paths(tmp_path).failure


def test_a_job_that_ends_leaves_no_failure(failure: Path) -> None:
    failure.parent.mkdir()
    failure.write_text("of an earlier job")
    assert run_job(lambda _: None, Paths(failure.parents[1])) == 0
    assert not failure.exists()


def test_the_users_error_is_one_sentence(failure: Path) -> None:
    assert raising(DataError("cat.png is not an image.", "Remove it.")) == 1
    assert failure.read_text() == "ClientError: cat.png is not an image. Remove it."


def test_our_error_has_the_reason_first_then_the_traceback(failure: Path) -> None:
    assert raising(KeyError("lost")) == 2
    text = failure.read_text()
    assert text.startswith("AlgorithmError: KeyError: 'lost'\n\nTraceback")
    assert raising(SemsegError("broken")) == 2
    assert failure.read_text().startswith("AlgorithmError: broken\n\nTraceback")


def test_a_worker_of_the_loader_that_dies_ends_the_job_and_names_the_file(
    failure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are threads: all that can happen to one alone is an error, such as exhausted memory."""

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("semseg.data.samples.train_transform", fail)
    write_shapes(tmp_path, train=5, validation=1, size=(40, 40), seed=0)
    pairs = list_pairs("train", tmp_path / "train", tmp_path / "train_annotation").pairs
    sampler = Sampler(parse_label_map({"scale": 1}, 4, "map.json"), 24, 48, seed=0, workers=2)
    loader = TrainingLoader(pairs, sampler, batch_size=2, shuffle=False)

    def job(_: threading.Event) -> None:
        list(loader.epoch(0))

    assert run_job(job, Paths(failure.parents[1])) == 2
    assert failure.read_text().startswith("AlgorithmError: MemoryError: no room (while reading train/0000.jpg)\n\n")


def test_what_is_noted_on_an_error_stands_beside_the_reason(failure: Path) -> None:
    error = MemoryError("no room")
    error.add_note("while reading train/a.jpg")
    assert raising(error) == 2
    assert failure.read_text().startswith("AlgorithmError: MemoryError: no room (while reading train/a.jpg)\n\n")


def test_the_failure_stays_under_1024_characters(failure: Path) -> None:
    assert raising(DataError("ü" * 5000)) == 1
    assert len(failure.read_text()) == 1023


def test_problems_of_many_files_fit_into_the_failure_file(tmp_path: Path, failure: Path) -> None:
    """Forty masks have a label that is not a class."""
    write_shapes(tmp_path, train=40, validation=1, size=(16, 16), seed=0)
    for mask in (tmp_path / "train_annotation").iterdir():
        Image.new("L", (16, 16), 7).save(mask)
    listing = list_pairs("train", tmp_path / "train", tmp_path / "train_annotation")
    report = check([(listing, parse_label_map({"scale": 1}, 4, "map.json"))], workers=1)

    def job(_: threading.Event) -> None:
        report.raise_problems()

    assert run_job(job, Paths(failure.parents[1])) == 1
    text = failure.read_text()
    assert text.startswith("ClientError: 40 problems in the data:\ntrain_annotation/0000.png: pixel values 7 are not")
    assert "39 more like this: train_annotation/0001.png, " in text
    assert text.endswith("Give a label map that says what they are, or train with a higher num_classes.")


def test_a_long_message_keeps_the_end_of_the_traceback(failure: Path) -> None:
    assert raising(KeyError("lost" * 150)) == 2
    text = failure.read_text()
    assert text.startswith("AlgorithmError: KeyError: 'lostlost")
    assert text.endswith("lostlost'\n")


def test_too_small_a_gpu_is_the_user_s_to_mend(failure: Path) -> None:
    assert raising(DeviceMemoryError("The GPU's memory is too small.", "Lower mini_batch_size.")) == 1
    assert failure.read_text() == "ClientError: The GPU's memory is too small. Lower mini_batch_size."


def test_what_nothing_can_write_is_escaped(failure: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Lone surrogates come from file names that are not UTF-8, and from JSON."""
    assert raising(DataError("caf\udce9.png is not an image.")) == 1
    assert failure.read_text() == "ClientError: caf\\udce9.png is not an image."
    assert raising(KeyError("\ud800")) == 2
    assert failure.read_text().startswith("AlgorithmError: KeyError: '\\ud800'\n\nTraceback")
    assert "Logging error" not in capfd.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_as_the_cause(failure: Path, number: int) -> None:
    assert raising(OSError(number, "No space left on device", "/opt/ml/model/x")) == 1
    assert failure.read_text().startswith("ClientError: The disk is full: no space is left in /opt/ml/model/x.")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restores the signal handlers, which a job does not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGTERM] * 2, [signal.SIGINT], [signal.SIGHUP]])
def test_a_signal_sets_the_event_and_ends_well(failure: Path, numbers: list[signal.Signals]) -> None:
    def job(stop: threading.Event) -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
            assert stop.wait(10)

    assert run_job(job, Paths(failure.parents[1])) == 0
    os.kill(os.getpid(), signal.SIGTERM)  # the process is on its way out, with all that it was to save
    assert not failure.exists()


@pytest.mark.usefixtures("handlers")
def test_a_job_that_ignores_the_end_of_its_terminal_goes_on(tmp_path: Path) -> None:
    """As `nohup` starts it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def job(stop: threading.Event) -> None:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set()

    assert run_job(job, Paths(tmp_path)) == 0


def test_a_second_ctrl_c_ends_the_process_at_once(tmp_path: Path) -> None:
    program = """if True:
        import signal, sys
        from pathlib import Path
        from semseg.sagemaker.job import run_job
        from semseg.sagemaker.paths import Paths

        def job(stop):
            signal.raise_signal(signal.SIGINT)
            print("stopping" if stop.is_set() else "deaf", flush=True)
            signal.raise_signal(signal.SIGINT)

        run_job(job, Paths(Path(sys.argv[1])))
    """
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "stopping\n", "")


DYING = """if True:
    import os, signal, sys
    from pathlib import Path
    from semseg.sagemaker.job import run_job
    from semseg.sagemaker.log_lines import LOGGER, set_up_logging
    from semseg.sagemaker.paths import Paths

    def job(stop):
        LOGGER.info("the last words")
        os.kill(os.getpid(), int(sys.argv[2]))

    set_up_logging()
    sys.exit(run_job(job, Paths(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_leaves_a_failure_and_its_log(failure: Path, number: signal.Signals) -> None:
    """As by std::terminate in a library's thread or by the kernel when memory runs out: no handler runs."""
    failure.parent.mkdir()
    failure.write_text("of an earlier job")
    command = [sys.executable, "-c", DYING, str(failure.parents[1]), str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -number
    assert ended.stdout.endswith("the last words\n")
    assert failure.read_text().startswith(
        "AlgorithmError: The training process died without reporting a reason: it was "
    )


def test_a_process_that_is_stopped_leaves_none(failure: Path) -> None:
    command = [sys.executable, "-c", DYING, str(failure.parents[1]), str(int(signal.SIGTERM))]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).returncode == 0
    assert not failure.exists()


def test_a_stop_with_nothing_to_save_is_no_failure(failure: Path) -> None:
    assert raising(Stopped()) == 0
    assert not failure.exists()


def test_a_stop_may_say_what_became_of_the_model(failure: Path, caplog: pytest.LogCaptureFixture) -> None:
    for stopped, said in (
        (Stopped(), "Stopped before the first training step: there is no model to save."),
        (Stopped("The earlier model stays."), "The earlier model stays."),
    ):
        caplog.clear()
        assert raising(stopped) == 0
        assert caplog.messages == [said]


def test_an_unwritable_failure_file_keeps_the_exit_code(failure: Path) -> None:
    failure.parent.write_text("a file where the directory should be")
    assert raising(DataError("x")) == 1
