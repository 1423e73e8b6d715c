"""A reverse proxy that serves a page under a path, as a line of nginx's settings does, for tests."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["proxied"]


@contextmanager
def proxied(port: int, prefix: str, *, keeps_host: bool) -> Iterator[str]:
    """The address of the proxy.

    Args:
        port: of the server behind it.
        prefix: the path, taken off before a request is passed on.
        keeps_host: whether the name that was asked for is passed on (``proxy_set_header Host $host``), rather than the
            server's own, as nginx does by itself.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if length else None
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
            headers["Host"] = self.headers["host"] if keeps_host else f"127.0.0.1:{port}"
            upstream.request(self.command, self.path[len(prefix) :] or "/", body, headers)
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            try:
                while chunk := answer.read1(65536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except OSError:
                pass
            upstream.close()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = pass_on

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}{prefix}/"
    finally:
        server.shutdown()
        server.server_close()
