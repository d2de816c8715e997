"""Configuration in the manner of code published on the hub in 2023."""

from transformers import PretrainedConfig, RobertaConfig, ViTConfig


class JapaneseCLIPConfig(PretrainedConfig):
    model_type = "japanese_stable_clip"

    def __init__(self, text_config=None, vision_config=None, projection_dim=24, **kwargs):
        super().__init__(**kwargs)
        self.text_config = RobertaConfig(**(text_config or {}))
        self.vision_config = ViTConfig(**(vision_config or {}))
        self.projection_dim = projection_dim
