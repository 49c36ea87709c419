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
    *("torch.hub.load", "numpy.lib.format.read_array", "pydoc.locate", "os.system", "os.popen"),
    *("eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *(f"yaml.{name}{many}" for name in ("load", "full_load", "unsafe_load") for many in ("", "_all")),
    *(f"yaml.{kind}" for kind in ("Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader")),
}
METHODS = {
    *("recv_pyobj", "send_pyobj", "read_pickle", "to_pickle", "broadcast_object_list", "scatter_object_list"),
    *("all_gather_object", "gather_object", "spec_from_file_location", "exec_module"),
}
"""Wrong on whatever object."""
IMPORT = "importlib.import_module"
IMPORTERS = {
    "cli/checks.py": "the doctor, names of its own",
    "common/imports.py": "methods, networks, games that `common.third_party` allows; policies of the command line",
    "bidist/_packages.py": "the project's own packages",
}


def used_in(tree: ast.Module) -> set[str]:
    """The names that a file uses, in full, under whatever name they were imported; but not `torch.load` of weights."""
    nodes = list(ast.walk(tree))
    imported: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def meant(node: ast.AST) -> str:
        match node:
            case ast.Call(ast.Name("getattr"), [owner, ast.Constant(str(name)), *_]):
                return f"{meant(owner)}.{name}"
        first, dot, rest = ast.unparse(node).partition(".")
        return imported.get(first, first) + dot + rest

    safe = {
        node.func
        for node in nodes
        if isinstance(node, ast.Call)
        and meant(node.func) == "torch.load"
        and any(ast.unparse(k) == "weights_only=True" for k in node.keywords)
    }
    kinds = ast.Name | ast.Attribute | ast.Call
    return {meant(node) for node in nodes if isinstance(node, kinds) and node not in safe} | set(imported.values())


def wrong_in(tree: ast.Module) -> set[str]:
    """What in a file turns data into code, called or passed on."""
    used = used_in(tree)
    found = {name for name in used if name in NAMES or name.rpartition(".")[2] in METHODS}
    found |= {name for name in used if any(f"{name}.".startswith(f"{module}.") for module in MODULES)}
    return found | {
        "allow_pickle" for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
    }


def test_no_module_turns_data_into_code() -> None:
    assert {s.path: wrong for s in sources() if (wrong := wrong_in(s.tree))} == {}


def test_few_modules_import_what_a_configuration_names() -> None:
    assert {s.path for s in sources() if IMPORT in used_in(s.tree)} == IMPORTERS.keys()
    for code in (
        *("from importlib import import_module", "import importlib as i\ni.import_module(n)"),
        *("import importlib\ngetattr(importlib, 'import_module')(n)", "import importlib\nf = importlib.import_module"),
    ):
        assert IMPORT in used_in(ast.parse(code)), code


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
        *(
            "import yaml\nyaml.unsafe_load_all(t)",
            "from yaml import full_load_all as f\nf(t)",
            "from yaml import Loader",
        ),
        *("import torch\ntorch.hub.load(p, n)", "from torch import hub\nhub.load(p, n)"),
        *('import torch\ngetattr(torch, "load")(p)', 'import torch as t\nf = getattr(t.hub, "load", None)'),
        *("import os\nos.system(t)", "from os import popen", "import pydoc\npydoc.locate(n)"),
        *("import importlib.util as u\nu.spec_from_file_location(n, p)", "spec.loader.exec_module(module)"),
        *("import numpy as np\nnp.lib.format.read_array(f)", "from numpy.lib.format import read_array"),
    ],
)
def test_the_gate_closes(code: str) -> None:
    assert wrong_in(ast.parse(code))


def test_the_gate_lets_honest_code_through() -> None:
    assert not wrong_in(ast.parse("torch.load(p, weights_only=True)\nyaml.safe_load(t)\nmodel.eval()\njson.loads(t)"))
    assert not wrong_in(ast.parse('import yaml\nyaml.SafeLoader(t)\ngetattr(model, "load")(t)\ngetattr(os, name)'))
    assert not wrong_in(ast.parse("import torch as t\nt.load(p, weights_only=True)\nimport re\nre.compile(t)"))
