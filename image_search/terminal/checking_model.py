"""--check: the model of the settings, and whether it is the one that the library was embedded with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from image_search.encoders import LazyEncoder, open_encoder
from image_search.encoders.checkpoint import find_folder, refuse_missing_folder
from image_search.encoders.hub import find_cached
from image_search.encoders.registry import KNOWN_MODELS
from image_search.errors import EncoderError
from image_search.records import Finding, StoreStatus
from image_search.settings import Settings


def check_model(settings: Settings, status: StoreStatus | None) -> Iterator[Finding]:
    """Load the model and embed with it, and compare it with the library. Downloads nothing."""
    model = settings.embedding_model
    encoder = open_encoder(settings)
    try:
        folder = find_folder(model)
        if folder is None:
            refuse_missing_folder(model)
            folder = find_cached(model, _find_revision(settings))
        if folder is None:
            remedy = "The first search or registration downloads it. A gated model needs HF_TOKEN."
            yield Finding("model", False, f"{model} is not on this machine yet", remedy)
            return
        yield Finding("model", True, f"{encoder.name} ({encoder.version}), {encoder.dimension} dimensions, {folder}")
        yield _try_encoder(encoder, settings)
    except EncoderError as error:
        yield Finding("model", False, f"{model} does not load", str(error))
        return
    if status is not None:
        yield _compare(encoder, settings, status)


def _find_revision(settings: Settings) -> str:
    known = KNOWN_MODELS.get(settings.embedding_model)
    return settings.embedding_model_revision or (known.revision if known else "")


def _try_encoder(encoder: LazyEncoder, settings: Settings) -> Finding:
    embeddings = [encoder.encode_images([Image.new("RGB", (64, 64))])]
    if encoder.supports_text:
        embeddings.append(encoder.encode_texts(["猫"]))
    what = (
        f"{encoder.device} in {encoder.precision} (DEVICE {settings.device}, PRECISION {settings.precision}), "
        f"pictures {'and words' if encoder.supports_text else 'only'}"
    )
    if any(embedding.shape != (1, encoder.dimension) or not np.isfinite(embedding).all() for embedding in embeddings):
        return Finding("device", False, f"{what}, embeddings are damaged", "Set PRECISION to float32.")
    return Finding("device", True, what)


def _compare(encoder: LazyEncoder, settings: Settings, status: StoreStatus) -> Finding:
    current = next((model for model, _ in status.models if model.is_current), None)
    if current is None:
        return Finding("model in use", True, "the library has none yet: the first one used becomes the current one")
    if (current.name, current.version) == (encoder.name, encoder.version):
        return Finding("model in use", True, "the library's current one")
    count = next((n for model, n in status.models if (model.name, model.version) == (encoder.name, encoder.version)), 0)
    has_changed = current.name == encoder.name
    other = "another version of it" if has_changed else current.name
    return Finding(
        "model in use",
        False,
        f"{encoder.name} ({encoder.version}) has embedded {count:,} of {status.image_count:,} images; "
        f"the library's current model is {other} ({current.version})",
        f"Run: python register_images.py --model {settings.embedding_model} --make-current"
        + ("" if has_changed else f"; or set EMBEDDING_MODEL to {current.name}"),
    )
