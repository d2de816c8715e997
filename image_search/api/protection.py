"""Everything that stands in front of the application, put together by the settings."""

from __future__ import annotations

from starlette.types import ASGIApp

from image_search.api.asgi import is_loopback
from image_search.api.bounds import BodyLimit, RateLimit
from image_search.api.fence import Fence
from image_search.api.login import Login
from image_search.errors import SettingsError
from image_search.settings import Settings

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")


def protect(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application behind fence, rate limit, login and body limit."""
    app = BodyLimit(app)
    if settings.app_password:
        app = Login(app, settings.app_password)
    if settings.app_rate_limit:
        app = RateLimit(app, settings.app_rate_limit)
    proxy_names = [name.strip().lower() for name in settings.app_allowed_hosts.split(",") if name.strip()]
    is_private = is_loopback(settings.app_host)
    return Fence(app, (*_OWN_NAMES, settings.app_host) if is_private or proxy_names else None, proxy_names)


def check_exposure(settings: Settings) -> str:
    """A warning to say aloud, "" for none. Raises SettingsError when strangers could come in."""
    if is_loopback(settings.app_host) or settings.app_password:
        return ""
    if not settings.app_insecure:
        raise SettingsError(
            f"APP_HOST={settings.app_host} serves other computers, and no APP_PASSWORD is set. "
            "Set APP_PASSWORD, or APP_INSECURE=1 if everybody who reaches it may see and delete every picture."
        )
    return (
        f"APP_INSECURE=1: everybody who reaches {settings.app_host}:{settings.app_port} "
        "may see, add and delete pictures without a password."
    )
