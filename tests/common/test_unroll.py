"""The table of an unroll's arrays agrees with the classes that hold them."""

from dataclasses import fields

import numpy as np
from unrolls import SPEC, make_unroll

from common.unroll import ARRAYS, FIELDS, Unroll
from networks.sequences import TIMED, Steps


def test_the_table_lists_every_array_of_an_unroll_in_order() -> None:
    assert tuple(field.name for field in fields(Unroll)) == ("header", *ARRAYS)


def test_tensors_have_every_array_of_the_table() -> None:
    """`active` becomes `mask`; `valid` and `version` are added."""
    names = {field.name for field in fields(Steps)}
    assert names == {*ARRAYS} - {"active"} | {"valid", "mask", "version"}
    assert names - {*TIMED} == {"state", "version"}


def test_shapes_follow_from_the_table() -> None:
    game = SPEC.environment
    unroll = make_unroll(SPEC, env_steps=5)
    sizes = {"T": 5, "T+1": 6, "N": game.players, "F": game.features, "S": SPEC.state_size}
    sizes |= dict(zip("HWC", game.rgb_shape, strict=True))
    for name, field in FIELDS.items():
        array = getattr(unroll, name)
        assert array.shape == tuple(sizes[axis] for axis in field.axes)
        assert array.dtype == np.dtype(field.dtype)
        assert field.timed is (array.shape[0] in (5, 6))
