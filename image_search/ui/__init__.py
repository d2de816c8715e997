"""The web application: the page, the addresses of pictures, and the words of both languages."""

from image_search.ui.app import build_app
from image_search.ui.routes import build_routes

__all__ = ["build_app", "build_routes"]
