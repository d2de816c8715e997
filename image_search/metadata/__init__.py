"""What pictures say about themselves: prompts, captions, keywords, dates and cameras.

Two stages that never mix: containers (where the text is) and generators, photographs (what it means).
"""

from image_search.metadata.reading import read_image_text
from image_search.metadata.sidecars import find_sidecars

__all__ = ["find_sidecars", "read_image_text"]
