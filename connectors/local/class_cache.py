"""Kafka's classes as Java has loaded and linked them once: a start of the broker costs half the CPU with it.

An ahead-of-time cache of the JVM (JEP 483, 514). To make it takes a start of the broker and some ten seconds
more, so it pays off where many brokers are started: in the tests. A broker that finds one uses it. Java
itself sees whether the cache fits its version and the jars, and starts without it where it does not.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from connectors.local.kafka import KafkaNode, class_cache, kafka_answers
from connectors.local.processes import free_port

_START_SECONDS = 300.0
_LOOK_AGAIN = 0.2


def make_class_cache(jars: Sequence[Path]) -> None:
    """Make it beside ``jars``, unless it is there. Blocks for some 20 seconds; several processes may call it.

    Raises:
        KafkaStorageError: the broker cannot be prepared.
        subprocess.TimeoutExpired: it does not end.
    """
    cache = class_cache(jars)
    if cache.exists():
        return
    scratch = Path(tempfile.mkdtemp(prefix=f"{cache.name}.", dir=cache.parent))
    try:
        port = free_port()
        node = KafkaNode(scratch / "kafka", jars, port, free_port([port]))
        node.prepare()
        made = scratch / cache.name
        command = node.command(f"-XX:AOTCacheOutput={made}")
        with (scratch / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as broker:
            try:
                deadline = time.monotonic() + _START_SECONDS
                while not kafka_answers(node.address) and broker.poll() is None:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(_LOOK_AGAIN)
                broker.send_signal(signal.SIGTERM)
                broker.wait(_START_SECONDS)
            finally:
                broker.kill()  # one that does not end would be waited for without end
        if made.exists():
            os.replace(made, cache)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
