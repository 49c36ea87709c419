"""Reads the constants of a bot's network from its SavedModel, without TensorFlow.

DeepMind published the bots as frozen JAX programs: each weight is a constant in the graph of the function `step`. All
puppets share the architecture in `evaluator/puppets.py`; a weight is identified by the name of the layer that uses it.
Models with another architecture are rejected.
"""

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorboard.compat.proto import meta_graph_pb2
from tensorboard.util import tensor_util

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
# Inputs of the torso's first layer after the image and the last action, in this order, if the model has them.
INPUTS = ("INVENTORY", "READY_TO_SHOOT")

Array = NDArray[np.float32]


def read(path: Path) -> tuple[dict[str, Array], dict[str, Array], list[str]]:
    """Reads weights and biases by the names in `LAYERS`, and the names of the observations besides RGB.

    Args:
      path: a `saved_model.pb`.

    Raises:
      LookupError: if the architecture is another; the message says what was found.
    """
    try:
        functions = _functions(path.read_bytes())
    except (DecodeError, IndexError):
        raise LookupError("not a SavedModel") from None
    found = [f for f in functions if any(node.name.endswith(LAYERS["lstm"]) for node in f.node_def)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} functions with an LSTM, expected one")
    graph = _Graph(found[0])
    nodes = {name: graph.ending_with(suffix) for name, suffix in LAYERS.items()}
    strides = [graph.constant(nodes[name].input[2]).tolist() for name in ("conv_1", "conv_2")]
    if strides != [[8, 8], [1, 1]]:
        raise LookupError(f"convolutions with strides {strides}, expected 8 and 1")
    arguments = [arg.name for function in functions for arg in function.signature.input_arg]
    seen = {name.rpartition("observation_")[2].upper() for name in arguments if "observation_" in name}
    if seen - {*INPUTS} != {"RGB", "GOAL"}:
        raise LookupError(f"observations {', '.join(sorted(seen))}, expected RGB, GOAL and some of {', '.join(INPUTS)}")
    weights = {name: graph.constant(node.input[1]) for name, node in nodes.items()}
    biases = {name: graph.constant(graph.user(node.name, "AddV2").input[1]) for name, node in nodes.items()}
    return weights, biases, [name for name in INPUTS if name in seen]


def _functions(data: bytes) -> Any:
    # The only field needed of a SavedModel message is number 2, its list of graphs.
    file = descriptor_pb2.FileDescriptorProto(name="saved_model.proto", package="bidist", syntax="proto3")
    kind = descriptor_pb2.FieldDescriptorProto
    message = file.message_type.add(name="SavedModel")
    message.field.add(name="meta_graphs", number=2, type=kind.TYPE_BYTES, label=kind.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    saved_model = message_factory.GetMessageClass(pool.FindMessageTypeByName("bidist.SavedModel"))
    graphs = saved_model.FromString(data).meta_graphs
    return meta_graph_pb2.MetaGraphDef.FromString(graphs[0]).graph_def.library.function


class _Graph:
    """The nodes of one function of a model."""

    def __init__(self, function: Any) -> None:
        self._nodes = {node.name: node for node in function.node_def}

    def ending_with(self, suffix: str) -> Any:
        """Finds the one node whose name has this ending."""
        found = [node for name, node in self._nodes.items() if name.endswith(f"/{suffix}")]
        if len(found) != 1:
            raise LookupError(f"{len(found)} nodes called {suffix}, expected one")
        return found[0]

    def user(self, name: str, operation: str) -> Any:
        """Finds the one node that applies an operation to the output of another."""
        found = [n for n in self._nodes.values() if n.op == operation and _source(n.input[0]) == name]
        if len(found) != 1:
            raise LookupError(f"{len(found)} {operation} nodes after {name}, expected one")
        return found[0]

    def constant(self, name: str) -> Array:
        """Reads the constant behind any operations that only reshape it."""
        node = self._nodes[_source(name)]
        while node.op in ("BroadcastTo", "Reshape", "Identity"):
            node = self._nodes[_source(node.input[0])]
        if node.op != "Const":
            raise LookupError(f"{node.name} is a {node.op}, expected a constant")
        array: Array = np.array(tensor_util.make_ndarray(node.attr["value"].tensor))
        return array


def _source(name: str) -> str:
    return name.partition(":")[0]
