"""A loaded model on its device: images and words in, checked rows of length 1 out."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from importlib import import_module
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image

from image_search.encoders.base import Embeddings
from image_search.encoders.checkpoint import FAMILIES, RECOMMENDED, Checkpoint, advise_again, find_dimension
from image_search.encoders.two_tower import Towers
from image_search.errors import EncoderError, ImageSearchError, ModelUnavailable

# Which processor, and with how many bits.

# Below this a network is so quick that converting it, and its rounding, buys nothing.
WORTH_HALF_PRECISION = 50_000_000
# Below this one thread is as quick as several, which wait for each other after every layer. Where other work keeps one
# of them from a core, the others spin meanwhile: 60 ms of CPU for a text that takes 1.6 ms in one thread.
WORTH_SEVERAL_THREADS = 20_000_000
MIN_COSINE = 0.999
_FRAME = 4  # tokens that a tokenizer puts around a text at most
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(setting: str) -> torch.device:
    """The device for DEVICE auto, cpu or cuda. Raises ModelUnavailable when cuda is set but not available."""
    if setting == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if setting == "cuda":
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no NVIDIA GPU"
        raise ModelUnavailable(f"DEVICE is cuda, but {why}. Set DEVICE to auto or cpu, or repair the installation.")
    return torch.device("cpu")


def choose_dtype(setting: str, device: torch.device, parameters: int) -> torch.dtype:
    """The number format for PRECISION auto, float32, bfloat16 or float16.

    Raises ModelUnavailable for float16 on a CPU, where it is five times slower than float32.
    """
    if setting == "float16" and device.type == "cpu":
        raise ModelUnavailable("PRECISION float16 needs a GPU. Set PRECISION to auto, float32 or bfloat16.")
    if setting != "auto":
        return DTYPES[setting]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if parameters >= WORTH_HALF_PRECISION and _cpu_computes_bfloat16() else torch.float32


def _cpu_computes_bfloat16() -> bool:
    # Emulated, bfloat16 is two to four times slower than float32.
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def suggest_batch_size(device: torch.device) -> int:
    """Images in a batch: on a CPU more than eight only fall out of the cache."""
    return 8 if device.type == "cpu" else 128


# Parts of a batch side by side on the cores of a CPU, each computed by a thread of its own.
#
# PyTorch alone lets all cores work on one layer and wait for the slowest before the next, hundreds of times a batch.
# When anything else needs a core for a moment (files being read, another program) they all wait for it; lanes wait
# once.

_MAX_PARTS = 4  # every lane holds intermediate results of its own in memory


class CpuParallel:
    """Lanes, as many as PyTorch would use threads, up to four; these threads are shared out among them."""

    def __init__(self, threads: int) -> None:
        self.count = min(threads, _MAX_PARTS)
        self._workers = start_workers("embed", self.count, threads // self.count)

    def compute(self, embed: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        """embed for the whole batch, part by part. Several threads may call it at once; their parts take turns."""
        return torch.cat(list(self._workers.map(embed, batch.tensor_split(min(self.count, len(batch))))))


def start_workers(name: str, count: int, threads_each: int) -> ThreadPoolExecutor:
    """Threads for which PyTorch computes with that many threads each; for all others nothing changes."""
    arrived = threading.Barrier(count)
    default = torch.get_num_threads()

    def enter(_: int) -> None:
        torch.get_num_threads()  # the first look of a thread sets the default, even over an earlier setting
        torch.set_num_threads(threads_each)
        arrived.wait()  # so that every worker does this once

    workers = ThreadPoolExecutor(count, thread_name_prefix=name)
    list(workers.map(enter, range(count)))
    # The number of threads that a thread sets for itself becomes the default of later threads.
    torch.set_num_threads(default)
    return workers


# Texts of several callers in one batch: for a small network one alone costs four times as much as one of sixteen.

MAX_TEXTS = 16
_SHORT = 32  # letters; texts up to twice as long share a batch, for all are padded to the longest


class TextBatches:
    """Embeds texts in one thread. Those that arrive while it computes are its next batch."""

    def __init__(self, embed: Callable[[Sequence[str]], torch.Tensor], threads: int) -> None:
        """embed: a tensor (n, dimension) for n texts. threads: of PyTorch."""
        self._embed = embed
        self._worker = start_workers("embed texts", 1, threads)
        self._lock = threading.Lock()
        self._waiting: list[tuple[Sequence[str], Future[torch.Tensor]]] = []

    def compute(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, dimension) for at least one text. A long list lets other callers in after each batch."""
        parts = [texts[start : start + MAX_TEXTS] for start in range(0, len(texts), MAX_TEXTS)]
        return torch.cat([self._ask(part) for part in parts])

    def _ask(self, texts: Sequence[str]) -> torch.Tensor:
        answer = Future[torch.Tensor]()
        with self._lock:
            self._waiting.append((texts, answer))
        self._worker.submit(self._compute_next)  # finds nothing to do where an earlier batch took these texts, too
        return answer.result()

    def _compute_next(self) -> None:
        batch = self._take()
        if not batch:
            return
        try:
            rows = self._embed([text for texts, _ in batch for text in texts])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for texts, answer in batch:  # one text that the model chokes on fails alone
                try:
                    answer.set_result(self._embed(texts))
                except Exception as its_own:
                    answer.set_exception(its_own)
            return
        for (_, answer), part in zip(batch, torch.split(rows, [len(texts) for texts, _ in batch]), strict=True):
            answer.set_result(part)

    def _take(self) -> list[tuple[Sequence[str], Future[torch.Tensor]]]:
        """The caller that waits longest, and those whose texts are about as long."""
        batch: list[tuple[Sequence[str], Future[torch.Tensor]]] = []
        count = 0
        with self._lock:
            for asked in list(self._waiting):
                if not batch or (count + len(asked[0]) <= MAX_TEXTS and _measure(asked[0]) == _measure(batch[0][0])):
                    batch.append(asked)
                    count += len(asked[0])
                    self._waiting.remove(asked)
        return batch


