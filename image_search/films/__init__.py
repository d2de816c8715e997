"""Frames of films, chosen by change: read_film opens a film and yields (time, image) one at a time (PyAV, optional).

Three parts that never mix: reading (container, decoder, time budget), selection (which frames are kept; plain arrays)
and pixels (upright RGB in the colours of a screen). facts reads what the container says about the whole film.
"""

from image_search.films.reading import Film, FilmFrame, list_film_suffixes, read_film
from image_search.films.source import FilmFacts, hash_film

__all__ = ["Film", "FilmFacts", "FilmFrame", "hash_film", "list_film_suffixes", "read_film"]
