"""From a port to the end of the server: listen, serve, reload, stop without losing a request."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvicorn

from ..api.serving import Servable
from ..data.pictures.decode import quiet_decoding
from ..errors import ServerError
from ..interrupts import stop_requests
from ..machine import available_cores
from .application import Server, page_paths
from .connections import protocol
from .guard import WITHOUT_TOKEN, Guard, is_loopback
from .limits import Limits
from .models import Models, Open
from .problems import Problem

_BACKLOG = 1024
_HIGHEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 for one that is free."""
    token: str | None = None
    """What every request must show; None for none."""


def listen(address: Address) -> socket.socket:
    """A socket on which clients may queue from now on.

    Raises:
        ServerError: the port is in use, or there is no such address.
    """
    host, port = address.host, address.port
    if not 0 <= port <= _HIGHEST_PORT:
        raise ServerError(f"There is no port {port}.", f"Give one in 0..{_HIGHEST_PORT}.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, where = found[0]
        listening = socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    listening.setblocking(False)
    return listening


def _cannot_listen(host: str, port: int, error: OSError) -> ServerError:
    if error.errno == errno.EADDRINUSE:
        return ServerError(
            f"Port {port} of {host} is in use.", f"Choose another: --port {port + 1}"
        )
    if error.errno == errno.EACCES:
        return ServerError(
            f"Port {port} is for the system's own programs.", "Choose one above: --port 8000"
        )
    # An address that cannot be looked up has numbers of its own.
    known = error.errno is not None and not isinstance(error, socket.gaierror)
    reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
    return ServerError(f"Cannot listen at {host}: {reason.lower()}.", "Check the address.")


def url_of(listening: socket.socket) -> str:
    """The address to ask at."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(kw_only=True)
class Running:
    """A server that can be told to stop, from any thread."""

    server: Server
    _uvicorn: uvicorn.Server
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    started: threading.Event = field(default_factory=threading.Event, init=False)

    @classmethod
    def of(
        cls,
        servables: Sequence[Servable],
        *,
        address: Address,
        reopen: Open,
        limits: Limits | None = None,
        log: str = "requests",
    ) -> Running:
        """A server that does not run yet; the first classifier answers where none is named."""
        limits = limits or Limits()
        with quiet_decoding():
            server = Server(
                Models(servables, limits, reopen),
                limits=limits,
                guard=Guard(
                    token=address.token,
                    loopback_only=is_loopback(address.host),
                    without_token=(*WITHOUT_TOKEN, *page_paths()),
                ),
                threads=available_cores(),
                log=log,
            )
        config = uvicorn.Config(
            server,
            http=protocol(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(limits.idle_seconds),
            timeout_graceful_shutdown=round(limits.grace_seconds + limits.answer_seconds + 1),
        )
        return cls(server=server, _uvicorn=uvicorn.Server(config))

    def run(self, listening: socket.socket) -> int:
        """Serve until a signal asks for the end, or `stop`; the number of the signal, or 0."""
        loop_factory = self._uvicorn.config.get_loop_factory()
        with stop_requests() as asked, quiet_decoding():
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(self._serve(listening))
            self.server.pool.close()
        return asked.signal_number

    def stop(self) -> None:
        """Ask for the end, as SIGTERM does."""
        assert self._loop is not None, "it runs"
        self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        self.server.stop()
        self._uvicorn.should_exit = True

    async def _serve(self, listening: socket.socket) -> None:
        self._loop = loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()
        if threading.current_thread() is threading.main_thread():
            self._on_hang_up(loop, reloads)
        watcher = asyncio.create_task(self._watch_for_stop())
        self.started.set()
        await self._uvicorn.serve(sockets=[listening])
        watcher.cancel()

    def _on_hang_up(
        self, loop: asyncio.AbstractEventLoop, reloads: set[asyncio.Task[None]]
    ) -> None:
        """SIGHUP reads all models again; where it is ignored, as nohup has it, it stays so."""
        number = getattr(signal, "SIGHUP", None)
        if number is None or signal.getsignal(number) == signal.SIG_IGN:
            return

        def begin() -> None:
            task = loop.create_task(self._reload_all())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(number, begin)

    async def _reload_all(self) -> None:
        for name in self.server.models.names:
            try:
                await self.server.reload(name)
            except Problem:
                continue  # it was logged, and the old one serves on

    async def _watch_for_stop(self) -> None:
        """uvicorn listens to the signals itself, and tells nobody."""
        while not self._uvicorn.should_exit:
            await asyncio.sleep(0.05)
        self.server.stop()
