"""The quickstart notebook runs from top to bottom in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trained import needs_bots

ROOT = Path(__file__).parents[2]


@needs_bots
@pytest.mark.slow
def test_the_quickstart_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 4 and all(cell.get("outputs") for cell in cells if cell["cell_type"] == "code")
    script = "\n".join(re.sub(r"^!(.*)$", _as_shell, text, flags=re.MULTILINE) for text in code)
    command = tmp_path / "bin" / "bidist"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n')
    command.chmod(0o755)
    environ = os.environ | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
    }
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (mean,) = re.findall(r"mean return over 20 episodes: (\S+)", done.stdout)
    assert float(mean) > 10, "twice what random players earn"
    assert len(re.findall("^coins_0 .* focal return", done.stdout, re.MULTILINE)) == 2


def _as_shell(line: "re.Match[str]") -> str:
    """A line for the shell, as Python."""
    return f"__import__('subprocess').run({line[1]!r}, shell=True, check=True)"
