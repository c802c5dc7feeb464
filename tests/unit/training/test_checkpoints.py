from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed import Killed

from semseg.codecs.params import read_params, write_params
from semseg.errors import DiskFullError, HyperparameterError, UserError
from semseg.files import replacing
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Event
from semseg.sagemaker.hyperparameters import rules
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.sagemaker.rules import Rule
from semseg.training.checkpoints import LOCATION_PREFIX, Checkpoints, checkpoint_files, remove
from semseg.training.loop import Fit
from semseg.training.progress import BEGINNING, Progress
from semseg.types import Batch

CONFIGURATION = {"optimizer": "sgd", "epochs": "3", "_workers": "16"}
STATE = {"parameter/w": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/updates": np.array([7])}
ENDED = EpochEnded(
    EpochTrained(0, 3, 1.5, 0.001, 9.0, 0.0), EpochValidated(0, 1.5, 0.9, 0.5, None, [0.5, None], 8.0), 3, True
)
AFTER_EPOCH = Progress((ENDED,))


def within_epoch(iteration: int) -> Progress:
    return Progress((ENDED,), iteration, 4 * iteration, 1.5, 2.5)


@pytest.fixture
def best(tmp_path: Path) -> Path:
    """A file with the best parameters."""
    path = tmp_path / "model_best.params"
    path.write_bytes(b"the best")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "opt/checkpoints"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_there_is_none_at_first(directory: Path) -> None:
    assert Checkpoints(directory, CONFIGURATION).newest() is None


def test_a_checkpoint_comes_back_whole(directory: Path, best: Path) -> None:
    Checkpoints(directory, CONFIGURATION).save(within_epoch(20), STATE, best)
    assert names(directory) == ["checkpoint-0001-000020.params"]
    found = Checkpoints(directory, CONFIGURATION).newest()
    assert found
    assert found.progress == within_epoch(20)
    assert found.state.keys() == STATE.keys()
    for name, array in STATE.items():
        np.testing.assert_array_equal(found.state[name], array)
    assert bytes(found.best) == b"the best"
    found.write_best(best.with_name("again"))
    assert best.with_name("again").read_bytes() == b"the best"


def test_before_the_first_epoch_has_ended_there_is_no_best_file(directory: Path, best: Path) -> None:
    """The model directory then holds an earlier run's file."""
    Checkpoints(directory, CONFIGURATION).save(Progress(iteration=2, samples=8), STATE, best)
    found = Checkpoints(directory, CONFIGURATION).newest()
    assert found
    assert not found.best


def test_the_last_three_are_kept_and_the_newest_is_taken(directory: Path, best: Path) -> None:
    checkpoints = Checkpoints(directory, CONFIGURATION)
    for iteration in (1, 2, 1_000_000, 9):
        checkpoints.save(within_epoch(iteration), STATE, best)
    assert names(directory) == [
        "checkpoint-0001-000002.params",
        "checkpoint-0001-000009.params",
        "checkpoint-0001-1000000.params",
    ]
    found = checkpoints.newest()
    assert found
    assert found.progress.iteration == 1_000_000


def test_the_platforms_marks_are_no_checkpoints_and_what_it_uploads_stays(directory: Path, best: Path) -> None:
    checkpoints = Checkpoints(directory, CONFIGURATION)
    for iteration in range(1, 6):
        checkpoints.save(within_epoch(iteration), STATE, best)
        path = directory / f"checkpoint-0001-{iteration:06}.params"
        path.with_name(f"{path.name}.sagemaker-uploading").touch()
        if iteration != 2:
            path.with_name(f"{path.name}.sagemaker-uploaded").touch()
    kept = [name for name in names(directory) if name.endswith(".params")]
    assert kept == [f"checkpoint-0001-00000{number}.params" for number in (2, 3, 4, 5)]
    found = checkpoints.newest()
    assert found
    assert found.progress.iteration == 5


def test_what_a_killed_run_left_unfinished_goes(directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in ("checkpoint-0001-000003.params.sagemaker-ignore", "mine.sagemaker-ignore", "notes.txt"):
        (directory / name).write_text("half")
    assert Checkpoints(directory, CONFIGURATION).newest() is None
    assert names(directory) == ["mine.sagemaker-ignore", "notes.txt"]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(5).tobytes()) + 1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def take_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def forge(path: Path) -> None:
    """A valid parameter file that is not a checkpoint."""
    write_params(path, {"progress": np.zeros(3, np.uint8)})


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty, take_a_folder, forge])
def test_a_damaged_one_is_skipped_with_a_warning(
    directory: Path, best: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(directory, CONFIGURATION)
    checkpoints.save(AFTER_EPOCH, STATE, best)
    checkpoints.save(within_epoch(4), STATE, best)
    damaged = directory / "checkpoint-0001-000004.params"
    damage(damaged)
    found = checkpoints.newest()
    assert found
    assert found.progress == AFTER_EPOCH
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith(f"The checkpoint is skipped: {damaged}")


def test_damaged_ones_take_no_sound_ones_place(directory: Path, best: Path) -> None:
    earlier = Checkpoints(directory, CONFIGURATION)
    for iteration in (40, 50, 60):
        earlier.save(within_epoch(iteration), STATE, best)
        cut_short(directory / f"checkpoint-0001-{iteration:06}.params")
    checkpoints = Checkpoints(directory, CONFIGURATION)
    assert checkpoints.newest() is None
    for iteration, sound, damaged in ((1, [1], [50, 60]), (2, [1, 2], [60]), (3, [1, 2, 3], []), (60, [2, 3, 60], [])):
        checkpoints.save(within_epoch(iteration), STATE, best)
        kept = [f"checkpoint-0001-{number:06}.params" for number in sorted(sound + damaged)]
        assert names(directory) == kept
        found = Checkpoints(directory, CONFIGURATION).newest()
        assert found
        assert found.progress.iteration == sound[-1]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_only_what_is_declared_so_may_differ_and_is_logged(
    directory: Path, best: Path, rule: Rule, caplog: pytest.LogCaptureFixture
) -> None:
    name = rule.name
    configuration = CONFIGURATION | {"lr_scheduler": "step"}
    Checkpoints(directory, configuration | {name: "1"}).save(AFTER_EPOCH, STATE, best)
    later = Checkpoints(directory, configuration | {name: "2"})
    if rule.may_differ:
        with caplog.at_level("INFO", logger="semseg"):
            assert later.newest()
        assert f"{name} was 1 before the checkpoint, now it is 2." in caplog.messages
    else:
        with pytest.raises(HyperparameterError, match=f"{name} was 1, now it is 2"):
            later.newest()


def test_a_checkpoint_of_before_there_was_a_device_to_choose_is_gone_on_with(directory: Path, best: Path) -> None:
    Checkpoints(directory, CONFIGURATION).save(AFTER_EPOCH, STATE, best)
    assert Checkpoints(directory, CONFIGURATION | {"_device": "auto"}).newest()


def test_another_configuration_is_refused_with_the_differences(directory: Path, best: Path) -> None:
    Checkpoints(directory, CONFIGURATION | {"base_size": "520"}).save(AFTER_EPOCH, STATE, best)
    with pytest.raises(
        HyperparameterError,
        match=r"checkpoint-0001-000000\.params belongs to another training: base_size was 520, now it is not set; "
        r"optimizer was sgd, now it is adam\. .*empty checkpoint location",
    ):
        Checkpoints(directory, {"optimizer": "adam", "epochs": "9"}).newest()


def test_the_way_out_may_be_another(directory: Path, best: Path) -> None:
    Checkpoints(directory, CONFIGURATION).save(AFTER_EPOCH, STATE, best)
    with pytest.raises(HyperparameterError, match=r"Restore these values to resume it, or start elsewhere\.$"):
        Checkpoints(directory, CONFIGURATION | {"optimizer": "adam"}, mismatch_hint="start elsewhere").newest()


def test_begun_anew_the_earlier_ones_stay_until_there_is_another(
    directory: Path, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their configuration, and even if they are further on."""
    earlier = Checkpoints(directory, CONFIGURATION | {"optimizer": "adam"})
    for iteration in (4, 5):
        earlier.save(within_epoch(iteration), STATE, best)
    checkpoints = Checkpoints(directory, CONFIGURATION, overwrite=True)
    assert checkpoints.newest() is None
    with monkeypatch.context() as patch:
        patch.setattr("semseg.training.checkpoints.write_params", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoints.save(Progress(iteration=1), STATE, best)
    assert names(directory) == ["checkpoint-0001-000004.params", "checkpoint-0001-000005.params"]
    for iteration in (1, 2):
        checkpoints.save(Progress(iteration=iteration), STATE, best)
    assert names(directory) == ["checkpoint-0000-000001.params", "checkpoint-0000-000002.params"]
    assert Checkpoints(directory, CONFIGURATION).newest()


def test_a_removal_that_is_killed_leaves_the_newest(directory: Path, best: Path, monkeypatch: Any) -> None:
    checkpoints = Checkpoints(directory, CONFIGURATION)
    for iteration in (1, 2, 3):
        checkpoints.save(within_epoch(iteration), STATE, best)
    files = checkpoint_files(directory)
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            remove(files)
    assert checkpoint_files(directory) == files[:2]
    remove(files)
    assert checkpoint_files(directory) == []
    assert checkpoint_files(directory / "absent") == []


def test_a_full_disk_leaves_the_earlier_ones_and_nothing_unfinished(directory: Path, best: Path) -> None:
    checkpoints = Checkpoints(directory, CONFIGURATION)
    checkpoints.save(AFTER_EPOCH, STATE, best)
    (directory / "checkpoint-0001-000004.params.sagemaker-ignore").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=f"no space is left in {directory}"):
        checkpoints.save(within_epoch(4), STATE, best)
    assert names(directory) == ["checkpoint-0001-000000.params"]
    assert checkpoints.newest()


def test_a_directory_that_cannot_be_used_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below", Path("/proc/checkpoints"), Path("/proc")):
        with pytest.raises(UserError, match=f"Checkpoints cannot be kept in {path}: .* LocalPath"):
            Checkpoints(path, CONFIGURATION)


# A run that is killed


@dataclass(frozen=True)
class Noise:
    """Batches of random images, which depend only on the epoch and the position."""

    seekable: bool = True

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        for iteration in range(done, self.iterations(epoch)):
            rng = np.random.default_rng((epoch, iteration))
            images = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
            yield Batch(images, (images[..., 0] // 100).astype(np.uint8))

    def iterations(self, epoch: int = 0) -> int:
        return 4 + epoch % 2


@dataclass
class Job:
    """A run that is killed at its n-th event: a step, an epoch's end, a half-written file."""

    directory: Path
    learner: Any
    kill_at: int = -1
    moments: int = 0

    def run(self) -> tuple[Event, ...]:
        """Runs to the end from the newest checkpoint; returns the epochs without their speeds."""
        self.directory.mkdir(exist_ok=True)
        best = self.directory / "model_best.params"
        checkpoints = Checkpoints(self.directory / "checkpoints", CONFIGURATION)
        newest = checkpoints.newest()
        if newest:
            self.learner.restore(newest.state, str(newest.path))
        if newest and newest.best:
            newest.write_best(best)
        ended = list(newest.progress.ended) if newest else []

        def emit(event: Event) -> None:
            self.moment()
            if isinstance(event, EpochEnded):
                ended.append(event)

        def keep_best() -> None:
            with replacing(best) as temporary:
                write_params(temporary, self.learner.parameters())
                self.moment()

        def keep(progress: Progress) -> None:
            if progress.iteration % 3 != 1:  # so that some restarts have several steps to make again
                checkpoints.save(progress, self.learner.state(), best)

        Fit(
            learner=self.learner,
            training=Noise(),
            validation=Noise(),
            schedule=lambda update: 0.1 / update,
            epochs=3,
            num_classes=3,
            seed=5,
            early_stopping=None,
            keep_best=keep_best,
            emit=emit,
            checkpoint=keep,
            checkpoint_seconds=0,
        ).run(threading.Event(), newest.progress if newest else BEGINNING)
        return tuple(map(without_speeds, ended))

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.kill_at:
            raise Killed


def without_speeds(epoch: Any) -> Any:
    values = epoch.trained, epoch.validated
    return [
        {name: value for name, value in vars(half).items() if name not in ("samples_per_second", "waiting")}
        for half in values
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_run_ends_as_one_never_killed_bit_for_bit(
    tiny_learner: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Killed four times in a row, including restarts, and while a checkpoint is half written."""
    straight = Job(tmp_path / "straight", tiny_learner(optimizer))
    expected = straight.run()
    rng, runs = random.Random(optimizer), 0
    for runs in itertools.count(1):
        job = Job(tmp_path / "killed", tiny_learner(optimizer, seed=runs - 1), rng.randint(4, 15) if runs < 5 else -1)

        def write(path: Path, arrays: Any, job: Job = job) -> None:
            path.write_bytes(b"half")
            job.moment()
            write_params(path, arrays)

        monkeypatch.setattr("semseg.training.checkpoints.write_params", write)
        (tmp_path / "killed/model_best.params").unlink(missing_ok=True)  # a new container has an empty model directory
        try:
            found = job.run()
            break
        except Killed:
            continue
    assert runs > 3
    assert found == expected
    for name, array in straight.learner.state().items():
        np.testing.assert_array_equal(job.learner.state()[name], array, err_msg=name)
    best = [read_params(tmp_path / run / "model_best.params") for run in ("straight", "killed")]
    assert all(np.array_equal(best[1][name], array) for name, array in best[0].items())


def test_checkpoints_of_version_0_1_0_are_gone_on_from(directory: Path, best: Path) -> None:
    """They store steps that no schedule used, but no data locations."""
    earlier = CONFIGURATION | {"lr_scheduler": "poly", "lr_scheduler_step": "10, 20"}
    Checkpoints(directory, earlier).save(AFTER_EPOCH, STATE, best)
    assert Checkpoints(directory, CONFIGURATION | {"lr_scheduler": "poly", f"{LOCATION_PREFIX}train": "/data"}).newest()


def test_data_in_another_place_is_another_training(directory: Path, best: Path) -> None:
    """With the same file names, but perhaps other content."""
    Checkpoints(directory, CONFIGURATION | {f"{LOCATION_PREFIX}train": "/v1"}).save(AFTER_EPOCH, STATE, best)
    with pytest.raises(HyperparameterError, match="the place of train was /v1, now it is /v2"):
        Checkpoints(directory, CONFIGURATION | {f"{LOCATION_PREFIX}train": "/v2"}).newest()
