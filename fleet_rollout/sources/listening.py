"""Listens for HTTP on an address of the settings, or says which address cannot be had."""

from __future__ import annotations

from aiohttp import web

from fleet_rollout.errors import Terminal


async def listen(runner: web.AppRunner, flag: str, address: str) -> str:
    """Serve on `address` (`host:port`, port 0 takes a free one); the base URL. `flag` names the setting in errors."""
    host, _, port = address.rpartition(":")
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    except (OSError, ValueError) as error:
        await runner.cleanup()
        fact = error.strerror if isinstance(error, OSError) else "not of the form host:port"
        raise Terminal("ListenFailed", f"{flag} {address}: {fact}; name an address that is free") from None
    return f"http://{host or 'localhost'}:{runner.addresses[0][1]}"
