"""The network of the documentation's walk-through, trained, loaded and refused as a user would."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bidist
from cli.main import main
from common import checkpoint
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.settings import load_config
from common.spec import EnvironmentSpec
from methods import make_method
from networks.network import Network

ROOT = Path(__file__).parents[2]
SPEC = EnvironmentSpec("game", players=2, actions=3, rgb_shape=(11, 11, 3), features=4)


@pytest.fixture
def deeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The module of the walk-through, on the path of this process and of the roles that it starts."""
    (text,) = re.findall(
        r"^```python\n(\"\"\"A second dense.*?)^```", (ROOT / "docs" / "methods.md").read_text(), re.M | re.S
    )
    (tmp_path / "deeper.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield "deeper:Deeper"
    sys.modules.pop("deeper", None)


def test_each_policy_has_a_layer_of_its_own_that_matters(deeper: str) -> None:
    config = load_config(overrides=[f"network.name={deeper}", "network.dense=8", "method.name=mappo"], environ={})
    network = make_method(config).network(SPEC, 2)
    assert type(network) is not Network and {len(p) for p in network.parameters()} == {2}
    rgb = torch.randint(0, 255, (2, 1, 5, 11, 11, 3), dtype=torch.uint8)
    features = torch.rand(2, 1, 5, 4)
    before = network.embed_image(rgb, features)
    assert before.shape == (2, 1, 5, 8)
    with torch.no_grad():
        network.get_parameter("second.weight")[1] += 1
    after = network.embed_image(rgb, features)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


@pytest.mark.slow
def test_a_run_trains_it_and_it_is_loaded(deeper: str, tmp_path: Path) -> None:
    settings = ["environment.episode_length=8", "actor.unroll_length=8", "distiller.burn_in=1"]
    options = ["--run", "run", "--folder", str(tmp_path / "runs"), "--substrate", "matrix_chicken", "--actors", "1"]
    assert main(["train", *options, "--network", deeper, "--steps", "2000", "--games", "0", *settings]) == 0
    run = RunFolder(tmp_path / "runs" / "run")
    assert run.read_config().network.name == deeper
    newest = checkpoint.newest(run.checkpoints)
    assert newest is not None and "second.weight" in newest.tensors["theta"]
    assert bidist.load(run.path).initial_state().memory.shape == (128,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deeper:Shallower", "has no attribute 'Shallower'"),
        ("deeper", "expected module:Class"),
        ("nowhere:Deeper", "No module named 'nowhere'.*PYTHONPATH"),
        ("deeper:StackedLinear", "not a subclass of networks.network.Network"),
    ],
)
def test_what_is_no_network_is_refused_before_anything_starts(
    deeper: str, name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--folder", str(tmp_path / "runs"), "--substrate", "matrix_chicken"]
    assert main(["train", *folder, "--network", name]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("method", ["opre", "randnet"])
def test_methods_with_a_network_of_their_own_refuse_another(deeper: str, method: str) -> None:
    config = load_config(overrides=[f"network.name={deeper}", f"method.name={method}"], environ={})
    with pytest.raises(ConfigError, match=f"{method} has a network of its own"):
        make_method(config)