def _measure(texts: Sequence[str]) -> int:
    return max(_SHORT, *map(len, texts)).bit_length()


class Runner:
    """Runs one model. May be called from several threads."""

    def __init__(self, name: str, towers: Towers, device: torch.device) -> None:
        self.name = name
        self.towers = towers
        self.device = device
        self.dtype = torch.float32
        self.batch_size = suggest_batch_size(device)
        self.parameters = sum(parameter.numel() for parameter in towers.network.parameters())
        self._is_small = device.type == "cpu" and self.parameters < WORTH_SEVERAL_THREADS
        self._computing = threading.Lock()
        self._tokenizing = threading.Lock()  # tokenizers keep state between calls
        self._opening = threading.Lock()
        self._lanes: CpuParallel | None = None
        self._texts: TextBatches | None = None
        # Convolutions of few channels take two thirds of the time when the channels of a pixel lie side by side.
        towers.network.to(device, memory_format=torch.channels_last if self._is_small else torch.preserve_format)

    def convert(self, dtype: torch.dtype) -> None:
        """Compute in another number format from now on."""
        # Some networks (LeViT) keep tables of the old format from their last run and drop them when training begins.
        self.towers.network.to(dtype).train().eval()
        self.dtype = dtype

    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """float32 (n, dimension) for at least one image, rows of length 1. Raises EncoderError."""
        return self.embed_pixels(torch.from_numpy(np.stack([self.towers.prepare(image) for image in images])))

    def embed_pixels(self, pixels: torch.Tensor) -> Embeddings:
        """The same for prepared images, (n, 3, height, width)."""
        if self._is_small or (len(pixels) > 1 and self.device.type == "cpu"):
            return self._check(lambda: self._open_lanes().compute(self._embed_pixels, pixels), len(pixels))
        return self._check(lambda: self._embed_alone(lambda: self._embed_pixels(pixels)), len(pixels))

    def is_too_long(self, text: str) -> bool:
        """Whether the model reads the beginning of this text only."""
        # A token stands for a byte at least, so that most texts need not wait for the tokenizer.
        if len(normalize("NFKD", text).encode("utf-8", "surrogatepass")) + _FRAME <= self.towers.max_tokens:
            return False
        with self._tokenizing:
            return self.towers.is_too_long(text)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """float32 (n, dimension) for at least one text, rows of length 1. Raises EncoderError."""
        return self._check(lambda: self._open_texts().compute(texts), len(texts))

    def _embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return _normalize(self.towers.embed_pixels(pixels.to(self.device, self.dtype)))

    def _embed_tokens(self, texts: Sequence[str]) -> torch.Tensor:
        with self._tokenizing:
            tokens = self.towers.tokenize(texts)
        with nullcontext() if self._is_small else self._computing, torch.inference_mode():
            return _normalize(self.towers.embed_tokens({name: ids.to(self.device) for name, ids in tokens.items()}))

    def _embed_alone(self, embed: Callable[[], torch.Tensor]) -> torch.Tensor:
        # Two batches at once gain nothing on a GPU, nor on cores that all work on each batch.
        with self._computing:
            return embed()

    def _open_texts(self) -> TextBatches:
        with self._opening:
            if self._texts is None:
                self._texts = TextBatches(self._embed_tokens, 1 if self._is_small else torch.get_num_threads())
            return self._texts

    def _open_lanes(self) -> CpuParallel:
        with self._opening:
            if self._lanes is None:
                self._lanes = CpuParallel(torch.get_num_threads())
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
    """Load a model, test it on an image and a text, and choose the best precision. Raises ModelUnavailable."""
    device = choose_device(device_setting)
    runner = _load(checkpoint, device)
    dtype = choose_dtype(precision_setting, device, runner.parameters)
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
    if precision_setting == "auto" and nearest < MIN_COSINE:
        # The rounding cannot be undone, so the weights are read again.
        runner = _load(checkpoint, device)
    return runner


