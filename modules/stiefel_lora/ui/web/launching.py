"""Start of the server: checks before NiceGUI is imported, and error messages."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from ..._exceptions import ConfigError, QueueError
from ..._install import install_command
from ..._locks import Lock
from ...jobs import default_folder
from .access import TOKEN_VARIABLE, Access, access_for
from .server_options import ServerOptions

__all__ = ["serve"]

_PACKAGES = ("nicegui", "fastapi", "starlette", "uvicorn", "socketio", "engineio")


def serve(config: Path | None = None, options: ServerOptions | None = None) -> None:
    """Run the server until it is interrupted.

    Args:
        config: config file to open. By default, the settings of the last session are
            loaded.
        options: options of the server.

    Raises:
        ConfigError: If NiceGUI is not installed, the configuration is invalid, or the
            address cannot be used.
        QueueError: If another server uses the same queue.
    """
    options = options or ServerOptions()
    access, is_new = access_for(options.host, options.port, options.names)
    for option, folders in (("--data", options.datasets), ("--models", options.models)):
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(
                    f"{option}: the folder {folder} does not exist. Correct the path."
                )
    with _only_server(options), contextlib.closing(_listen(options)) as listener:
        try:
            from .server import run
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _PACKAGES:
                raise
            raise ConfigError(
                f"The interface in the browser needs the package {package}, which is "
                f"not installed. Install it with: {install_command('train', 'web')}"
            ) from error
        run(config, options, access, listener, _announcement(options, access, is_new))


def _announcement(options: ServerOptions, access: Access, is_new: bool) -> str:
    """Return what is printed when the server accepts connections."""
    shown = f"[{options.host}]" if ":" in options.host else options.host
    if options.host in ("0.0.0.0", "::"):
        shown = _own_address()
    address = f"http://{shown}:{options.port}/"
    lines = [
        f"Stiefel LoRA is served at {address}. Press Ctrl-C to end the server; "
        "trainings continue."
    ]
    if is_new:
        lines.append(f"Open {address}?token={access.token}")
        lines.append(
            f"This token is required and is shown only once. Set {TOKEN_VARIABLE} to "
            "choose it."
        )
    elif access.token is not None:
        lines.append(f"The token in {TOKEN_VARIABLE} is required.")
    return "\n".join(lines)


def _own_address() -> str:
    """Return the address of this machine in its network."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        # Selects a network without sending anything; the address is for documentation.
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    return "127.0.0.1"


@contextlib.contextmanager
def _only_server(options: ServerOptions) -> Iterator[None]:
    """Lock the queue for this server.

    Raises:
        QueueError: If another server has it.
    """
    folder = default_folder().expanduser().absolute()
    lock, place = Lock(folder / "web.lock"), folder / "web.address"
    if not lock.claim():
        try:
            other = place.read_text(encoding="utf-8").strip()
        except OSError:
            other = "another address"
        raise QueueError(
            f"The queue {folder} is already served at {other}. Open that page, or set "
            "STIEFEL_LORA_QUEUE to another folder."
        )
    try:
        with contextlib.suppress(OSError):
            text = f"http://{options.host}:{options.port}/\n"
            place.write_text(text, encoding="utf-8")
        yield
    finally:
        lock.release()


def _listen(options: ServerOptions) -> socket.socket:
    """Open the port, before anything that takes time.

    Raises:
        ConfigError: If the address or port cannot be used.
    """
    host, port = options.host, options.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ConfigError(
            f"--host: {host!a} is not an address of this machine. Use 127.0.0.1, or "
            "0.0.0.0 for all networks."
        ) from None
    family, kind, _, _, address = found[0]
    listener = socket.socket(family, kind)
    try:
        if os.name == "posix" and sys.platform != "cygwin":
            # In Windows, this would share the port with the other program.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.set_inheritable(False)
    except OSError as error:
        listener.close()
        raise _unusable(host, port, error) from error
    return listener


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"--port: {port} is in use by another program. Choose another one, for "
            f"example --port {port + 1}"
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"--port: {port} may not be used by this user. Choose one above 1023."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"--host: {host} is not an address of this machine. Use 127.0.0.1, or "
            "0.0.0.0 for all networks."
        )
    return ConfigError(f"--host: {host}:{port} cannot be used: {error.strerror}.")
