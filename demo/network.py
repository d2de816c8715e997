"""The two towers, a small ResNet for pictures and a small BERT for words, joined by VisionTextDualEncoder."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    PreTrainedTokenizerFast,
    ResNetConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

IMAGE_EDGE = 112
DIMENSION = 256
MEAN = STD = (0.5, 0.5, 0.5)
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": IMAGE_EDGE, "width": IMAGE_EDGE},
    "resample": 3,  # bicubic; both sides squashed, so that nothing at the border is lost
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
}


def build_model(vocabulary: int) -> VisionTextDualEncoderModel:
    """About six million parameters, freshly initialised."""
    vision = ResNetConfig(
        embedding_size=24,
        hidden_sizes=[32, 64, 128, 256],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        hidden_act="relu",
        hidden_size=256,  # what the joining layer reads; ResNet itself has a list
    )
    text = BertConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=64,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=DIMENSION)
    return VisionTextDualEncoderModel(config)


def export_model(model: VisionTextDualEncoderModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary checkpoint folder, weights in float16. The folder is replaced only once all is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        light = VisionTextDualEncoderModel(model.config).half()
        light.load_state_dict(state)
        light.save_pretrained(fresh)
        tokenizer.backend_tokenizer.no_padding()  # left over from the last call, and no part of the model
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.save_pretrained(fresh)
        Path(fresh, "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
        folder.mkdir(exist_ok=True)
        for file in Path(fresh).iterdir():
            file.chmod(0o644)
            shutil.move(str(file), folder / file.name)


@torch.no_grad()
def quieten_directions(model: VisionTextDualEncoderModel, directions: torch.Tensor, share: float) -> None:
    """Make both towers' embeddings shorter by `share` within the space of the directions, rows of (n, DIMENSION).

    A picture always shows a place, but a word often asks for a thing alone: what is not asked for then disturbs less.
    """
    basis = torch.linalg.qr(directions.T).Q
    shrink = torch.eye(DIMENSION, device=basis.device) - share * basis @ basis.T
    for projection in (model.visual_projection, model.text_projection):
        projection.weight.copy_(shrink @ projection.weight)


def embed_pixels(model: VisionTextDualEncoderModel, pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, edge, edge), normalised by MEAN and STD, to unit vectors (n, DIMENSION)."""
    features = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output.flatten(1))
    return torch.nn.functional.normalize(features.float(), dim=1)


def embed_tokens(model: VisionTextDualEncoderModel, tokens: torch.Tensor) -> torch.Tensor:
    """(n, length) token numbers, 0 = padding, to unit vectors (n, DIMENSION)."""
    features = model.get_text_features(input_ids=tokens, attention_mask=(tokens != 0).long()).pooler_output
    return torch.nn.functional.normalize(features.float(), dim=1)
