"""Where uploads, presets and the token cache lie: a flag before the variable, the variable before `data`."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_hub.data.cache import default_cache_dir
from moe_hub.data.folder import DATA_VARIABLE, data_dir, use_data_dir


@pytest.mark.parametrize(
    ("flag", "variable", "chosen"),
    [(None, None, "data"), (None, "shared", "shared"), ("own", "shared", "own"), ("own", None, "own")],
)
def test_the_flag_goes_before_the_variable(
    flag: str | None, variable: str | None, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    if variable:
        monkeypatch.setenv(DATA_VARIABLE, variable)
    assert use_data_dir(Path(flag) if flag else None) == Path(chosen)
    assert data_dir() == tmp_path / chosen  # for what is started from here, wherever that changes to
    assert default_cache_dir() == tmp_path / chosen / "cache"
