"""The user's own code is found in the working directory, and no folder there hides ours."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_module_of_the_working_directory_is_found_and_its_folder_common_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from common.errors import ConfigError\n\nVALUE = ConfigError.__name__\n")
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise SystemExit('imported a foreign common')\n")
    script = "from common import imports; print(imports.load('mine:VALUE', 'test'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],  # -P: as a command that is installed, or a role
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "ConfigError\n", done.stderr
