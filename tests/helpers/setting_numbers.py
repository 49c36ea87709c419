"""The settings that are numbers, read from the model."""

from collections.abc import Iterator
from typing import get_args

from pydantic.fields import FieldInfo

from common.config import Config, MethodConfig, Section
from methods import METHODS, make_method


def numbers() -> Iterator[tuple[str, FieldInfo]]:
    """Every number among the settings, those of the methods included."""
    sections = [(name, part.annotation) for name, part in Config.model_fields.items()]
    sections += [("method", type(make_method(Config(method=MethodConfig(name=name))).settings)) for name in METHODS]
    for section, model in sections:
        assert isinstance(model, type) and issubclass(model, Section)
        for key, field in model.model_fields.items():
            if {int, float} & {field.annotation, *get_args(field.annotation)}:
                yield f"{section}.{key}", field
