from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from semseg.cli import jobs
from semseg.cli.options import given_channels, given_hyperparameters
from semseg.cli.parser import Parser
from semseg.errors import UserError

TOML = """
train = "images"
train-annotation = "masks"
split = 0.25
num_classes = 4
crop_size = 64
_seed = 7
early_stopping = true
class_weights = [0.5, 1, 1, 25]
overwrite = true
job = "here"
"""


def parsed(
    tmp_path: Path, text: str, *words: str, name: str = "job.toml", command: str = "train"
) -> argparse.Namespace:
    path = tmp_path / name
    path.write_text(text)
    parser = Parser(prog="semseg")
    commands = parser.add_subparsers()
    jobs.add_train(commands)
    jobs.add_check(commands)
    return parser.parse_args([command, *words[:1], "--config", str(path), *words[1:]])


def test_options_come_from_a_file_unless_the_command_line_has_them(tmp_path: Path) -> None:
    found = parsed(tmp_path, TOML, "--crop-size=80", "--num-classes=5")
    assert given_channels(found) == {"train": "images", "train_annotation": "masks"}
    assert given_hyperparameters(found) == {
        "num_classes": "5",
        "crop_size": "80",
        "_seed": "7",
        "early_stopping": "True",
        "_class_weights": "0.5, 1, 1, 25",
    }
    assert (found.split, found.overwrite, found.job, found.no_checkpoints) == (0.25, True, Path("here"), False)


def test_a_job_that_sagemaker_would_run_is_a_file_of_options(tmp_path: Path) -> None:
    text = json.dumps({"num_classes": "4", "_aux_loss": "True", "lr_scheduler_step": "10, 20", "learning_rate": -1})
    found = parsed(tmp_path, text, name="hyperparameters.json", command="check")
    assert given_hyperparameters(found) == {
        "num_classes": "4",
        "_aux_loss": "True",
        "lr_scheduler_step": "10, 20",
        "learning_rate": "-1",
    }


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("crop_sise = 3", "a.toml", "a.toml: there is no option 'crop_sise'. Did you mean crop_size?"),
        ("config = 'other.toml'", "a.toml", "there is no option 'config'"),
        ("run = 'x'", "a.toml", "there is no option 'run'"),
        ("num_classes 4", "a.toml", "a.toml is not valid TOML: "),
        ("{'a': 1}", "a.json", "a.json is not valid JSON: "),
        ("[1]", "a.json", "a.json must hold an object of options, not a list."),
        (100_000 * "[", "a.json", "a.json is not valid JSON: "),
        ("[num_classes]\na = 4", "a.toml", "num_classes must be text, a number, true or false, not a dict."),
        ('{"num_classes": null}', "a.json", "num_classes must be text, a number, true or false, not a NoneType."),
        (1_000_001 * " ", "a.toml", "a.toml has more than 1000000 bytes."),
    ],
)
def test_what_is_no_option_is_refused_with_the_files_name(text: str, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        parsed(tmp_path, text, name=name)
    assert said in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.toml: No such file or directory."):
        parsed(tmp_path, "", "--crop-size=8", f"--config={tmp_path / 'absent.toml'}")


def test_a_value_that_is_not_valid_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(tmp_path, "split = 20")
    assert "argument --split: '20' is not valid" in capsys.readouterr().err
