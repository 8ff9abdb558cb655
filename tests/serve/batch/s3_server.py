"""An S3 server on loopback (moto's), which asks about each request before it carries it out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

VARIABLES = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


class _Quiet(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        """Log nothing."""


class S3Server:
    """Its address, its requests so far as (method, path), and what says of a method whether it is obeyed."""

    def __init__(self, port: int) -> None:
        self.variables = {**VARIABLES, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        self.requests: list[tuple[str, str]] = []
        self.accepts: Callable[[str], bool] = lambda method: True


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running server with an empty bucket named "bucket"."""
    application = DomainDispatcherApplication(create_backend_app)

    def reported(environ: dict[str, Any], start_response: Any) -> Any:
        method = environ["REQUEST_METHOD"]
        server.requests.append((method, environ["PATH_INFO"]))
        if not server.accepts(method):
            start_response("503 Service Unavailable", [])
            return []
        return application(environ, start_response)

    listener = make_server("127.0.0.1", 0, reported, threaded=True, request_handler=_Quiet)
    server = S3Server(listener.port)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
