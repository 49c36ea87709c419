"""Submits a sweep to a SLURM cluster whose nodes share the sweep's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import ConfigError, SetupError
from deploy.processes import bidist
from experiments.sweeps.progress import NOTES


def submit(folder: Path, jobs: int, options: Mapping[str, Any], arguments: list[str]) -> list[Any]:
    """Submits jobs that work on a sweep until no trial is left to claim; returns submitit's jobs.

    Args:
      folder: the sweep's folder.
      jobs: the number of jobs.
      options: submitit's, such as `timeout_min`, `cpus_per_task`, `slurm_partition`; `cluster=local` runs the jobs on
        this machine.
      arguments: further arguments of `bidist sweep`, such as `--actors 4`.

    Raises:
      ConfigError: if an option is unknown to submitit.
      SetupError: if submitit is not installed, or this machine has no SLURM.
    """
    try:
        import submitit
    except ImportError:
        raise SetupError('bidist sweep --slurm needs submitit: pip install "bidist[slurm]"') from None
    named = dict(options)
    try:
        executor = submitit.AutoExecutor(folder / NOTES / "slurm", cluster=named.pop("cluster", "slurm"))
        executor.update_parameters(**named)
    except (RuntimeError, ValueError) as error:
        raise SetupError(f"submitit cannot submit from here: {error}") from None
    except (NameError, TypeError) as error:
        raise ConfigError(f"--slurm-option: {error}") from None
    command = bidist("sweep", str(folder.resolve()), *arguments)
    with executor.batch():
        return [executor.submit(submitit.helpers.CommandFunction(command)) for _ in range(jobs)]
