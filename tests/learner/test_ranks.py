"""A learner of two processes makes the same updates as one of a single process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import rank_updates
import safetensors.torch
import torch

from common.files import read_lines

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "helpers"


def torchrun(ranks: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"--nproc-per-node": ranks, "--master-addr": "127.0.0.1", "--master-port": port}
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "torch.distributed.run", *words, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HELPERS}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [("method.name=bidist",), ("method.name=opre", "network.parameters=per_player")])
def test_two_ranks_end_with_the_parameters_of_one(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    rank_updates.main(one, list(overrides))
    finished = torchrun(2, str(HELPERS / "rank_updates.py"), str(two), *overrides)
    assert finished.returncode == 0, finished.stderr[-3000:]
    losses = [json.loads((out / "0.json").read_text()) for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5)
    paths = (one / "0.safetensors", two / "0.safetensors", two / "1.safetensors")
    alone, first, second = map(safetensors.torch.load_file, paths)
    assert all(torch.equal(first[name], second[name]) for name in first), "the ranks have to agree exactly"
    for name, parameter in alone.items():
        torch.testing.assert_close(first[name], parameter, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_with_a_learner_of_two_ranks(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDIST_REDIS", redis_url)
    monkeypatch.setenv("BIDIST_RUN", tmp_path.name)
    settings = [
        "environment.substrate=matrix_coordination",
        "learner.batch_unrolls=8",
        "actor.unroll_length=8",
        "environment.episode_length=8",
        "distiller.burn_in=1",
        "learner.threads=1",
    ]
    silent, command = subprocess.DEVNULL, [sys.executable, "-m", "cli"]
    roles = [subprocess.Popen([*command, role], cwd=ROOT, stderr=silent) for role in ("actor", "distiller")]
    try:
        sets = [word for setting in settings for word in ("--set", setting)]
        finished = torchrun(2, "-m", "cli", "learner", "--folder", str(tmp_path), "--steps", "6000", *sets)
        assert finished.returncode == 0, finished.stderr[-3000:]
        assert [role.wait(60) for role in roles] == [0, 0]
    finally:
        for role in roles:
            role.kill()
            role.wait()
    assert read_lines(tmp_path / tmp_path.name / "metrics.jsonl")[-1]["player_steps"] >= 6000
    assert "rank 1 of 2 follows" in finished.stderr
