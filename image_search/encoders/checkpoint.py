"""Find a model's files, here or on huggingface.co, read their configuration and compute their version; load no model.

Only needed files are downloaded, the cache comes first, and retries are short.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_search.errors import ModelUnavailable
from image_search.settings import BUNDLED, Settings

# Models people are likely to choose, one line each. Any other model that AutoModel knows works without a line here.


@dataclass(frozen=True)
class Family:
    """How one kind of model is driven.

    loader: function of two_tower.py that loads its network.
    recipe: number of the preprocessing recipe; raise it when embeddings of the family change.
    """

    loader: str
    preprocessing_version: int
    supports_text: bool


FAMILIES = {
    "clip": Family("load_clip", 1, supports_text=True),
    "japanese_stable_clip": Family("load_japanese_stable_clip", 1, supports_text=True),
    "vision": Family("load_vision", 1, supports_text=False),
    "vgg": Family("load_vgg", 1, supports_text=False),
}


@dataclass(frozen=True)
class KnownModel:
    """Facts of a model that is not on this machine yet.

    parameters:  millions of them, each four bytes of the download and of memory.
    languages:   ISO 639-1 codes of the words it knows, "mul" for a hundred and more, "" for a model of images only.
    revision:    commit that a download is pinned to; a model that brings its own code runs only when it has one.
    gated:       its licence has to be accepted at the model's page first.
    remote_code: its repository holds Python code that must be run.
    """

    repo: str
    dimension: int
    licence: str
    parameters: int
    languages: str
    family: str = "clip"
    gated: bool = False
    remote_code: bool = False
    revision: str = ""


RECOMMENDED = "llm-jp/waon-siglip2-base-patch16-256"

_MODELS = (
    KnownModel(RECOMMENDED, 768, "Apache-2.0", 375, "ja en"),
    KnownModel(
        "stabilityai/japanese-stable-clip-vit-l-16", 768, "Stability AI Community", 415, "ja",
        family="japanese_stable_clip", gated=True, remote_code=True,
    ),
    KnownModel("google/siglip2-base-patch16-256", 768, "Apache-2.0", 375, "mul"),
    KnownModel("google/siglip2-large-patch16-256", 1024, "Apache-2.0", 882, "mul"),
    KnownModel("google/siglip2-so400m-patch14-384", 1152, "Apache-2.0", 1136, "mul"),
    KnownModel("google/siglip-base-patch16-256-multilingual", 768, "Apache-2.0", 371, "mul"),
    KnownModel("openai/clip-vit-base-patch32", 512, "MIT", 151, "en"),
    KnownModel("openai/clip-vit-base-patch16", 512, "MIT", 150, "en"),
    KnownModel("openai/clip-vit-large-patch14", 768, "MIT", 428, "en"),
    KnownModel("openai/clip-vit-large-patch14-336", 768, "MIT", 428, "en"),
    KnownModel("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 512, "MIT", 151, "en"),
    KnownModel("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 1024, "MIT", 986, "en"),
    KnownModel("OFA-Sys/chinese-clip-vit-base-patch16", 512, "Apache-2.0", 188, "zh"),
    KnownModel("OFA-Sys/chinese-clip-vit-large-patch14", 768, "Apache-2.0", 407, "zh"),
    KnownModel("OFA-Sys/chinese-clip-vit-huge-patch14", 1024, "Apache-2.0", 958, "zh"),
    KnownModel("kakaobrain/align-base", 640, "not stated", 172, "en"),
    KnownModel("facebook/dinov2-small", 384, "Apache-2.0", 22, "", family="vision"),
    KnownModel("facebook/dinov2-base", 768, "Apache-2.0", 87, "", family="vision"),
    KnownModel("facebook/dinov2-large", 1024, "Apache-2.0", 304, "", family="vision"),
    KnownModel("facebook/dinov3-vitb16-pretrain-lvd1689m", 768, "DINOv3", 86, "", family="vision", gated=True),
    KnownModel("microsoft/resnet-50", 2048, "Apache-2.0", 26, "", family="vision"),
    KnownModel("timm/vgg19.tv_in1k", 512, "BSD-3-Clause", 144, "", family="vgg"),
)  # fmt: skip

KNOWN_MODELS = {model.repo: model for model in _MODELS}


# float32, bfloat16 and float16 embeddings of one model agree to a cosine of 0.9999 and may be searched together.
PRECISION_CLASS = "float"

_SUFFIXES = (".json", ".txt", ".model", ".py", ".safetensors", ".bin")
_WHOLE_FILE, _STRIDE, _SAMPLE = 64 << 20, 1 << 20, 64 << 10

# Where each kind of configuration says how long its embeddings are. Other kinds are loaded to find out.
_DIMENSION_KEYS = {
    **dict.fromkeys(("clip", "chinese_clip", "align", "vision-text-dual-encoder", "altclip"), ("projection_dim",)),
    **dict.fromkeys(("siglip", "siglip2"), ("vision_config", "hidden_size")),
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit"), ("hidden_size",)),
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder in Hugging Face's layout.

    content:      twelve letters that change whenever the weights or the way they are fed change.
    remote_code:  whether the Python code in the folder may be run.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    content: str
    family: str
    remote_code: bool

    @property
    def version(self) -> str:
        """Weights, preprocessing recipe and precision class."""
        return f"{self.content}/p{FAMILIES[self.family].preprocessing_version}/{PRECISION_CLASS}"


def canonical_name(model: str) -> str:
    """The name of EMBEDDING_MODEL: a hub id, or a folder below the project, or else the folder's own name."""
    folder = find_folder(model)
    if folder is None:
        return model
    return folder.relative_to(BUNDLED).as_posix() if folder.is_relative_to(BUNDLED) else folder.name


