"""One event loop for all tests of a run, and no other."""

from __future__ import annotations

import asyncio

# pytest-asyncio asks for the current loop before it sets its own. On Python 3.11 that makes one which nobody
# closes, and its warning fails a later test; after an explicit None there is nothing to make.
asyncio.set_event_loop(None)
