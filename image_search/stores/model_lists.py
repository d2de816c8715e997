"""The models of a library as one list, for engines that keep it in one document and change it at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from image_search.records import EmbeddingModel
from image_search.stores.refusals import model_is_current, no_model


def load_models(document: str | bytes | None) -> list[EmbeddingModel]:
    """The models dump_models was given; [] where nothing is stored."""
    return [EmbeddingModel(**values) for values in json.loads(document or "[]")]


def dump_models(models: Iterable[EmbeddingModel]) -> str:
    """All models as one document, so that exactly one of them is the current one at any moment."""
    return json.dumps([asdict(model) for model in models], ensure_ascii=False)


def find_model(models: Iterable[EmbeddingModel], name: str, version: str) -> EmbeddingModel | None:
    """The model of this name and version, or None."""
    return next((model for model in models if (model.name, model.version) == (name, version)), None)


def add_model(
    models: list[EmbeddingModel], model_id: int, name: str, version: str, dimension: int
) -> list[EmbeddingModel]:
    """With this model, current if none is; the same list if name and version are in it already."""
    if find_model(models, name, version):
        return models
    is_current = not any(model.is_current for model in models)
    return [*models, EmbeddingModel(model_id, name, version, dimension, is_current)]


def switch_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """With this model as the current one. Raises StoreError when it is not there."""
    if all(model.model_id != model_id for model in models):
        raise no_model(model_id)
    return [replace(model, is_current=model.model_id == model_id) for model in models]


def drop_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """Without this model. Raises StoreError when it is the current one or not there."""
    model = next((model for model in models if model.model_id == model_id), None)
    if model is None:
        raise no_model(model_id)
    if model.is_current:
        raise model_is_current(model_id)
    return [other for other in models if other != model]