def find_folder(model: str) -> Path | None:
    """The folder that EMBEDDING_MODEL names, relative to the project or to the current directory; None for a hub id."""
    path = Path(model).expanduser()
    for folder in (BUNDLED / path, Path.cwd() / path):
        if folder.is_dir():
            return folder.resolve()
    return None


def find_family(model: str, config: dict[str, Any] | None) -> Family | None:
    """How the model is driven, as far as is known without its files."""
    if config is not None:
        return FAMILIES[_name_family(config)]
    known = KNOWN_MODELS.get(model)
    return FAMILIES[known.family] if known else None


def find_dimension(model: str, config: dict[str, Any] | None) -> int | None:
    """Length of the embeddings, as far as is known without loading the model."""
    known = KNOWN_MODELS.get(model)
    if known is not None or config is None:
        return known.dimension if known else None
    if _name_family(config) == "vgg":
        return 512
    value: Any = config
    for key in _DIMENSION_KEYS.get(str(config.get("model_type")), ("-",)):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None


def read_config(model: str) -> dict[str, Any] | None:
    """config.json of a model whose files are here in a folder; None for a hub id."""
    folder = find_folder(model)
    return None if folder is None else _read_json(folder / "config.json", model)


def open_checkpoint(settings: Settings) -> Checkpoint:
    """Find the files that EMBEDDING_MODEL names, downloading them the first time. Raises ModelUnavailable."""
    model = settings.model
    known = KNOWN_MODELS.get(model)
    folder = find_folder(model)
    is_pinned = False
    if folder is None:
        refuse_missing_folder(model)
        revision = settings.embedding_model_revision or (known.revision if known else "")
        folder = fetch_folder(model, revision, settings.hf_token)
        is_pinned = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
        content = folder.name[:12]
    else:
        content = _fingerprint(folder)
    config = _read_json(folder / "config.json", model)
    may_run = settings.trust_remote_code or (known is not None and known.remote_code and is_pinned)
    if "auto_map" in config and not may_run:
        raise ModelUnavailable(
            f"{model} brings Python code of its own, which is run only with your consent: look at it, then set "
            "TRUST_REMOTE_CODE=1"
            + (", or EMBEDDING_MODEL_REVISION to the full commit you looked at" if known and known.remote_code else "")
            + f"; or choose another EMBEDDING_MODEL, such as {RECOMMENDED}.",
            "remote_code",
        )
    return Checkpoint(canonical_name(model), folder, config, content, _name_family(config), may_run)


def _name_family(config: dict[str, Any]) -> str:
    kind = str(config.get("model_type") or config.get("architecture") or "")
    if kind == "japanese_stable_clip":
        return "japanese_stable_clip"
    if kind == "vgg19":
        return "vgg"
    return "clip" if "text_config" in config else "vision"


