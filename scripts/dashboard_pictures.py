"""Takes the pictures of the dashboard in docs/images/, in ten minutes.

    .venv/bin/python scripts/dashboard_pictures.py

Trains a real run, kills its learner, and lays the archived runs of results/table-1 over one another. Needs Chromium.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from experiments.sweeps.archive import restore
from experiments.sweeps.plan import read_plan

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
BIDIST = [sys.executable, "-m", "cli"]
TRAINING_S = 300
RUN = "pure-coordination"
GAME = "pure_coordination_in_the_matrix__arena"
TRAIN = ["train", "--run", RUN, "--substrate", GAME, "--steps", "4e6", "--set", "run.checkpoint_s=20"]
CAPTION = "text => document.querySelector('figcaption')?.textContent.includes(text)"
REWOUND = "() => document.querySelector('.ledger .rewound b')"
DRAWN = "() => document.querySelectorAll('#runs canvas').length > 0"


@contextmanager
def running(arguments: list[str], out: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Runs a command of BiDist until the block ends."""
    with subprocess.Popen([*BIDIST, *arguments], cwd=ROOT, stdout=out, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def shoot(page: Any, name: str, height: int | None = None) -> None:
    """Saves what a page shows, from its top."""
    page.wait_for_timeout(1500)
    page.mouse.move(0, 0)
    page.evaluate("() => scrollTo(0, 0)")
    size = page.viewport_size
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
    page.screenshot(path=IMAGES / f"dashboard-{name}.png", clip=clip)
    print(f"docs/images/dashboard-{name}.png", flush=True)


def learner_of(folder: Path) -> int:
    """Returns the process of a run's learner."""
    found = subprocess.check_output(["pgrep", "-f", f"cli learner .*--folder {folder}"], text=True)
    return int(found.split()[0])


def shoot_runs(page: Any, address: str) -> None:
    """Lays the archived runs over one another."""
    page.goto(f"{address}#/runs")
    page.fill("#runs input[type=search]", "table-1/")
    page.select_option("#runs select[aria-label=Colours]", "method")
    page.click("text=draw all shown")
    page.wait_for_function(DRAWN, timeout=60_000)
    shoot(page, "runs", 720)


def main() -> None:
    """Takes all pictures."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        plan = read_plan(ROOT / "experiments" / "paper" / "pure_coordination.yaml", {})
        print(restore(folder / "table-1", plan.trials(), ROOT / "results" / "table-1" / "trials"), "runs restored")
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        wide = browser.new_page(viewport={"width": 1280, "height": 1072})
        phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=2)
        dashboard = ["dashboard", str(folder), "--results", "results", "--port", "0"]
        with running([*TRAIN, "--folder", str(folder)]), running(dashboard, subprocess.PIPE) as served:
            assert served.stdout is not None
            address = served.stdout.readline().split()[-1]
            shoot_runs(wide, address)
            time.sleep(TRAINING_S)
            wide.goto(f"{address}#/live/{RUN}")
            phone.goto(f"{address}#/live/{RUN}")
            wide.wait_for_function(CAPTION, arg="busy", timeout=60_000)
            shoot(wide, "live")
            shoot(phone, "phone")
            os.kill(learner_of(folder), signal.SIGKILL)
            wide.wait_for_function(CAPTION, arg="nothing is trained", timeout=60_000)
            shoot(wide, "killed", 640)
            wide.wait_for_function(REWOUND, timeout=120_000)
            wide.wait_for_function(CAPTION, arg="busy", timeout=60_000)
            wide.wait_for_timeout(20_000)
            shoot(wide, "back")
        browser.close()


if __name__ == "__main__":
    main()
