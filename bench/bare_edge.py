"""The reference of the edge: the same server and the same detection of a webhook, without Kafka.

python -m bench.bare_edge PORT
"""

from __future__ import annotations

import asyncio
import gc
import sys

from aiohttp import web

from schemas.vonage.detect import detect


async def main(port: int) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        detect(request.method, request.path, b"", request.headers.get("Content-Type"), body)
        return web.Response()

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