def refuse_missing_folder(model: str) -> None:
    """Raise ModelUnavailable for the path of a folder that is not there; a hub id passes."""
    path = Path(model).expanduser()
    looks_like_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model) is not None
    if looks_like_hub_id and not (len(path.parts) == 2 and (BUNDLED / path.parts[0]).is_dir()):
        return
    raise ModelUnavailable(
        f"EMBEDDING_MODEL is {model}, but there is no such folder. Correct the path, or choose a model by its "
        f"Hugging Face id, such as {RECOMMENDED}."
    )


def _read_json(path: Path, model: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelUnavailable(
            f"{model} has no {path.name} in {path.parent}: it is not a checkpoint in Hugging Face's format. "
            "Set EMBEDDING_MODEL to a folder that is."
        ) from None
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} cannot be read ({error}). Copy or download the model again.") from error
    if not isinstance(config, dict):
        raise ModelUnavailable(f"{path} is not a model's configuration. Copy or download the model again.")
    return config


def _fingerprint(folder: Path) -> str:
    """Hash names, sizes and contents of what shapes an embedding.

    Of files over 64 MiB one sixteenth is read, spread evenly: training touches every large tensor, so no new weights
    escape, and ten gigabytes take half a second. Times are left out: a copy is the same model.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if any(path.suffix == ".safetensors" for path in paths):
        paths = [path for path in paths if path.suffix != ".bin"]
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_FILE:
                while block := file.read(_STRIDE):
                    digest.update(block)
            else:
                for start in range(0, size, _STRIDE):
                    file.seek(start)
                    digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:12]


# Downloads from huggingface.co.

_TIMEOUT_SECONDS = 10
_CHUNK = 1 << 16  # bytes that are lost at most when a slow line breaks off; the client itself takes ten megabytes
_CONFIGURATION = re.compile(r"[^/]+\.(json|txt|model|py)")
_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_PYTORCH = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")


def set_hub_environment() -> None:
    """Turn off telemetry and background conversions; read by the libraries when they are first imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(_TIMEOUT_SECONDS))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


GoOn = Callable[[int, int], bool]  # bytes that are here, and of all files; returns whether to go on


class DownloadStopped(ModelUnavailable):
    """A download was ended by its caller; the next one takes it up where it ended."""


def fetch_folder(repo: str, revision: str, token: str, on_bytes: GoOn | None = None) -> Path:
    """Folder of the model in the hub's cache, named after its commit; downloaded when it is not there yet.

    Cached files are used as they are, so that a model does not change between two runs: set
    EMBEDDING_MODEL_REVISION to move to another commit. Raises ModelUnavailable, DownloadStopped.
    """
    if (folder := find_cached(repo, revision)) is not None:
        return folder
    from huggingface_hub import HfApi, constants, snapshot_download

    wanted = revision or "main"
    if constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            f"{repo} is not on this machine and HF_HUB_OFFLINE is set. Unset it once to download the model, or set "
            "EMBEDDING_MODEL to a folder that is here, such as demo/model.",
            "offline",
        )
    try:
        info = HfApi(token=token or None).model_info(repo, revision=wanted, timeout=_TIMEOUT_SECONDS)
        files = choose_files([sibling.rfilename for sibling in info.siblings or []])
        if not files:
            raise ModelUnavailable(
                f"{repo} has no config.json with PyTorch weights beside it. Choose another EMBEDDING_MODEL, such as "
                f"{RECOMMENDED}."
            )
        _fetch_files(repo, info.sha or wanted, files, token, on_bytes or (lambda *_: True))
        return Path(snapshot_download(repo, revision=wanted, allow_patterns=files, token=token or None))
    except ModelUnavailable:
        raise
    except Exception as error:
        # The client's errors come from three libraries and change between versions; each becomes one sentence.
        raise ModelUnavailable(*_explain(error, repo, revision, token)) from error


