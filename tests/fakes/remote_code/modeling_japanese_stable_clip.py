"""A network in the manner of code published on the hub in 2023.

Its habits are the ones that newer versions of transformers trip over: names that have moved, no call of post_init, and
tables made while the network is built, one of them in the checkpoint under the same name and one in no checkpoint.
"""

import torch
from torch import nn
from transformers import PreTrainedModel, RobertaModel, ViTModel
from transformers.modeling_utils import ModelOutput

from .configuration_japanese_stable_clip import JapaneseCLIPConfig


class JapaneseCLIPModel(PreTrainedModel):
    config_class = JapaneseCLIPConfig

    def __init__(self, config):
        super().__init__(config)
        self.vision_model = ViTModel(config.vision_config, add_pooling_layer=False)
        self.text_model = RobertaModel(config.text_config, add_pooling_layer=False)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))
        self.register_buffer("stored_table", torch.linspace(0.5, 1.5, config.projection_dim))
        self.register_buffer("built_table", torch.linspace(1.5, 0.5, config.projection_dim), persistent=False)

    def get_image_features(self, pixel_values):
        states = self.vision_model(pixel_values=pixel_values)[0]
        return self.visual_projection(states[:, 0]) * self.stored_table

    def get_text_features(self, input_ids, attention_mask, position_ids):
        output = self.text_model(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
        assert isinstance(output, ModelOutput)
        return self.text_projection(output[0][:, 0]) * self.built_table
