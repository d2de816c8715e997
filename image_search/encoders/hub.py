"""Download models from huggingface.co into the cache of its client, where other programs find them, too.

Only needed files are downloaded, the cache comes first, and retries are short.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from image_search.encoders.checkpoint import RECOMMENDED
from image_search.errors import ModelUnavailable

_TIMEOUT_SECONDS = 10
_BLOCK = 1 << 20
_LOCK_SECONDS = 0.5  # between two looks whether another program has ended its download
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
    """Files into the place where the hub's cache keeps them. One that broke off is continued, a damaged one replaced.

    The client itself begins such a file again from its start, which for weights may be gigabytes. Each is written under
    the client's own lock, because another program may download the same model.
    """
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name

    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    known_token = token or get_token()  # of a login with the client's own command
    headers = {"authorization": f"Bearer {known_token}"} if known_token else {}
    folder = repo_folder_name(repo_id=repo, repo_type="model")
    place = Path(constants.HF_HUB_CACHE, folder, "blobs")
    locks = Path(constants.HF_HUB_CACHE, ".locks", folder)
    for needed in (place, locks):
        needed.mkdir(parents=True, exist_ok=True)
    urls = [hf_hub_url(repo, name, revision=revision) for name in names]
    found = [get_hf_file_metadata(url, token=token or None, timeout=_TIMEOUT_SECONDS) for url in urls]
    progress = _Progress(sum(data.size or 0 for data in found), on_bytes)
    for name, url, data in zip(names, urls, found, strict=True):
        etag = data.etag or ""
        if not re.fullmatch(r"[\w.-]+", etag):  # the client has its own way for such a server
            continue
        file, part = place / etag, place / f"{etag}.part"
        with _hold_lock(locks / f"{etag}.lock", progress):
            _remove_damaged(file, etag)
            linked = place.parent / "snapshots" / revision / name
            if not linked.is_symlink():  # a copy, where the file system has no links
                _remove_damaged(linked, etag)
            if file.exists():
                progress.update(file.stat().st_size)
                continue
            here = part.stat().st_size if part.exists() else 0
            if data.size is not None and here > data.size:
                part.unlink()
                here = 0
            progress.update(here)
            with part.open("ab") as target:
                bar: Any = progress
                http_get(url, target, resume_size=here, headers=dict(headers), expected_size=data.size, _tqdm_bar=bar)
            if _remove_damaged(part, etag):  # the next download begins at its start
                raise OSError("a file of the model arrived damaged")
            part.replace(file)


class _Progress:
    """Stands in for the client's progress bar."""

    def __init__(self, total: int, on_bytes: GoOn) -> None:
        self._done, self._total, self._on_bytes = 0, total, on_bytes
        self.update(0)

    def update(self, count: int) -> None:
        self._done += count
        if not self._on_bytes(self._done, max(self._total, self._done)):
            raise DownloadStopped("The download was ended before it was complete. It goes on where it ended.")


@contextmanager
def _hold_lock(path: Path, progress: _Progress) -> Iterator[None]:
    """Wait while another program downloads this file, unless the caller of the download wants no more."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # exported without "as"

    with ExitStack() as stack:
        while True:
            with suppress(TimeoutError):
                stack.enter_context(WeakFileLock(path, timeout=_LOCK_SECONDS))
                break
            progress.update(0)
        yield


def _remove_damaged(path: Path, etag: str) -> bool:
    """Remove a file that is not the one its etag promises: the SHA-256, of a small file git's SHA-1 or the plain one.

    Returns whether it was removed. An etag of another kind promises nothing.
    """
    if not path.is_file() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag):
        return False
    blob = f"blob {path.stat().st_size}\0".encode()
    starts = [hashlib.sha256()] if len(etag) == 64 else [hashlib.sha1(blob), hashlib.sha1()]
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for digest in starts:
                digest.update(block)
    if etag in [digest.hexdigest() for digest in starts]:
        return False
    path.unlink()
    return True


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
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) <= set(names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # damaged
        return False


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
