"""類似画像検索: words or a picture in, the nearest pictures out."""

__version__ = "0.1.0"
