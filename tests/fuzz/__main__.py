"""The fuzzer's long run, against a server process: `make fuzz ARGS="--messages 1000000"`.

Prints the dearest request of each RPC, in CPU of the server's process, and how its memory grew.
Exits with 1 if any rule was broken or the process has died.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

import grpc
import psutil

from fuzz.fuzzing import fuzz
from fuzz.target import prepare
from support.served import Served
from support.serving import Client

MESSAGES_A_SEED = 10_000
SETTINGS = {
    "KEYFENCE_PASSWORD_MEMORY_MIB": "8",
    "KEYFENCE_PASSWORD_PASSES": "1",
    "KEYFENCE_LOG_LEVEL": "error",
}


async def run(directory: Path, first_seed: int, messages: int) -> int:
    """Fuzzes one server process, with another seed every ten thousand messages."""
    server = Served(directory, SETTINGS)
    process = psutil.Process(server.pid)
    faults: list[str] = []
    codes: Counter[tuple[str, str]] = Counter()
    most_cpu: dict[str, float] = {}
    memory: list[int] = []

    def cpu_seconds() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    try:
        async with grpc.aio.insecure_channel(server.target) as channel:
            target = await prepare(Client(channel, server.root_key))
            for number, sent in enumerate(range(0, messages, MESSAGES_A_SEED)):
                found = await fuzz(
                    target, first_seed + number, min(MESSAGES_A_SEED, messages - sent), cpu_seconds
                )
                faults += found.faults
                codes += found.codes
                most_cpu = {
                    rpc: max(cpu, most_cpu.get(rpc, 0.0)) for rpc, cpu in found.most_cpu.items()
                }
                memory.append(process.memory_info().rss)
                print(*found.faults, f"{sum(codes.values())} messages", sep="\n", flush=True)
    finally:
        exit_code = server.stop()
    print(f"seeds {first_seed} and on")
    for rpc, cpu in sorted(most_cpu.items(), key=lambda one: -one[1]):
        answers = {code: count for (name, code), count in codes.items() if name == rpc}
        print(f"{rpc:24} dearest {cpu * 1000:6.0f} ms of CPU   {answers}")
    print(f"memory, MiB: {', '.join(str(one >> 20) for one in memory)}")
    print(f"exit code of the server: {exit_code}")
    print(f"rules broken: {len(faults)}")
    return int(bool(faults) or exit_code != 0)


def main() -> int:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kf") as directory:
        return asyncio.run(run(Path(directory), arguments.seed, arguments.messages))


if __name__ == "__main__":
    sys.exit(main())
