"""No module can unpickle or execute what it reads."""

import ast

import pytest
from sources import sources

MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "runpy"),
    "multiprocessing.connection",
}
NAMES = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.serialization.load", "numpy.load", "__import__"),
    *("eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
}
METHODS = {
    *("recv_pyobj", "send_pyobj", "read_pickle", "to_pickle", "broadcast_object_list", "scatter_object_list"),
    *("all_gather_object", "gather_object"),
}
"""Wrong on whatever object."""
IMPORTERS = {
    "cli/checks.py": "the doctor, names of its own",
    "common/imports.py": "methods, networks, games that `common.foreign` lets through; policies of the command line",
    "bidist/_packages.py": "the project's own packages",
}


def wrong_in(tree: ast.Module) -> set[str]:
    """What in a file turns data into code, called or passed on, under whatever name it was imported."""
    nodes = list(ast.walk(tree))
    imported: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def meant(node: ast.AST) -> str:
        first, dot, rest = ast.unparse(node).partition(".")
        return imported.get(first, first) + dot + rest

    safe = {
        node.func
        for node in nodes
        if isinstance(node, ast.Call)
        and meant(node.func) == "torch.load"
        and any(ast.unparse(k) == "weights_only=True" for k in node.keywords)
    }
    used = {meant(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute) and node not in safe}
    used |= set(imported.values())
    found = {name for name in used if name in NAMES or name.rpartition(".")[2] in METHODS}
    found |= {name for name in used if any(f"{name}.".startswith(f"{module}.") for module in MODULES)}
    return found | {"allow_pickle" for node in nodes if isinstance(node, ast.keyword) and node.arg == "allow_pickle"}


def test_no_module_turns_data_into_code() -> None:
    assert {s.path: wrong for s in sources() if (wrong := wrong_in(s.tree))} == {}


def test_few_modules_import_what_a_configuration_names() -> None:
    found = {s.path for s in sources() if "importlib.import_module" in ast.unparse(s.tree)}
    assert found == IMPORTERS.keys()


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from pickle import loads", "import torch\ntorch.load(p)", "from torch import load"),
        *("import yaml\nyaml.load(t)", "eval(t)", "exec(t)", "torch.load(p, weights_only=False)", "__import__(t)"),
        *("np.frombuffer(x, allow_pickle=True)", "from yaml import unsafe_load", "import dill.source"),
        *("import torch as t\nt.load(p)", "import yaml as y\ny.load(t)", "import torch\nf = torch.load\nf(p)"),
        *(
            "import torch.serialization\ntorch.serialization.load(p)",
            "import numpy as n\nn.load(p)",
            "frames.read_pickle(p)",
        ),
        *("from runpy import run_path", "import runpy\nrunpy.run_path(p)", "socket.recv_pyobj()", "map(eval, t)"),
        *(
            "from multiprocessing.connection import Client",
            "dist.broadcast_object_list(x)",
            "import builtins as b\nb.exec(t)",
        ),
    ],
)
def test_the_gate_closes(code: str) -> None:
    assert wrong_in(ast.parse(code))


def test_the_gate_lets_honest_code_through() -> None:
    assert not wrong_in(ast.parse("torch.load(p, weights_only=True)\nyaml.safe_load(t)\nmodel.eval()\njson.loads(t)"))
    assert not wrong_in(ast.parse("import torch as t\nt.load(p, weights_only=True)\nimport re\nre.compile(t)"))
