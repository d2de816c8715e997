"""Where a model's files are, what they say about themselves, and which version they are. Without loading anything."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_search.encoders.registry import FAMILIES, KNOWN_MODELS, RECOMMENDED, Family
from image_search.errors import ModelUnavailable
from image_search.settings import ROOT, Settings

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
        return f"{self.content}/p{FAMILIES[self.family].recipe}/{PRECISION_CLASS}"


def name_model(model: str) -> str:
    """What EMBEDDING_MODEL is called: a hub id, or a folder below the project, or else the folder's own name."""
    folder = find_folder(model)
    if folder is None:
        return model
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder.name


def find_folder(model: str) -> Path | None:
    """The folder that EMBEDDING_MODEL names, relative to the project or to the current directory; None for a hub id."""
    path = Path(model).expanduser()
    for folder in (ROOT / path, Path.cwd() / path):
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
    model = settings.embedding_model
    known = KNOWN_MODELS.get(model)
    folder = find_folder(model)
    is_pinned = False
    if folder is None:
        refuse_missing_folder(model)
        from image_search.encoders.hub import fetch_folder

        revision = settings.embedding_model_revision or (known.revision if known else "")
        folder = fetch_folder(model, revision, settings.hf_token)
        is_pinned = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
        content = folder.name[:12]
    else:
        content = _sign_folder(folder)
    config = _read_json(folder / "config.json", model)
    may_run = settings.trust_remote_code or (known is not None and known.remote_code and is_pinned)
    if "auto_map" in config and not may_run:
        raise ModelUnavailable(
            f"{model} brings Python code of its own, which is run only with your consent: look at it, then set "
            "TRUST_REMOTE_CODE=1"
            + (", or EMBEDDING_MODEL_REVISION to the full commit you looked at" if known and known.remote_code else "")
            + f"; or choose another EMBEDDING_MODEL, such as {RECOMMENDED}."
        )
    return Checkpoint(name_model(model), folder, config, content, _name_family(config), may_run)


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
    if looks_like_hub_id and not (len(path.parts) == 2 and (ROOT / path.parts[0]).is_dir()):
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


def _sign_folder(folder: Path) -> str:
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
