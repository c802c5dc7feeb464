from __future__ import annotations

from pathlib import Path

import pytest

from semseg.artifact.model_dir import describe
from semseg.engines.gluon.engine import MxnetEngine
from semseg.errors import UserError
from semseg.exporting.symbol import write_symbol


def test_without_mxnet_the_error_says_how_to_install_it(
    small_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MxnetEngine, "is_installed", lambda _: False)
    with pytest.raises(UserError, match=r"^MXNet, which writes the symbol, is not installed\. Install it: pip install"):
        write_symbol(describe(small_dir), tmp_path / "model-symbol.json")
    assert not (tmp_path / "model-symbol.json").exists()
