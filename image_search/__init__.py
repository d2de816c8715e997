"""類似画像検索: words or an image in, the nearest images out."""

__version__ = "0.1.0"
