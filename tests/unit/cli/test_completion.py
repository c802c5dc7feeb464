from __future__ import annotations

import shutil
import subprocess

import pytest

from semseg.cli import main
from semseg.codecs.palettes import NAMES
from semseg.networks.definitions import NETWORKS
from semseg.offline.model import PALETTES


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last of the words on a command line."""
    line = " ".join(f"'{word}'" for word in words)
    program = f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n_semseg\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def test_commands_options_and_words_are_completed(script: str) -> None:
    assert completed(script, "semseg", "tr") == ["train"]
    assert {"train", "check", "browse", "completion"} <= set(completed(script, "semseg", ""))
    assert completed(script, "semseg", "train", "--crop") == ["--crop-size"]
    assert completed(script, "semseg", "check", "--wri") == ["--write-label-map"]
    assert completed(script, "semseg", "train", "--algorithm", "") == [one.name for one in NETWORKS]
    assert completed(script, "semseg", "train", "--early-stopping", "T") == ["True"]
    assert completed(script, "semseg", "overlay", "--palette", "") == list(NAMES)
    assert completed(script, "semseg", "predict", "--palette", "") == list(PALETTES)


def test_files_are_left_to_the_shell(script: str) -> None:
    assert completed(script, "semseg", "train", "--train", "") == []
    assert completed(script, "semseg", "serve", "") == []
    assert "complete -o default -F _semseg semseg" in script


def test_zsh_takes_the_same(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    in_zsh = capsys.readouterr().out
    assert in_zsh.endswith(script)
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-f", "-c", f"{in_zsh}\nwhich _semseg"], check=True, capture_output=True, timeout=60)
    with pytest.raises(SystemExit):
        main(["completion", "fish"])
    assert "'fish' is not valid: it must be bash or zsh." in capsys.readouterr().err