def _fetch_files(repo: str, revision: str, names: list[str], token: str, on_bytes: GoOn) -> None:
    """Files into the place where the hub's cache keeps them. A file that broke off is continued.

    The client itself begins such a file again from its start, which for weights may be gigabytes.
    """
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name

    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    known_token = token or get_token()  # of a login with the client's own command
    headers = {"authorization": f"Bearer {known_token}"} if known_token else {}
    place = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "blobs")
    place.mkdir(parents=True, exist_ok=True)
    urls = [hf_hub_url(repo, name, revision=revision) for name in names]
    found = [get_hf_file_metadata(url, token=token or None, timeout=_TIMEOUT_SECONDS) for url in urls]
    progress = _Progress(sum(data.size or 0 for data in found), on_bytes)
    for url, data in zip(urls, found, strict=True):
        etag = data.etag or ""
        if not re.fullmatch(r"[\w.-]+", etag):  # the client has its own way for such a server
            continue
        file, part = place / etag, place / f"{etag}.part"
        if not file.exists():
            here = part.stat().st_size if part.exists() else 0
            if data.size is not None and here > data.size:
                part.unlink()
                here = 0
            progress.update(here)
            with part.open("ab") as target:
                bar: Any = progress
                http_get(url, target, resume_size=here, headers=dict(headers), expected_size=data.size, _tqdm_bar=bar)
            _check_content(part, etag)
            part.replace(file)
        else:
            progress.update(file.stat().st_size)


class _Progress:
    """Stands in for the client's progress bar."""

    def __init__(self, total: int, on_bytes: GoOn) -> None:
        self._done, self._total, self._on_bytes = 0, total, on_bytes
        self.update(0)

    def update(self, count: int) -> None:
        self._done += count
        if not self._on_bytes(self._done, max(self._total, self._done)):
            raise DownloadStopped("The download was ended before it was complete. It goes on where it ended.")


def _check_content(part: Path, etag: str) -> None:
    """Raise OSError when a file is not the one that its hash promises; the next download begins at its start."""
    if not re.fullmatch(r"[0-9a-f]{64}", etag):
        return  # a small file of the repository, not one of its large ones
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != etag:
        part.unlink()
        raise OSError("a file of the model arrived damaged")


def find_cached(repo: str, revision: str) -> Path | None:
    """Folder of a model that was downloaded before, as a whole; None when it was not. No network access."""
    set_hub_environment()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError, FileNotFoundError):
        folder = Path(snapshot_download(repo, revision=revision or "main", local_files_only=True))
        if _is_complete(folder):
            return folder
    return None


def choose_files(names: list[str]) -> list[str]:
    """The needed files of a repository: configuration, code, and the weights in one format only.

    Empty when there is no config.json or no weights.
    """
    weights = [name for name in names if _SAFETENSORS.fullmatch(name)] or [
        name for name in names if _PYTORCH.fullmatch(name)
    ]
    if "config.json" not in names or not weights:
        return []
    return [name for name in names if _CONFIGURATION.fullmatch(name)] + weights


def _is_complete(folder: Path) -> bool:
    """Whether an earlier download into the cache came to its end."""
    names = [path.name for path in folder.iterdir() if path.exists()]
    if not choose_files(names):
        return False
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if name in names and not _lists_files_that_exist(folder / name, names):
            return False
    return True


def _lists_files_that_exist(index: Path, names: list[str]) -> bool:
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) <= set(names)


def _explain(error: Exception, repo: str, revision: str, token: str) -> tuple[str, str]:
    """The sentence and the code of a ModelUnavailable."""
    from huggingface_hub import constants, errors

    page = f"https://huggingface.co/{repo}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repo} is offered under a licence that has to be accepted first: accept it at {page}, then set HF_TOKEN "
            f"to a token of that account; or choose another EMBEDDING_MODEL, such as {RECOMMENDED}."
        ), "gated"
    if isinstance(error, errors.RevisionNotFoundError):
        sentence = f"{repo} has no revision {revision or 'main'}. Correct EMBEDDING_MODEL_REVISION or leave it empty."
        return sentence, "not_found"
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"EMBEDDING_MODEL is {repo}, which is neither a folder here nor a model on huggingface.co that this "
            "HF_TOKEN can see. Correct the name; a private model needs a token of an account that may read it."
        ), "not_found"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        sentence = f"huggingface.co refused HF_TOKEN for {repo}. Set HF_TOKEN to a valid token that may read {page}."
        return sentence, "gated"
    if isinstance(error, OSError) and error.errno is not None and status is None and not _is_network(error):
        sentence = f"{repo} could not be written to the model cache ({error.strerror}). Free some room or set HF_HOME."
        return sentence, "disk"
    reason = str(error).split("\n")[0][:200]
    if token:
        reason = reason.replace(token, "***")
    server = constants.ENDPOINT.removeprefix("https://")
    return (
        f"{repo} is not on this machine and {server} could not be reached ({type(error).__name__}: {reason}). "
        "Connect to the network once, or set EMBEDDING_MODEL to a folder that is here, such as demo/model."
    ), "offline"


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
