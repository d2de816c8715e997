"""Models people are likely to choose, one line each. Any other model that AutoModel knows works without a line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How one kind of model is driven.

    module: file of this package with `load_towers`.
    recipe: number of the preprocessing recipe; raise it when embeddings of the family change.
    """

    module: str
    recipe: int
    supports_text: bool


FAMILIES = {
    "clip": Family("clip", 1, supports_text=True),
    "japanese_stable_clip": Family("japanese_stable_clip", 1, supports_text=True),
    "vision": Family("vision", 1, supports_text=False),
    "vgg": Family("vgg", 1, supports_text=False),
}


@dataclass(frozen=True)
class KnownModel:
    """What can be said of a model before any of its files is here.

    revision:    commit that a download is pinned to; a model that brings its own code runs only when it has one.
    gated:       its licence has to be accepted at the model's page first.
    remote_code: its repository holds Python code that must be run.
    """

    repo: str
    dimension: int
    licence: str
    family: str = "clip"
    gated: bool = False
    remote_code: bool = False
    revision: str = ""


RECOMMENDED = "llm-jp/waon-siglip2-base-patch16-256"

_MODELS = (
    KnownModel(RECOMMENDED, 768, "Apache-2.0"),
    KnownModel(
        "stabilityai/japanese-stable-clip-vit-l-16", 768, "Stability AI Community",
        family="japanese_stable_clip", gated=True, remote_code=True,
    ),
    KnownModel("google/siglip2-base-patch16-256", 768, "Apache-2.0"),
    KnownModel("google/siglip2-large-patch16-256", 1024, "Apache-2.0"),
    KnownModel("google/siglip2-so400m-patch14-384", 1152, "Apache-2.0"),
    KnownModel("google/siglip-base-patch16-256-multilingual", 768, "Apache-2.0"),
    KnownModel("openai/clip-vit-base-patch32", 512, "MIT"),
    KnownModel("openai/clip-vit-base-patch16", 512, "MIT"),
    KnownModel("openai/clip-vit-large-patch14", 768, "MIT"),
    KnownModel("openai/clip-vit-large-patch14-336", 768, "MIT"),
    KnownModel("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 512, "MIT"),
    KnownModel("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 1024, "MIT"),
    KnownModel("OFA-Sys/chinese-clip-vit-base-patch16", 512, "Apache-2.0"),
    KnownModel("OFA-Sys/chinese-clip-vit-large-patch14", 768, "Apache-2.0"),
    KnownModel("OFA-Sys/chinese-clip-vit-huge-patch14", 1024, "Apache-2.0"),
    KnownModel("kakaobrain/align-base", 640, "not stated"),
    KnownModel("facebook/dinov2-small", 384, "Apache-2.0", family="vision"),
    KnownModel("facebook/dinov2-base", 768, "Apache-2.0", family="vision"),
    KnownModel("facebook/dinov2-large", 1024, "Apache-2.0", family="vision"),
    KnownModel("facebook/dinov3-vitb16-pretrain-lvd1689m", 768, "DINOv3", family="vision", gated=True),
    KnownModel("microsoft/resnet-50", 2048, "Apache-2.0", family="vision"),
    KnownModel("timm/vgg19.tv_in1k", 512, "BSD-3-Clause", family="vgg"),
)  # fmt: skip

KNOWN_MODELS = {model.repo: model for model in _MODELS}
