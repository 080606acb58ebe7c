"""Templates to HTML, and what every page of ours tells the browser to refuse."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from .assets import PREFIX, Assets
from .texts import Texts
from .view import Wording

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding, Accept-Language, Cookie",
    "X-Content-Type-Options": "nosniff",
}

_templates = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, texts: Texts, assets: Assets, **values: Any) -> str:
    """The HTML of a template in one language. Everything in `values` is escaped."""
    return _templates.get_template(template).render(
        language=texts.language,
        say=Wording(texts).say,
        text=texts.text,
        base=f"{PREFIX}/{assets.version}",
        **values,
    )
