"""The example of a method of your own: it runs, learns and is evaluated like the others."""

import re
from pathlib import Path

import numpy as np
import pytest
from sources import ROOT
from watched_runs import configuration, running

from cli.main import main
from common.errors import SetupError
from common.files import read_lines
from common.run_folder import RunFolder
from evaluator.scenarios import require_bots, scenario
from methods import METHODS


@pytest.fixture
def past_selves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example method of the documentation, under a name."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/methods.md").read_text(), re.DOTALL)[0]
    assert len(code.splitlines()) <= 60
    (tmp_path / "past_selves.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(METHODS, "past-selves", "past_selves:PastSelves")


@pytest.mark.usefixtures("past_selves")
def test_the_example_method_of_the_documentation_works(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path / "mine", "past-selves", "method.every=2", "method.most=3")
    assert config.method.model_dump() == {"name": "past-selves", "every": 2, "past_probability": 0.5, "most": 3}
    with running(config, redis_url) as serial:
        for _ in range(12):
            serial.update()
        assert sorted(serial.store.pool().items()) == [("pool:10", 10.0), ("pool:12", 12.0), ("pool:8", 8.0)]
        v = np.array([unroll.header.learning for unroll in serial.unrolls[-48:]])
        assert v.any(1).all()
        # One of three always learns, the other two each with probability 1/2.
        assert v.mean() == pytest.approx(2 / 3, abs=0.15)
        assert serial.store.ledger.balance().holds


@pytest.mark.usefixtures("past_selves")
@pytest.mark.slow
def test_the_example_method_is_trained_and_evaluated_by_the_commands(redis_url: str, tmp_path: Path) -> None:
    try:
        require_bots([scenario("coins_0")])
    except SetupError as error:
        pytest.skip(str(error))
    folder = ["--folder", str(tmp_path)]
    small = [f"--set={setting}" for setting in ("actor.environments=1", "network.dense=16", "network.core_size=16")]
    name = ["--method", "past_selves:PastSelves", "--set=method.most=10", "--run", "by-command", "--substrate", "coins"]
    budget = ["--steps", "2100", "--games", "0"]
    assert main(["train", "--serial", "--redis", redis_url, *folder, *name, *small, *budget]) == 0
    evaluation = ["--scenario", "coins_0", "--episodes", "1", "--workers", "1"]
    assert main(["evaluate", *folder, "by-command", *evaluation]) == 0
    (row,) = read_lines(RunFolder(tmp_path / "by-command").evaluation)
    assert row["method"] == "past_selves:PastSelves"
