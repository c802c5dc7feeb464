from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from semseg.data.local_job import lay_out
from semseg.data.s3 import ObjectStore
from semseg.errors import JobFolderError, UserError
from semseg.sagemaker.paths import Paths
from semseg.training.folder_lock import LOCK, locked
from semseg.training.job_folder import JobFolder, TrainCommand, job_folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the commands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


COMMAND = TrainCommand({"train": "data"}, {"num_classes": "4"})
IN_JOB = replace(COMMAND, job=Path("job"))


def taken(command: TrainCommand) -> JobFolder:
    with job_folder(command) as folder:
        return folder


def begin(command: TrainCommand, checkpoint: str | None = "0000-000003", model: bool = False) -> JobFolder:
    """Leaves what a killed training leaves."""
    with job_folder(command) as folder:
        with ObjectStore() as store:
            lay_out(folder.paths, command.channels, command.hyperparameters, store, folder.checkpoints)
        if checkpoint:
            save(folder, checkpoint)
        if model:
            have_model(folder.paths.base)
    return folder


def save(folder: JobFolder, checkpoint: str) -> None:
    assert folder.checkpoints
    (folder.checkpoints / f"checkpoint-{checkpoint}.params").write_text("progress")


def have_model(folder: Path, name: str = "model_algo-1") -> None:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / name).write_text("trained")


def finish(command: TrainCommand) -> JobFolder:
    folder = begin(command, model=True)
    folder.finish()
    return folder


@pytest.mark.parametrize("name", ["model_best.params", "model_algo-1", "model.onnx", "model_int8.onnx"])
def test_a_model_is_not_replaced_without_overwrite(name: str) -> None:
    have_model(Path("job"), name)
    with pytest.raises(JobFolderError, match=rf"^job holds a trained model \({name} in job/model\)\. Give --overwrite"):
        taken(IN_JOB)
    assert sorted(path.name for path in Path("job").iterdir()) == [LOCK, "model"]
    folder = taken(replace(IN_JOB, overwrite=True))
    assert (folder.paths.base, folder.overwrite) == (Path("job"), True)


def test_a_folder_with_other_files_is_taken() -> None:
    Path("job/model").mkdir(parents=True)
    Path("job/model/notes.txt").touch()
    Path("job/checkpoints").mkdir()
    Path("job/checkpoints/epoch3.pt").touch()
    folder = finish(IN_JOB)
    assert Path("job/checkpoints/epoch3.pt").exists()
    assert not folder.overwrite


def test_an_unfinished_training_goes_on_with_or_without_a_model() -> None:
    assert taken(IN_JOB).checkpoints == Path("job/checkpoints")
    for model in (False, True):
        begin(IN_JOB, model=model)
        folder = taken(IN_JOB)
        assert folder.has_progress()
        assert not folder.overwrite


def test_it_goes_on_where_the_folder_was_moved_to() -> None:
    begin(IN_JOB, model=True)
    Path("job").rename("moved")
    assert taken(replace(COMMAND, job=Path("moved"))).has_progress()


def test_it_goes_on_from_the_checkpoints_that_the_folder_remembers() -> None:
    elsewhere = replace(IN_JOB, checkpoints=Path("kept here"))
    begin(elsewhere, model=True)
    assert taken(elsewhere).checkpoints == Path("kept here")
    folder = taken(IN_JOB)
    assert folder.checkpoints == Path("kept here").resolve()
    assert folder.has_progress()


def test_when_it_is_finished_its_checkpoints_go_from_wherever_they_were() -> None:
    begin(IN_JOB)
    elsewhere = replace(IN_JOB, checkpoints=Path("kept here"), overwrite=True)
    folder = finish(elsewhere)
    assert not folder.has_progress()
    assert [path.name for path in Path("kept here").iterdir()] == [LOCK]
    assert not list(Path("job/checkpoints").glob("*.params"))  # those of the training that was given up
    with pytest.raises(JobFolderError, match="holds a trained model"):
        taken(replace(elsewhere, overwrite=False))


def test_checkpoints_that_another_training_uses_by_now_stay() -> None:
    begin(IN_JOB)
    folder = begin(replace(IN_JOB, checkpoints=Path("kept here"), overwrite=True))
    with locked(Path("job/checkpoints"), "--checkpoints"):
        folder.finish()
    assert len(list(Path("job/checkpoints").glob("*.params"))) == 1


def test_replaced_checkpoints_go_once_there_is_a_model_in_place_of_theirs() -> None:
    """Otherwise the next start would resume from them, and replace the new model by theirs."""
    for name, keep in (("one", True), ("two", False)):
        command = replace(COMMAND, job=Path(name))
        begin(command, model=True)
        folder = taken(replace(command, overwrite=True, keep_checkpoints=keep))
        assert len(list(Path(name).glob("checkpoints/*.params"))) == 1
        folder.drop_replaced()
        assert not list(Path(name).glob("checkpoints/*.params"))


def test_overwriting_spares_the_checkpoints_of_another_folder_s_training(caplog: pytest.LogCaptureFixture) -> None:
    begin(replace(COMMAND, job=Path("other"), checkpoints=Path("others")))
    with pytest.raises(JobFolderError, match="others holds the checkpoints of another training"):
        taken(replace(IN_JOB, checkpoints=Path("others"), overwrite=True))
    begin(IN_JOB)
    assert taken(replace(IN_JOB, overwrite=True)).overwrite
    assert "An unfinished training is replaced: its newest checkpoint is job/checkpoints/" in caplog.text


