"""A wire between an app and its database server, which breaks at a message of the app's choosing."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Literal, Self

Break = Literal["cut", "reset", "ended", "unanswered"]
BREAKS: tuple[Break, ...] = ("cut", "reset", "ended", "unanswered")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER, on, for no time


class Wire:
    """A proxy on a port of its own, and in threads of its own.

    :param server: the host and the port of the server.
    :param at: the message at which the wire breaks: its number, among all that the client sends, or what it contains; 0
        for none.
    :param how: ``cut`` closes both ends before the message arrives, ``reset`` does so without a farewell,
        ``unanswered`` when the server has answered it, and ``ended`` lets the server itself end the session, and tell
        why, as on a restart.
    :param skip: how many messages that contain ``at`` pass before.
    :param end: ends the session whose client is at a port of this machine, for ``ended``.
    :ivar count: how many messages the client has sent.
    :ivar open: how many connections are open.
    :ivar is_broken: whether the wire broke.
    """

    def __init__(
        self,
        server: tuple[str, int],
        at: int | bytes = 0,
        how: Break = "cut",
        end: Callable[[int], None] | None = None,
        skip: int = 0,
    ) -> None:
        self._server, self._at, self._how, self._end, self._skip = server, at, how, end, skip
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.count = self.open = 0
        self.is_broken = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.open += 1
        try:
            with client, socket.create_connection(self._server) as server:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._pass_on(client, server):
                    pass
        except OSError:
            pass  # as the other side may break it too
        finally:
            self.open -= 1

    def _pass_on(self, client: socket.socket, server: socket.socket) -> bool:
        for ready in select.select([client, server], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return False
            if ready is server:
                client.sendall(data)
                continue
            if self._is_here(data):
                return self._break(data, client, server)
            server.sendall(data)
        return True

    def _is_here(self, data: bytes) -> bool:
        with self._lock:
            self.count += 1
            if isinstance(self._at, int):
                return self.count == self._at
            if self._at not in data:
                return False
            self._skip -= 1
            return self._skip == -1

    def _break(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        self.is_broken = True
        if self._how == "ended":
            if self._end is not None:
                self._end(server.getsockname()[1])
            server.sendall(data)
            return True
        if self._how == "unanswered":
            server.sendall(data)
            server.recv(1 << 16)
        if self._how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return False
