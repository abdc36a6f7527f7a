"""What a server takes at most: of one request, of all together, and of time."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that no request can pass. The defaults suit pictures from cameras and telephones."""

    batch: int = 64
    """Pictures that the network is given at once, at most; fewer where fewer are faster."""
    queue: int = 1024
    """Pictures that may wait for their answer; a request that would make them more is told to come
    back."""
    pictures: int = 256
    """Pictures in one request."""
    body_bytes: int = 32 * MEBIBYTE
    """Of one request."""
    bytes_in_flight: int = 256 * MEBIBYTE
    """Of all requests that are being read or wait for their answer."""
    pixels: int = 50_000_000
    """Of one picture; it is refused before it is decoded."""
    answer_seconds: float = 10.0
    """From the last byte of a request to its answer."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 30.0
    """From the end of the headers to the last byte."""
    send_seconds: float = 30.0
    """How long a client may not take what it asked for."""
    idle_seconds: float = 60.0
    """How long a connection may stay open without a request."""
    grace_seconds: float = 10.0
    """When the server is told to stop: how long it waits for requests that are still arriving."""
    head_bytes: int = 32 * 1024
    """Of a request's first line and headers."""
    connections: int = 1000
    """Open at once."""