def test_a_training_is_not_left_behind_for_another_folder_s_checkpoints() -> None:
    begin(replace(COMMAND, job=Path("other"), checkpoints=Path("others")))
    begin(IN_JOB)
    with pytest.raises(JobFolderError, match="job holds an unfinished training"):
        taken(replace(IN_JOB, checkpoints=Path("others")))


def test_checkpoints_may_lie_in_the_folder_itself() -> None:
    assert taken(replace(IN_JOB, checkpoints=Path("job"))).checkpoints == Path("job")


def test_checkpoints_of_another_folder_s_training_do_not_replace_a_model() -> None:
    finish(IN_JOB)
    begin(replace(COMMAND, job=Path("other"), checkpoints=Path("others")))
    with pytest.raises(JobFolderError, match="job holds a trained model"):
        taken(replace(IN_JOB, checkpoints=Path("others")))
    assert taken(replace(COMMAND, job=Path("third"), checkpoints=Path("others"))).has_progress()


@pytest.mark.parametrize("elsewhere", [{"checkpoints": Path("empty")}, {"keep_checkpoints": False}])
def test_an_unfinished_training_is_not_started_anew_without_overwrite(elsewhere: dict[str, Path]) -> None:
    begin(IN_JOB)
    command = replace(IN_JOB, **elsewhere)  # type: ignore[arg-type]
    with pytest.raises(JobFolderError, match="job holds an unfinished training, with its checkpoints in job/checkpoin"):
        taken(command)
    assert not taken(replace(command, overwrite=True)).has_progress()


def test_a_new_training_has_no_progress_before_it_saved_its_own() -> None:
    begin(IN_JOB)
    command = replace(IN_JOB, overwrite=True)
    folder = begin(command, checkpoint=None)
    assert folder.overwrite
    assert not folder.has_progress()
    assert taken(IN_JOB).has_progress()  # nothing has replaced what there was
    folder = begin(command, "0000-000001")
    assert folder.has_progress()


def test_without_checkpoints_there_is_no_place_for_them() -> None:
    folder = begin(replace(IN_JOB, keep_checkpoints=False), checkpoint=None)
    assert folder.checkpoints is None
    assert not folder.paths.checkpoints.exists()
    folder.finish()


def test_the_default_folder_counts_up_from_what_holds_a_model() -> None:
    assert [finish(COMMAND).paths.base.name for _ in range(3)] == ["job", "job-2", "job-3"]
    assert begin(COMMAND, checkpoint=None).paths.base.name == "job-4"
    assert finish(COMMAND).paths.base.name == "job-4"  # nothing was trained there
    assert taken(replace(COMMAND, overwrite=True)).paths.base.name == "job"


def test_the_default_folder_is_that_of_the_same_unfinished_training() -> None:
    other = replace(COMMAND, hyperparameters={"num_classes": "5"})
    begin(COMMAND, model=True)
    assert begin(other).paths.base.name == "job-2"
    assert finish(replace(COMMAND, channels={"train": "data/../data/."}, job=Path("job-3"))).paths.base.name == "job-3"
    assert [taken(command).paths.base.name for command in (COMMAND, other)] == ["job", "job-2"]
    finish(COMMAND)
    assert taken(COMMAND).paths.base.name == "job-4"


def test_names_that_only_look_like_default_ones_do_not_count() -> None:
    for name in ("job-1", "job-02", "job-x", "job-2-old", "jobs"):
        have_model(Path(name))
    assert taken(COMMAND).paths.base.name == "job"


@pytest.mark.parametrize("kind", ["a job of the platform's", "a file", "a damaged record"])
def test_a_default_name_that_is_taken_otherwise_is_passed_over(kind: str) -> None:
    if kind == "a file":
        Path("job").touch()
    else:
        config = Path("job/input/config")
        config.mkdir(parents=True)
        (config / "checkpointconfig.json").write_text("[]" if kind == "a damaged record" else "{}")
    assert taken(COMMAND).paths.base.name == "job-2"


def test_a_folder_in_use_is_refused_by_name_and_passed_over_by_default() -> None:
    with ExitStack() as stack:
        folders = [stack.enter_context(job_folder(COMMAND)).paths.base.name for _ in range(3)]
        assert folders == ["job", "job-2", "job-3"]
        with pytest.raises(JobFolderError, match="job-2 is in use by another training"):
            taken(replace(COMMAND, job=Path("job-2")))
    assert taken(COMMAND).paths.base.name == "job-3"


def test_checkpoints_in_use_are_refused_and_the_folder_is_free_again() -> None:
    for command in (replace(COMMAND, checkpoints=Path("kept")), replace(IN_JOB, checkpoints=Path("kept"))):
        with (
            locked(Path("kept"), "--checkpoints"),
            pytest.raises(JobFolderError, match=r"^kept is in use .*name another folder with --checkpoints"),
        ):
            taken(command)
        assert taken(command).paths.base.name == "job"


def test_a_folder_that_cannot_be_used_is_no_reason_to_count_on(here: Path) -> None:
    (here / "checkpoints").touch()
    with pytest.raises(UserError, match=r"The folder checkpoints cannot be used: .*Name another with --checkpoints"):
        taken(replace(COMMAND, checkpoints=Path("checkpoints")))


def test_of_a_refused_folder_the_lock_is_free() -> None:
    have_model(Path("job"))
    for _ in itertools.repeat(None, 2):
        with pytest.raises(JobFolderError, match="holds a trained model"):
            taken(IN_JOB)
    with locked(Path("job"), "--job"):
        pass


def test_the_way_out_names_the_folder() -> None:
    assert taken(IN_JOB).mismatch_hint.startswith("give --job job --overwrite to start a new training")
    assert Paths(Path("job")).checkpoints == Path("job/checkpoints")
