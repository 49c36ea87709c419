"""Loads populations from the Hugging Face Hub."""

from pathlib import Path

from common.errors import BidistError, ConfigError, SetupError
from common.run_folder import RunFolder
from common.third_party import foreign

SCHEME = "hf://"
WANTED = ("config.yaml", "checkpoints/*")


def download(address: str) -> Path:
    """Downloads a population and returns its folder; what is there already is not downloaded again.

    Args:
      address: `hf://user/name`, or `hf://user/name@revision`.

    Raises:
      ConfigError: if there is no such population, or it names code of its own.
      SetupError: if huggingface_hub is not installed.
      BidistError: if the Hub cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise SetupError(f"{address} needs huggingface_hub: pip install 'bidist[hub]'") from None

    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    try:
        path = Path(snapshot_download(repository, revision=revision or None, allow_patterns=[*WANTED]))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ConfigError(f"{address}: {str(error).splitlines()[0]}; expected hf://user/name[@revision]") from None
    except OSError as error:
        raise BidistError(f"{address}: {error}") from None
    _distrust(RunFolder(path), address)
    return path


def _distrust(folder: RunFolder, address: str) -> None:
    """Refuses a configuration by which a stranger could run any function that is installed here."""
    if not folder.config.exists():
        raise ConfigError(f"{address}: holds no {folder.config.name}; bidist push makes repositories that do")
    named = foreign(folder.read_config())
    if named:
        raise ConfigError(
            f"{address}: names code of its own, {', '.join(named)}; if you trust it, load it from {folder.path}"
        )
