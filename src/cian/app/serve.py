"""Starts the server of the page, and opens it in a browser."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import webbrowser
from pathlib import Path
from types import FrameType

import uvicorn

from cian.app.project import Project
from cian.app.server import build
from cian.errors import CianError
from cian.terminal import speak


def serve(path: Path, host: str = "127.0.0.1", port: int = 8000, browser: bool = True) -> None:
    """Serves the page until Ctrl-C.

    Args:
        port: the next free one is taken if it is in use.

    Raises:
        CianError: this is no run, or the address cannot be used.
    """
    project, token = Project(path), secrets.token_urlsafe(24)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}"
    app = build(project, token, f"cian-{port}", (host, socket.gethostname()))
    speak(False)  # the server's threads report no progress
    print(address, flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    settings = uvicorn.Config(app, log_level="warning", ws="none", server_header=False, timeout_graceful_shutdown=2)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped in order, and passes the signal on
        _Server(settings).run(sockets=[listening])
    os._exit(0)  # threads may be loading PyTorch or computing, and a process does not end in order while they do


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # requests that are cut off now are no errors
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    """
    Raises:
        CianError: the address is not one of this machine's, or none of its ports is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for each in (*range(port, min(port + 20, 65536)), 0):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, each))
            listening.listen()  # who connects before the server runs waits
            return listening
        except (OSError, OverflowError) as error:
            listening.close()
            why = error
    raise CianError(f"--host {host}: cannot be used ({why}). Give an address of this machine, such as 127.0.0.1.")
