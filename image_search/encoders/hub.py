"""Downloads from huggingface.co: what is needed and no more, from the cache first, without long retries."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from image_search.encoders.checkpoint import RECOMMENDED
from image_search.errors import ModelUnavailable

_TIMEOUT_SECONDS = 10
_CONFIGURATION = re.compile(r"[^/]+\.(json|txt|model|py)")
_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_PYTORCH = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")


def set_hub_environment() -> None:
    """Turn off telemetry and background conversions; read by the libraries when they are first imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(_TIMEOUT_SECONDS))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def fetch_folder(repo: str, revision: str, token: str) -> Path:
    """Folder of the model in the hub's cache, named after its commit; downloaded when it is not there yet.

    Cached files are used as they are, so that a model does not change between two runs: set
    EMBEDDING_MODEL_REVISION to move to another commit. Raises ModelUnavailable.
    """
    if (folder := find_cached(repo, revision)) is not None:
        return folder
    from huggingface_hub import HfApi, constants, snapshot_download

    wanted = revision or "main"
    if constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            f"{repo} is not on this machine and HF_HUB_OFFLINE is set. Unset it once to download the model, or set "
            "EMBEDDING_MODEL to a folder that is here, such as demo/model."
        )
    try:
        info = HfApi(token=token or None).model_info(repo, revision=wanted, timeout=_TIMEOUT_SECONDS)
        files = choose_files([sibling.rfilename for sibling in info.siblings or []])
        if not files:
            raise ModelUnavailable(
                f"{repo} has no config.json with PyTorch weights beside it. Choose another EMBEDDING_MODEL, such as "
                f"{RECOMMENDED}."
            )
        return Path(snapshot_download(repo, revision=wanted, allow_patterns=files, token=token or None))
    except ModelUnavailable:
        raise
    except Exception as error:
        # The client's errors come from three libraries and change between versions; each becomes one sentence.
        raise ModelUnavailable(_explain(error, repo, revision, token)) from error


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
    """Of a repository's files those that are needed: configuration, code, and the weights in one format only.

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


def _explain(error: Exception, repo: str, revision: str, token: str) -> str:
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repo}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repo} is offered under a licence that has to be accepted first: accept it at {page}, then set HF_TOKEN "
            f"to a token of that account; or choose another EMBEDDING_MODEL, such as {RECOMMENDED}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {revision or 'main'}. Correct EMBEDDING_MODEL_REVISION or leave it empty."
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"EMBEDDING_MODEL is {repo}, which is neither a folder here nor a model on huggingface.co that this "
            "HF_TOKEN can see. Correct the name; a private model needs a token of an account that may read it."
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"huggingface.co refused HF_TOKEN for {repo}. Set HF_TOKEN to a valid token that may read {page}."
    if isinstance(error, OSError) and error.errno is not None and status is None:
        return f"{repo} could not be written to the model cache ({error.strerror}). Free some room or set HF_HOME."
    reason = str(error).split("\n")[0][:200]
    if token:
        reason = reason.replace(token, "***")
    return (
        f"{repo} is not on this machine and huggingface.co could not be reached ({type(error).__name__}: {reason}). "
        "Connect to the network once, or set EMBEDDING_MODEL to a folder that is here, such as demo/model."
    )
