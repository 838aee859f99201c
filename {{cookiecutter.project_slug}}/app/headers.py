"""What browsers are told with each answer: edit the policy to load scripts or pictures from elsewhere.

After OWASP (https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html).
"""

from collections.abc import Iterable
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from app.config import number

# Nothing but the app's own files: no script or style within a page, no frame, no plugin, nobody else's server.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-DNS-Prefetch-Control": "off",
    "Cache-Control": "no-store",  # the files in app/static say otherwise themselves
}
"""The headers of every answer; a view may set its own."""

STRICT_TRANSPORT_SECURITY = ("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
"""Over HTTPS: no more HTTP for two years."""


def init_app(app: Flask) -> None:
    """Add the headers to the answers of `app`, keep its cookies from scripts and from HTTP, and believe its proxies."""
    # Outside debug, where the app may be served by HTTP alone.
    app.config["SESSION_COOKIE_SECURE"] = app.config["SESSION_COOKIE_SECURE"] or not app.debug
    app.config["SESSION_COOKIE_SAMESITE"] = app.config["SESSION_COOKIE_SAMESITE"] or "Lax"
    lower = {name.lower(): (name, value) for name, value in HEADERS.items()}
    every = list(HEADERS.items())
    answer = app.wsgi_app

    # Around the whole app: the answers that Werkzeug makes have them too, and a request pays a microsecond or two.
    def answer_with_headers(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            for name, _ in headers:
                if name.lower() in lower:
                    own = {name.lower() for name, _ in headers}
                    headers += [header for name, header in lower.items() if name not in own]
                    break
            else:
                headers += every
            if environ["wsgi.url_scheme"] == "https":
                headers.append(STRICT_TRANSPORT_SECURITY)
            return start_response(status, headers, error)

        return answer(environ, start)

    proxies = number("TRUSTED_PROXIES", default=0, unit="proxies")
    # Not the host: proxies pass it on as it is, unless they are told otherwise.
    wrapped = (
        ProxyFix(answer_with_headers, x_for=proxies, x_proto=proxies, x_host=0) if proxies else answer_with_headers
    )
    setattr(app, "wsgi_app", wrapped)  # noqa: B010 (a method)
