"""A worker for tests of the pool: some texts end it, or are never answered."""

from __future__ import annotations

import os
import signal
import sys

import orjson


def main() -> None:
    """Answer texts in capitals."""
    print('{"ready": true}', flush=True)
    for line in sys.stdin.buffer:
        answers: list[object] = []
        for text in orjson.loads(line):
            if text == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if text == "hang":
                signal.pause()
            if text == "environment":
                answers.append((",".join(os.environ), {}))
                continue
            answers.append(None if text == "fail" else (text.upper(), {"phone": 1}))
        sys.stdout.buffer.write(orjson.dumps(answers) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
