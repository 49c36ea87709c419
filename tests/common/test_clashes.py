"""Settings that are fine alone and clash together: each combination runs, or is refused before it starts."""

import random
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo
from serial_runs import configuration
from setting_numbers import numbers

from cli.fits import check_fits
from cli.main import main
from common.config import Config, MethodConfig
from common.errors import ConfigError
from common.files import read_lines
from common.run_folder import RunFolder
from common.settings import load_config
from common.spec import EnvironmentSpec
from deploy.serial import Serial
from methods import METHODS, make_method

ARENA = EnvironmentSpec("arena", 8, 9, (11, 11, 3), 4)
GB = 1 << 30
RUNS = len(METHODS)

CLASHES = {
    "burn-in and unroll": (["distiller.burn_in=40"], "less than actor.unroll_length=32"),
    "widths": (["network.dense=8192", "network.core_size=4096"], r"theta, from network\.dense=8192, .*Redis"),
    "widths and players": (
        ["network.dense=1024", "network.core_size=2048", "network.parameters=per_player"],
        r"theta, from .* and 8 policies, take \d+ MB; a value in Redis holds at most 512 MB",
    ),
    "batch and unroll": (
        ["learner.batch_unrolls=512", "actor.unroll_length=512"],
        r"the distiller's observations, from learner\.batch_unrolls=512 and actor\.unroll_length=512, take",
    ),
    "batch and queue": (
        ["method.name=mappo", "learner.batch_unrolls=4096", "learner.queue_batches=100"],
        r"learner\.queue_batches=100, take [\d,]+ MB; this machine's memory holds at most 16,384 MB",
    ),
}


@pytest.mark.parametrize("name", CLASHES)
def test_a_clash_is_refused_in_one_line(name: str) -> None:
    overrides, words = CLASHES[name]
    with pytest.raises(ConfigError, match=words) as refused:
        check_fits(load_config(overrides=overrides, environ={}), ARENA, 16 * GB)
    assert "\n" not in str(refused.value)
    for alone in overrides if len(overrides) > 1 else ():
        check_fits(load_config(overrides=[alone], environ={}), ARENA, 16 * GB)


def test_a_clash_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wide = ["network.dense=8192", "network.core_size=8192"]
    assert main(["train", "--substrate", "matrix_coordination", *wide]) == 2
    assert capsys.readouterr().err.startswith("bidist: error: theta, from network.dense=8192")
    assert not list(tmp_path.iterdir())


def affordable(field: FieldInfo, rng: random.Random) -> float:
    """Draws one end of a setting's range, or as far towards it as a run of a second allows."""
    limits = {name: getattr(x, name) for x in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(x, name)}
    if int in (field.annotation, *get_args(field.annotation)):
        low = limits.get("ge", 0)
        return int(rng.choice([low, low + 1, min(low + 6, limits.get("le", limits.get("lt", 0) - 1))]))
    low = limits["ge"] if "ge" in limits else limits["gt"] + 1e-6
    high = limits["le"] if "le" in limits else limits["lt"] - 1e-6
    return float(rng.choice([low, high]))


def drawn(rng: random.Random, method: str) -> dict[str, Any]:
    """Draws all numbers of the shared sections and of one method."""
    own = type(make_method(Config(method=MethodConfig(name=method))).settings).model_fields
    fields = {path: field for path, field in numbers() if not path.startswith("method.")}
    fields |= {f"method.{key}": field for path, field in numbers() if (key := path.removeprefix("method.")) in own}
    values = {path: affordable(field, rng) for path, field in fields.items()}
    del values["run.player_steps"], values["run.seed"]
    values["environment.players"] = rng.choice([2, 3])  # the matrix game's own limit
    values["actor.hang_s"] = 180.0
    return values | {"network.parameters": rng.choice(["shared", "per_player"]) if method != "pp" else "shared"}


@pytest.mark.parametrize("seed", range(RUNS))
def test_numbers_at_the_ends_of_their_ranges_run_together_or_are_refused(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    method = [*METHODS][seed % len(METHODS)]
    values = drawn(rng, method)
    base = configuration(tmp_path, f"{tmp_path.name}-clash", f"method.name={method}")
    try:
        config = load_config(values=values, environ={}, base=base)
    except ConfigError as refused:
        assert str(refused).startswith("distiller.burn_in") and "\n" not in str(refused)
        return
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(2):
            try:
                serial.update()
            except ConfigError as diverged:  # nobody can know before
                assert "learner.learning_rate=1.0 may be too high" in str(diverged)
                return
        balance = serial.store.ledger.balance()
    assert balance.holds and balance.trained == 2 * config.learner.batch_unrolls
    assert [line["updates"] for line in read_lines(RunFolder.of(config.run).metrics)] == [1, 2]
