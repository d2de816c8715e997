"""A loaded model on its device: pictures and words in, checked rows of length 1 out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np
import torch
from PIL import Image

from image_search.encoders.base import Embeddings
from image_search.encoders.checkpoint import Checkpoint, find_dimension
from image_search.encoders.devices import LEAST_COSINE, choose_device, choose_dtype, suggest_batch_size
from image_search.encoders.lanes import Lanes
from image_search.encoders.registry import FAMILIES, RECOMMENDED
from image_search.encoders.towers import Towers
from image_search.errors import EncoderError, ImageSearchError, ModelUnavailable


class Runner:
    """Runs one model. May be called from several threads."""

    def __init__(self, name: str, towers: Towers, device: torch.device) -> None:
        self.name = name
        self.towers = towers
        self.device = device
        self.dtype = torch.float32
        self.batch_size = suggest_batch_size(device)
        self._computing = threading.Lock()
        self._lanes: Lanes | None = None
        towers.network.to(device)

    def convert(self, dtype: torch.dtype) -> None:
        """Compute in another number format from now on."""
        # Some networks (LeViT) keep tables of the old format from their last run and drop them when training begins.
        self.towers.network.to(dtype).train().eval()
        self.dtype = dtype

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """float32 (n, dimension) for at least one picture, rows of length 1. Raises EncoderError."""
        return self.embed_pixels(torch.from_numpy(np.stack([self.towers.prepare(image) for image in images])))

    def embed_pixels(self, pixels: torch.Tensor) -> Embeddings:
        """The same for prepared pictures, (n, 3, height, width)."""
        if len(pixels) > 1 and self.device.type == "cpu":
            return self._check(lambda: self._open_lanes().compute(self._embed_pixels, pixels), len(pixels))
        return self._check(lambda: self._embed_alone(lambda: self._embed_pixels(pixels)), len(pixels))

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """float32 (n, dimension) for at least one text, rows of length 1. Raises EncoderError."""
        return self._check(lambda: self._embed_alone(lambda: self._embed_tokens(texts)), len(texts))

    def _embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return _normalize(self.towers.embed_pixels(pixels.to(self.device, self.dtype)))

    def _embed_tokens(self, texts: Sequence[str]) -> torch.Tensor:
        with torch.inference_mode():
            tokens = self.towers.tokenize(texts)
            return _normalize(self.towers.embed_tokens({name: ids.to(self.device) for name, ids in tokens.items()}))

    def _embed_alone(self, embed: Callable[[], torch.Tensor]) -> torch.Tensor:
        # Tokenizers keep state between calls, and a GPU gains nothing from two at once.
        with self._computing:
            return embed()

    def _open_lanes(self) -> Lanes:
        with self._computing:
            if self._lanes is None:
                self._lanes = Lanes(torch.get_num_threads())
            return self._lanes

    def _check(self, embed: Callable[[], torch.Tensor], count: int) -> Embeddings:
        try:
            embeddings: Embeddings = embed().numpy()
        except torch.OutOfMemoryError as error:
            raise EncoderError(
                f"The GPU has no memory left for a batch of {count} with {self.name}. Use a smaller --batch-size, or "
                "set DEVICE to cpu."
            ) from error
        if not np.allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-3):
            raise EncoderError(
                f"{self.name} gave an embedding that is not finite or has no length, computing in {self.precision}. "
                + ("" if self.dtype == torch.float32 else "Set PRECISION to float32; if that is no help: ")
                + "Copy or download the model again, or choose another EMBEDDING_MODEL."
            )
        return embeddings

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16."""
        return str(self.dtype).removeprefix("torch.")


def _normalize(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=-1).cpu()


def start_runner(checkpoint: Checkpoint, device_setting: str, precision_setting: str) -> Runner:
    """Load a model, prove it on a picture and a text, and give it the best precision. Raises ModelUnavailable."""
    device = choose_device(device_setting)
    runner = _load(checkpoint, device)
    parameters = sum(parameter.numel() for parameter in runner.towers.network.parameters())
    dtype = choose_dtype(precision_setting, device, parameters)
    reference = _probe(checkpoint, runner)
    if dtype == runner.dtype:
        return runner
    runner.convert(dtype)
    try:
        nearest = float((_probe(checkpoint, runner) * reference).sum(-1).min())
    except ModelUnavailable:
        if precision_setting != "auto":
            raise
        nearest = 0.0
    if precision_setting == "auto" and nearest < LEAST_COSINE:
        # The rounding cannot be undone, so the weights are read once more.
        runner = _load(checkpoint, device)
    return runner


def _load(checkpoint: Checkpoint, device: torch.device) -> Runner:
    name, folder = checkpoint.name, checkpoint.folder
    module = import_module(f"image_search.encoders.{FAMILIES[checkpoint.family].module}")
    try:
        return Runner(name, module.load_towers(checkpoint), device)
    except ImageSearchError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelUnavailable(
            f"{name} does not fit into the memory of the {device.type}. Choose a smaller EMBEDDING_MODEL or another "
            "DEVICE."
        ) from error
    except Exception as error:
        # Broken files, foreign code and unknown architectures raise anything; each becomes one sentence.
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else '-'}"
        advice = f"Copy or download the model again, or choose another EMBEDDING_MODEL, such as {RECOMMENDED}."
        if checkpoint.remote_code and "auto_map" in checkpoint.config:
            advice = "Its own code may need older libraries: pip install -r requirements-legacy.txt"
        raise ModelUnavailable(f"{name} cannot be loaded from {folder} ({reason}). {advice}") from error


def _probe(checkpoint: Checkpoint, runner: Runner) -> Embeddings:
    """Embeddings of a picture, and of a text where the model takes any. Raises ModelUnavailable when they are unfit."""
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture[:, :32] = np.linspace(0, 255, 32, dtype=np.uint8)[:, None]
    try:
        rows = [runner.embed_images([Image.fromarray(picture)])]
        if FAMILIES[checkpoint.family].supports_text:
            rows.append(runner.embed_texts(["a photo of a cat"]))
    except ImageSearchError as error:
        raise ModelUnavailable(str(error)) from error
    except Exception as error:
        raise ModelUnavailable(
            f"{checkpoint.name} fails on a test picture and a test text ({type(error).__name__}: {str(error)[:200]}). "
            f"Choose another EMBEDDING_MODEL, such as {RECOMMENDED}."
        ) from error
    dimensions = {row.shape[-1] for row in rows}
    expected = find_dimension(checkpoint.name, checkpoint.config)
    if expected is not None and dimensions != {expected}:
        raise ModelUnavailable(
            f"{checkpoint.name} gives embeddings of {' and '.join(map(str, sorted(dimensions)))} numbers where its "
            f"configuration promises {expected}. Download the model again, or choose another EMBEDDING_MODEL."
        )
    if len(dimensions) > 1:
        raise ModelUnavailable(
            f"{checkpoint.name} does not embed pictures and words in one space. Choose another EMBEDDING_MODEL, "
            "see docs/models.md."
        )
    return np.concatenate(rows)
