"""A small tokenizer for captions in Japanese, English and Chinese, where no word is unknown."""

import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from demo.captions import LANGUAGES, choose_mention, write_caption
from demo.scenes import compose_scene

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
VOCABULARY = 4000
LONGEST = 40  # tokens; the longest captions have about 35


def train_tokenizer(seed: int = 7, captions: int = 240_000) -> PreTrainedTokenizerFast:
    """Byte-pair merges that never cross a change of script, over NFKC lower case; rare characters become bytes."""
    rng = random.Random(seed)
    texts = []
    while len(texts) < captions:
        scene = compose_scene(rng)
        texts += [write_caption(rng, choose_mention(rng, scene), rng.choice(LANGUAGES)) for _ in range(4)]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[\p{Han}]+|[\p{Hiragana}]+|[\p{Katakana}ー]+|[a-z]+|[0-9]|."), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.ByteFallback()
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[*SPECIAL, *byte_tokens], min_frequency=20, limit_alphabet=1600
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token=AddedToken("[UNK]", special=True),
    )
