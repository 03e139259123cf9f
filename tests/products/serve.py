"""Serves applications of examples/products, each at a port that the kernel chooses, in one
process. Prints the ports as JSON when all of them listen."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module

import uvicorn


async def main(names: list[str]) -> None:
    servers = {}
    for name in names:
        app = import_module(f"examples.products.{name}.app").app
        servers[name] = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
        )
    serving = [asyncio.create_task(server.serve()) for server in servers.values()]
    while not all(server.started for server in servers.values()):
        for task in serving:
            if task.done():
                task.result()
        await asyncio.sleep(0.01)
    ports = {
        name: server.servers[0].sockets[0].getsockname()[1] for name, server in servers.items()
    }
    sys.stdout.write(f"{json.dumps(ports)}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for server in servers.values():
        server.should_exit = True
    await asyncio.gather(*serving)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
