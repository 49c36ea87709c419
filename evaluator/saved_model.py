"""Reads the constants of a bot's network out of its SavedModel; a process of its own, for this needs TensorFlow.

python -m evaluator.saved_model FOLDER OUT.safetensors

DeepMind published the bots as frozen JAX programs: every weight is a constant in the graph of the function `step`. The
puppets are all of one make (`evaluator/puppets.py` says which); a weight is found by the name of the layer that
multiplies by it, and by nothing else. A model of another make is refused.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

LAYERS = {
    "conv_1": "conv2_d/XlaConvV2",
    "conv_2": "conv2_d_1/XlaConvV2",
    "torso_1": "torso/linear_0/jit_dot_/XlaDotV2",
    "torso_2": "torso/linear_1/jit_dot_/XlaDotV2",
    "lstm": "reset_core/lstm/linear/jit_dot_/XlaDotV2",
    "policy_1": "policy/linear_0/jit_dot_/XlaDotV2",
    "policy_2": "policy/linear_1/jit_dot_/XlaDotV2",
    "goal": "goal_embedding/linear_0/jit_dot_/XlaDotV2",
}
# What the torso's first layer sees behind image and last action, in this order as far as the model has it.
INPUTS = ("INVENTORY", "READY_TO_SHOOT")


def main() -> int:
    """Writes a safetensors file: weight and bias of each of `LAYERS`, and in its header `inputs`."""
    folder, out = map(Path, sys.argv[1:])
    try:
        tensors, header = _read(folder / "saved_model.pb")
    except LookupError as error:
        print(f"{folder}: not a puppet of the known make, {error}", file=sys.stderr)
        return 2
    save_file(tensors, out, {name: json.dumps(value) for name, value in header.items()})
    return 0


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString(path.read_bytes())
    functions = model.meta_graphs[0].graph_def.library.function
    found = [f for f in functions if any(node.name.endswith(LAYERS["lstm"]) for node in f.node_def)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} of its functions have an LSTM, expected one")
    graph = Graph(found[0])
    tensors = {}
    for name, suffix in LAYERS.items():
        layer = graph.ending_with(suffix)
        tensors[f"{name}.weight"] = graph.constant(layer.input[1])
        tensors[f"{name}.bias"] = graph.constant(graph.user(layer.name, "AddV2").input[1])
    strides = [graph.constant(graph.ending_with(LAYERS[name]).input[2]).tolist() for name in ("conv_1", "conv_2")]
    if strides != [[8, 8], [1, 1]]:
        raise LookupError(f"its convolutions have strides {strides}")
    arguments = [arg.name for function in functions for arg in function.signature.input_arg]
    seen = {name.rpartition("observation_")[2].upper() for name in arguments if "observation_" in name}
    if seen - {*INPUTS} != {"RGB", "GOAL"}:
        raise LookupError(f"it sees {', '.join(sorted(seen))}")
    return tensors, {"inputs": [name for name in INPUTS if name in seen]}


class Graph:
    """The nodes of one function of a model."""

    def __init__(self, function: Any) -> None:
        self._nodes = {node.name: node for node in function.node_def}

    def ending_with(self, suffix: str) -> Any:
        """The one node whose name ends so."""
        found = [node for name, node in self._nodes.items() if name.endswith(f"/{suffix}")]
        if len(found) != 1:
            raise LookupError(f"{len(found)} of its nodes are called {suffix}, expected one")
        return found[0]

    def user(self, name: str, operation: str) -> Any:
        """The one node that does this to what another one gives."""
        found = [n for n in self._nodes.values() if n.op == operation and _source(n.input[0]) == name]
        if len(found) != 1:
            raise LookupError(f"{len(found)} nodes {operation} follow {name}, expected one")
        return found[0]

    def constant(self, name: str) -> NDArray[np.float32]:
        """The constant behind what only gives it another shape."""
        from tensorflow.python.framework import tensor_util

        node = self._nodes[_source(name)]
        while node.op in ("BroadcastTo", "Reshape", "Identity"):
            node = self._nodes[_source(node.input[0])]
        if node.op != "Const":
            raise LookupError(f"{node.name} is a {node.op}, expected a constant")
        array: NDArray[np.float32] = np.array(tensor_util.MakeNdarray(node.attr["value"].tensor))
        return array


def _source(name: str) -> str:
    return name.partition(":")[0]


if __name__ == "__main__":
    sys.exit(main())