# While transformers reads a network, its number format is the default of all of PyTorch. If two were read at once,
# that of one could stay the default for good.
_loading = threading.Lock()


def _load(checkpoint: Checkpoint, device: torch.device) -> Runner:
    name, folder = checkpoint.name, checkpoint.folder
    try:
        load = getattr(import_module("image_search.encoders.two_tower"), FAMILIES[checkpoint.family].loader)
        with _loading:
            return Runner(name, load(checkpoint), device)
    except ImageSearchError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _say_too_large(name, device) from error
    except Exception as error:
        # Broken files, foreign code and unknown architectures raise anything; each becomes one sentence.
        # Libraries report a lack of memory by errors of many types.
        if "allocate memory" in str(error).lower() or getattr(error, "errno", None) == errno.ENOMEM:
            raise _say_too_large(name, device) from error
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else '-'}"
        advice = f"{advise_again(folder)}, or choose another EMBEDDING_MODEL, such as {RECOMMENDED}."
        if checkpoint.remote_code and "auto_map" in checkpoint.config:
            advice = "Its own code may need older libraries: pip install -r requirements-legacy.txt"
        raise ModelUnavailable(f"{name} cannot be loaded from {folder} ({reason}). {advice}") from error


def _say_too_large(name: str, device: torch.device) -> ModelUnavailable:
    return ModelUnavailable(
        f"{name} does not fit into the memory of the {device.type}. Choose a smaller EMBEDDING_MODEL or another DEVICE."
    )


def _probe(checkpoint: Checkpoint, runner: Runner) -> Embeddings:
    """Embeddings of an image, and of a text where the model takes any. Raises ModelUnavailable when they are unfit."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels[:, :32] = np.linspace(0, 255, 32, dtype=np.uint8)[:, None]
    try:
        rows = [runner.embed_images([Image.fromarray(pixels)])]
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
            f"configuration promises {expected}. {advise_again(checkpoint.folder)}, or choose another EMBEDDING_MODEL."
        )
    if len(dimensions) > 1:
        raise ModelUnavailable(
            f"{checkpoint.name} does not embed pictures and words in one space. Choose another EMBEDDING_MODEL, "
            "see docs/models.md."
        )
    return np.concatenate(rows)
