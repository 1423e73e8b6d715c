"""Responses over https, by httpx, which is imported where it is first needed: a list of models does not wait for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dnnlib.addresses import check_url, is_local, is_on_hub
from dnnlib.errors import ConnectionLostError, RefusedError

if TYPE_CHECKING:
    import httpx

__all__ = ["content_length", "is_web_page", "opened", "pieces", "remote_size", "stated_by_hub"]

MAX_REDIRECTS = 5
_MEANING = {
    401: "it asks for a login (401)",
    403: "it refuses access (403); the file may need a licence accepted in a browser",
    404: "the file is not there (404)",
    410: "the file is gone (410)",
    416: "it does not have that part of the file (416)",
}


@contextlib.contextmanager
def opened(
    url: str, headers: dict[str, str], *, timeout: float, allow_local_http: bool, method: str = "GET"
) -> Iterator[httpx.Response]:
    """A successful response whose body is still to come; every address on the way to it is checked.

    Raises:
        RefusedError, ConnectionLostError: this address gives none.
    """
    import httpx

    def check(request: httpx.Request) -> None:
        try:
            check_url(str(request.url), allow_local_http=allow_local_http)
        except RefusedError as error:
            raise RefusedError(f"it redirects to an address that is not fetched ({error})") from error

    check_url(url, allow_local_http=allow_local_http)
    # Proxies and certificates are those of the environment; what comes from this machine goes through no proxy.
    with httpx.Client(
        headers={"User-Agent": "draggan", "Accept-Encoding": "identity", **headers},
        event_hooks={"request": [check]},
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=not is_local(url),
        timeout=timeout,
    ) as client:
        with _translated(timeout):
            response = client.send(client.build_request(method, url), stream=True)
        with contextlib.closing(response):
            status = response.status_code
            if status in (408, 429) or status >= 500:
                raise ConnectionLostError(f"the server is busy or broken ({status})")
            if not response.is_success:
                raise RefusedError(_MEANING.get(status, f"it answers with status {status}"))
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise RefusedError(f"it sends the file in the encoding '{encoding[:20]}', which was not asked for")
            yield response


def pieces(response: httpx.Response, *, timeout: float, largest: int) -> Iterator[bytes]:
    """The body as it comes, so that a slow server can be left between two packets."""
    with _translated(timeout):
        for piece in response.iter_raw():
            yield from (piece[start : start + largest] for start in range(0, len(piece), largest))


def content_length(response: httpx.Response) -> int | None:
    """Bytes of the body, where the server tells."""
    told = response.headers.get("Content-Length", "")
    return int(told) if told.isdecimal() and len(told) < 16 and "Transfer-Encoding" not in response.headers else None


def is_web_page(response: httpx.Response, start: bytes = b"") -> bool:
    """Whether a body is one, as the server says or its ``start`` shows: a login, consent or error page."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    text = start[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    page = text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
    return page or kind in ("text/html", "application/xhtml+xml")


def stated_by_hub(url: str, response: httpx.Response) -> tuple[int | None, str | None]:
    """Size and SHA-256 of a file as the Hugging Face hub states them; None for what is not stated, or elsewhere.

    The hub says so where it redirects to the file, in two headers. Its own library reads the same two, but for that
    sends requests of its own besides (which programs call it) and writes into other folders than ours.
    """
    if not is_on_hub(url):
        return None, None
    stated = {name.lower(): value for r in (*response.history, response) for name, value in r.headers.items()}
    size, digest = stated.get("x-linked-size", ""), stated.get("x-linked-etag", "").strip('"')
    # Of small files it states another digest, which is shorter.
    return int(size) if size.isdecimal() else None, digest if re.fullmatch("[0-9a-f]{64}", digest) else None


def remote_size(urls: Sequence[str], *, timeout: float = 5.0, allow_local_http: bool = False) -> int | None:
    """Bytes of the file at the first address that tells, without fetching it; None if none does."""
    options: dict[str, Any] = {"timeout": timeout, "allow_local_http": allow_local_http}
    for url in urls:
        with (
            contextlib.suppress(RefusedError, ConnectionLostError),
            opened(url, {}, method="HEAD", **options) as response,
        ):
            length = stated_by_hub(url, response)[0] or content_length(response)
            if length is not None and not is_web_page(response):
                return length
    return None


@contextlib.contextmanager
def _translated(timeout: float) -> Iterator[None]:
    """httpx's errors as ours."""
    import httpx

    try:
        yield
    except httpx.TooManyRedirects as error:
        raise RefusedError(f"it redirects more than {MAX_REDIRECTS} times") from error
    except httpx.ConnectTimeout as error:
        raise ConnectionLostError(f"no connection (it did not answer within {timeout:g} s)") from error
    except httpx.TimeoutException as error:
        raise ConnectionLostError(f"nothing came for {timeout:g} s") from error
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise RefusedError(
                f"its certificate cannot be verified ({error}); check the clock of this machine, "
                "or set SSL_CERT_FILE to your organisation's certificates"
            ) from error
        raise ConnectionLostError(f"no connection ({error})") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ConnectionLostError(f"the connection broke ({str(error) or type(error).__name__})") from error
