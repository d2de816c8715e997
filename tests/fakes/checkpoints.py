"""Small checkpoints in Hugging Face's layout, with random but repeatable weights, for tests that need a real model.

Each function fills an empty folder in a fraction of a second and returns it; get_checkpoint does so once a run.
"""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

SIZE = 32
DIMENSION = 24
CORPUS = ["a photo of a cat", "夜の海と猫", "赤い画像", "a red car at dusk", "山の上の家", "bmw"]

_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT = {**_TOWER, "vocab_size": 400, "max_position_embeddings": 40}
_VISION = {**_TOWER, "image_size": SIZE, "patch_size": 8}
_BERT = {**_TEXT, "max_position_embeddings": 80, "type_vocab_size": 2, "pad_token_id": 0}
_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CLIP_VALUES = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
CROP = {"size": {"shortest_edge": SIZE}, "do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE}}
SQUARE = {"size": {"height": SIZE, "width": SIZE}}


@cache
def get_checkpoint(kind: str) -> Path:
    """The folder that write_<kind> fills, shared by all tests of this run: copy it before changing it."""
    return globals()[f"write_{kind}"](_make_shelf() / kind)


@cache
def _make_shelf() -> Path:
    folder = tempfile.mkdtemp(prefix="checkpoints-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def write_clip(folder: Path, seed: int = 0, dtype: str = "float32", dimension: int = DIMENSION) -> Path:
    """CLIP with its centre crop."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    text = {**_TEXT, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=dimension)
    with _seeded(seed):
        CLIPModel(config).to(getattr(torch, dtype)).save_pretrained(folder)
    write_tokenizer(folder)
    return write_preprocessing(folder, "CLIPImageProcessor", CROP | CLIP_VALUES)


def write_siglip(folder: Path, dimension: int = 32) -> Path:
    """SigLIP 2 of fixed resolution, which carries the model_type of SigLIP."""
    from transformers import SiglipConfig, SiglipModel

    text = {**_TEXT, "max_position_embeddings": 16, "pad_token_id": 0, "eos_token_id": 3}
    text |= {"projection_size": dimension, "hidden_size": dimension}
    vision = {**_VISION, "hidden_size": dimension}
    with _seeded():
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    write_tokenizer(folder)
    return write_preprocessing(folder, "SiglipImageProcessor", SQUARE | HALF | {"do_convert_rgb": None})


def write_chinese_clip(folder: Path) -> Path:
    """Chinese-CLIP: a BERT for words."""
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    config = ChineseCLIPConfig(text_config=_BERT, vision_config=_VISION, projection_dim=DIMENSION)
    with _seeded():
        ChineseCLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return write_preprocessing(folder, "ChineseCLIPImageProcessor", SQUARE | CLIP_VALUES | {"do_center_crop": False})


def write_align(folder: Path) -> Path:
    """ALIGN: an EfficientNet for images, a BERT for words, a temperature instead of a scale."""
    from transformers import AlignConfig, AlignModel

    vision = {
        "image_size": SIZE, "hidden_dim": DIMENSION, "width_coefficient": 1.0, "depth_coefficient": 1.0,
        "kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 24], "strides": [1, 2],
        "num_block_repeats": [1, 1], "expand_ratios": [1, 6], "depthwise_padding": [], "pooling_type": "mean",
    }  # fmt: skip
    with _seeded():
        model = AlignModel(AlignConfig(text_config=_BERT, vision_config=vision, projection_dim=DIMENSION))
        _spread(model)
        model.save_pretrained(folder)
    write_tokenizer(folder)
    values = {"rescale_offset": True, "rescale_factor": 1 / 127.5, "do_normalize": False, "include_top": False}
    return write_preprocessing(folder, "EfficientNetImageProcessor", SQUARE | HALF | values)


def write_dual_encoder(folder: Path) -> Path:
    """VisionTextDualEncoder with a convolutional tower for images."""
    from transformers import BertConfig, ConvNextConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    vision = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=SIZE)
    vision.hidden_size = 32
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, BertConfig(**_BERT), projection_dim=DIMENSION)
    with _seeded():
        VisionTextDualEncoderModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return write_preprocessing(
        folder, "ConvNextImageProcessor", {"size": {"shortest_edge": SIZE}, "crop_pct": 0.875} | HALF
    )


def write_levit_dual_encoder(folder: Path) -> Path:
    """VisionTextDualEncoder with the small convolutional attention tower of the demo model."""
    from transformers import BertConfig, LevitConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    vision = LevitConfig(
        image_size=SIZE, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 2, 2], depths=[1, 1, 1], key_dim=[8] * 3,
        down_ops=[["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 3, 4, 2, 2]], hidden_size=32,
    )  # fmt: skip
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, BertConfig(**_BERT), projection_dim=DIMENSION)
    with _seeded():
        VisionTextDualEncoderModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    _write_json(folder / "tokenizer_config.json", settings | {"tokenizer_class": "TokenizersBackend"})
    return write_preprocessing(folder, "ViTImageProcessor", SQUARE | HALF)


def write_resnet_dual_encoder(folder: Path) -> Path:
    """VisionTextDualEncoder with a tower whose pooled output keeps height and width of one."""
    from transformers import BertConfig, ResNetConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    vision = ResNetConfig(embedding_size=8, hidden_sizes=[8, 32], depths=[1, 1], layer_type="basic")
    vision.hidden_size = 32
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, BertConfig(**_BERT), projection_dim=DIMENSION)
    with _seeded():
        VisionTextDualEncoderModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return write_preprocessing(folder, "ViTImageProcessor", SQUARE | HALF)


def write_dinov2(folder: Path) -> Path:
    """DINOv2, images only."""
    from transformers import Dinov2Config, Dinov2Model

    config = {**_VISION, "mlp_ratio": 2}
    config.pop("intermediate_size")
    with _seeded():
        Dinov2Model(Dinov2Config(**config)).save_pretrained(folder)
    return write_preprocessing(folder, "BitImageProcessor", CROP | CLIP_VALUES)


def write_vit_classifier(folder: Path) -> Path:
    """A classifier, whose checkpoint has no pooler."""
    from transformers import ViTConfig, ViTForImageClassification

    with _seeded():
        ViTForImageClassification(ViTConfig(**_VISION)).save_pretrained(folder)
    return write_preprocessing(folder, "ViTImageProcessor", SQUARE | HALF | {"resample": 2})


def write_resnet(folder: Path) -> Path:
    """ResNet, images only, convolutional."""
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    with _seeded():
        ResNetModel(config).save_pretrained(folder)
    return write_preprocessing(
        folder, "ConvNextImageProcessor", {"size": {"shortest_edge": SIZE}, "crop_pct": 0.875} | HALF
    )


def write_bert(folder: Path) -> Path:
    """A model for words only, which no image search can use."""
    from transformers import BertConfig, BertModel

    with _seeded():
        BertModel(BertConfig(**_BERT)).save_pretrained(folder)
    return write_tokenizer(folder)


def write_vgg(folder: Path) -> Path:
    """VGG19 in the naming of timm."""
    from safetensors.torch import save_file

    from image_search.encoders.two_tower import build_convolutions

    folder.mkdir(parents=True, exist_ok=True)
    with _seeded():
        network = build_convolutions()
        _spread(network)
        state = {f"features.{name}": tensor for name, tensor in network.half().state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", {"architecture": "vgg19", "num_classes": 1000})
    return folder


def write_japanese_stable_clip(folder: Path) -> Path:
    """A checkpoint of the same outward shape as Japanese Stable CLIP, with Python code of its own."""
    from safetensors.torch import save_file
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    from image_search.encoders.two_tower import import_transformers, patch_legacy_transformers

    patch_legacy_transformers(import_transformers())
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("configuration", "modeling"):
        source = Path(__file__).with_name("remote_code") / f"{name}_japanese_stable_clip.py"
        (folder / source.name).write_bytes(source.read_bytes())
    config = {
        "model_type": "japanese_stable_clip",
        "architectures": ["JapaneseCLIPModel"],
        "auto_map": {
            "AutoConfig": "configuration_japanese_stable_clip.JapaneseCLIPConfig",
            "AutoModel": "modeling_japanese_stable_clip.JapaneseCLIPModel",
        },
        "text_config": {**_TEXT, "max_position_embeddings": 80, "pad_token_id": 3},
        "vision_config": _VISION,
        "projection_dim": DIMENSION,
    }
    _write_json(folder / "config.json", config)
    config_class = get_class_from_dynamic_module(config["auto_map"]["AutoConfig"], folder)
    model_class = get_class_from_dynamic_module(config["auto_map"]["AutoModel"], folder)
    with _seeded():
        model = model_class(config_class.from_pretrained(folder))
        save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "spiece.model").write_bytes(_train_sentencepiece())
    return write_preprocessing(folder, "CLIPImageProcessor", CROP | HALF)


def write_tokenizer(folder: Path) -> Path:
    """A byte-level tokenizer that cuts [CLS] ... [SEP] to 40 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 40, **_SPECIAL}
    _write_json(folder / "tokenizer_config.json", settings)
    return folder


def write_preprocessing(folder: Path, kind: str, values: dict[str, Any], *, nested: bool = False) -> Path:
    """preprocessor_config.json as transformers 4 writes it; nested in processor_config.json as transformers 5 does."""
    config = {
        "image_processor_type": kind, "do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, **values,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if nested:
        _write_json(folder / "processor_config.json", {"image_processor": config, "processor_class": "CLIPProcessor"})
    else:
        _write_json(folder / "preprocessor_config.json", config)
    return folder


def _train_sentencepiece() -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=100, hard_vocab_limit=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, control_symbols=["[PAD]", "[CLS]", "[SEP]", "[MASK]"],
        character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def _spread(model: Any) -> None:
    """Keep the signal alive through untrained convolutions, so that different images get different embeddings."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


@contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
