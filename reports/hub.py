"""Publishes a run on the Hugging Face Hub: a folder from which `bidist.load` loads it, and a model card."""

import shutil
import tempfile
from pathlib import Path

from common import checkpoint
from common.errors import BidistError, ConfigError
from common.files import write
from common.run_folder import RunFolder
from evaluator.evaluate import EvaluatedPopulation, populations
from evaluator.results import rows_of
from reports.curves import draw_run
from reports.model_card import model_card

REPLACED = ("checkpoints/*", "evaluation.jsonl", "*.mp4", "learning_curve.png")
"""What an earlier push left behind would pass for part of this one: `bidist.load` takes the newest checkpoint."""


def push(folder: RunFolder, which: str, repository: str, private: bool) -> str:
    """Uploads a checkpoint of a run and its model card, in place of an earlier one; returns the address of the commit.

    Args:
      folder: the run's.
      which: the name of the checkpoint, or `newest`.
      repository: `user/name`; created if missing.
      private: whether a repository that is created is private.

    Raises:
      ConfigError: if there is no such run, or `repository` has another form.
      CheckpointError: if there is no such checkpoint.
      BidistError: if the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if repository.count("/") != 1:
        raise ConfigError(f"{repository}: expected user/name, such as jane/coins")
    (population,) = populations(folder, [which])
    with tempfile.TemporaryDirectory(prefix="bidist-") as temporary:
        stage(folder, population, repository, Path(temporary))
        api = HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            message = f"{population.run}, checkpoint {population.checkpoint}"
            commit = api.upload_folder(
                repo_id=repository, folder_path=temporary, commit_message=message, delete_patterns=[*REPLACED]
            )
            return str(commit)
        except HFValidationError as error:
            raise ConfigError(f"{repository}: {error}") from None
        except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
            raise BidistError(f"{repository}: {error}; `hf auth login` logs in") from None


def stage(folder: RunFolder, population: EvaluatedPopulation, repository: str, out: Path) -> None:
    """Writes what is published: the configuration, theta and its average, the card, the curve, the newest film.

    What only training needs, such as the optimiser's state, stays behind, and so does the location of the run's folder.
    """
    run = RunFolder(out)
    config = population.config
    run.create(config.model_copy(update={"run": config.run.model_copy(update={"folder": Path("runs")})}))
    saved = checkpoint.load(folder.checkpoints / population.checkpoint)
    tensors = {name: group for name, group in saved.tensors.items() if name in ("theta", "average")}
    counters = {name: saved.state[name] for name in ("updates", "player_steps")}
    checkpoint.save(run.checkpoints, int(population.checkpoint), tensors, counters, keep=None)
    shown = []
    if folder.metrics.exists():
        draw_run(folder, run.learning_curve)
        shown.append(run.learning_curve.name)
    if films := sorted(folder.path.glob("*.mp4"), key=lambda path: path.stat().st_mtime):
        shutil.copy(films[-1], out)
        shown.append(films[-1].name)
    rows = rows_of(folder.evaluation)
    if rows:
        shutil.copy(folder.evaluation, out)
    write(out / "README.md", model_card(population, repository, rows, shown).encode())
