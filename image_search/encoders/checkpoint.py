"""Find a model's files, read their configuration and compute their version; load no model."""

from __future__ import annotations

import hashlib
import json
import re
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
        from image_search.encoders.hub import fetch_folder

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
        raise ModelUnavailable(f"{path} cannot be read ({error}). {advise_again(path.parent)}.") from error
    if not isinstance(config, dict):
        raise ModelUnavailable(f"{path} is not a model's configuration. {advise_again(path.parent)}.")
    return config


def advise_again(folder: Path) -> str:
    """How to get the files of a damaged model once more, without a full stop."""
    if folder.parent.name == "snapshots":  # in the hub's cache, which is used as it is
        return f"Delete {folder.parents[1]}, so that the model is downloaded again"
    return "Copy or download the model again"


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
