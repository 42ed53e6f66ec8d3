"""A replay that a cascade shortens: ``python -m tests.integration.replays.cascade_soak texts.csv``.

On a local stack of its own: rows with repeats by Zipf, of texts that are made of those of a file by other
words around them, words left out and letters swapped. A server of known errors labels them under one model;
people answer rows that the audit drew. Then a replay under another model, with CASCADE=on and two workers,
while trainers, workers and the command are killed with -9. Prints what it saw; exit code 1 if the model was
asked about more than half of the distinct texts, if labels are less often right than the model's by more than
the margin, if a row is missing or doubled, or if a proxy's label is not what its published bytes say.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import math
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiohttp import web

from agents.proxy.classifier import Proxy
from streams.core.environment import load
from streams.core.text import clean
from streams.core.times import moment
from streams.core.topics import normalise
from streams.ports.lookups import Place
from streams.quality.audit import draw_number, salt_of
from tests.chat_server import ChatServer
from tests.faults.world import as_program
from tests.integration.pipeline import Pipeline
from tests.integration.relabel import Verdicts, keep_doubles, kill, stored
from tests.integration.replaying import OLD, begin, labels, once, told
from tests.integration.streams.quality.served_labels import write_taxonomy
from tests.stack import stack_in
from tests.unit.streams.quality.long_runs.overconfident import Text, read_texts

ERRORS, MARGIN, Z = 0.08, 0.01, 1.645
PEOPLE = 500
REPEATS = 4  # rows a distinct text
ANSWER_SECONDS = 0.1
_QUERY = re.compile(r"<query>\s*(.*?)\s*</query>", re.DOTALL)
_OPENERS = ("", "", "", "скажи", "слушай", "пожалуйста", "ну", "эй", "а", "алло", "так", "будь добра")
_CLOSERS = ("", "", "", "пожалуйста", "спасибо", "сейчас", "если можно", "ладно", "быстро", "для меня")


class ErringModels(ChatServer):
    """An OpenAI-compatible server that knows the right labels, and errs about the same texts each time."""

    def __init__(self, truth: Mapping[str, str], models: Sequence[str]) -> None:
        super().__init__(models)
        self.calls: Counter[tuple[str, str]] = Counter()
        self._truth = truth
        self._labels = sorted(set(truth.values()))

    def label(self, model: str, text: str) -> str:
        """What ``model`` says to a text."""
        right = self._truth[text]
        digest = int.from_bytes(blake2b(f"{model}\n{text}".encode(), digest_size=8).digest(), "big")
        if digest / 2**64 >= ERRORS:
            return right
        return [name for name in self._labels if name != right][digest % (len(self._labels) - 1)]

    async def complete(self, request: web.Request) -> web.Response:
        asked = await request.json()
        found = _QUERY.search("".join(one["content"] for one in asked["messages"] if one["role"] == "user"))
        content = "OK"
        if found is not None:
            text = json.loads(found[1])
            if text in self._truth:
                self.calls[asked["model"], text] += 1
                content = json.dumps({"label": self.label(asked["model"], text)})
        await asyncio.sleep(ANSWER_SECONDS)
        message = {"role": "assistant", "content": content}
        return web.json_response(
            {
                "object": "chat.completion",
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 5},
            }
        )


def variations(known: Sequence[Text], count: int, chance: random.Random) -> dict[str, str]:
    """So many distinct texts, each with the label of the one that it is made of; those of the file first."""
    found: dict[str, str] = {}
    met: set[str] = set()
    order = list(known)
    chance.shuffle(order)
    for number in range(count * 20):
        base = order[number % len(order)]
        text = clean(base.text if number < len(order) else _varied(base.text, chance))
        if len(text.encode()) > 3 and normalise(text) not in met:
            met.add(normalise(text))
            found[text] = base.label
            if len(found) == count:
                return found
    raise SystemExit(f"{count} distinct texts cannot be made of {len(known)}")


def _varied(text: str, chance: random.Random) -> str:
    words = text.split()
    if len(words) > 3 and chance.random() < 0.5:
        del words[chance.randrange(len(words))]
    if chance.random() < 0.4:
        at = chance.randrange(len(words))
        word = words[at]
        if len(word) > 3:
            cut = chance.randrange(1, len(word) - 1)
            words[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join((chance.choice(_OPENERS), *words, chance.choice(_CLOSERS))).strip()


class Soak(NamedTuple):
    """``texts``: of row n, from 1, at n - 1."""

    flow: Pipeline
    server: ErringModels
    truth: Mapping[str, str]
    texts: Sequence[str]
    share: float
    seen: Verdicts

    def insert(self) -> None:
        """All rows, a tenth of a second apart."""
        client = self.flow.clickhouse()
        start = OLD - timedelta(seconds=len(self.texts) / 10)
        for first in range(0, len(self.texts), 10_000):
            some = self.texts[first : first + 10_000]
            client.insert(
                "logs",
                [
                    [first + n + 1, text, start + timedelta(seconds=(first + n) / 10)]
                    for n, text in enumerate(some)
                ],
                column_names=["id", "query_text", "created_at"],
                database=self.flow.database,
            )
        client.close()

    def history(self) -> None:
        """Everything labelled by the first model, without a cascade, and judged by people."""
        began = time.monotonic()
        roles = self.flow.start("poller", "agents", "sink", CASCADE="off")
        self.flow.wait(lambda: stored(self.flow, "v1") == len(self.texts), "all rows labelled")
        self.seen.say(f"{len(self.texts)} rows labelled as v1 in {time.monotonic() - began:.0f} s")
        settings = load({"TOPIC_PREFIX": self.flow.prefix, "CLICKHOUSE_DATABASE": self.flow.database})
        rows = self.flow.rows(
            f"SELECT row_id, toUnixTimestamp64Micro(created_at), text FROM {self.flow.database}.logs_labeled "
            "WHERE label_version = 'v1' AND NOT cached ORDER BY cityHash64(row_id)"
        )
        salt = salt_of(settings)
        drawn = [
            (row_id, self.truth[text], self.share)
            for row_id, at, text in rows
            if draw_number(salt, Place(moment(int(at)), row_id)) < self.share
        ][:PEOPLE]
        with (self.flow.folder / "gold.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("row_id", "label", "probability"), *drawn])
        done = told(self.flow, "gold", "import", "gold.csv")
        self.seen.say(f"people judged {done['imported']} rows", done["imported"] == len(drawn))
        self.flow.wait(
            lambda: self.flow.count("logs_labeled WHERE label_version = 'human'") == len(drawn), "answers"
        )
        for one in roles:
            one.terminate()
            one.wait()

    async def replay(self) -> None:
        """Under the second model, with kills."""
        flow, rows = self.flow, len(self.texts)
        flow.start("poller", "sink")
        first_worker, second_worker = flow.start("agents", "agents")
        first_trainer, second_trainer = flow.start("trainer", "trainer")
        began = time.monotonic()
        words = ("replay", "--from-table", "--version", "v2", "--model", "second")
        expected = told(flow, *words, "--dry-run")
        self.seen.say(f"a dry run expects {expected['calls']} of {expected['calls_without_cascade']} calls")
        command = begin(flow, *words)

        def reached(share: float) -> Any:
            return lambda: stored(flow, "v2") > rows * share

        killed = [await kill(first_trainer, reached(0.08))]
        flow.start("trainer")
        killed.append(await kill(first_worker, reached(0.2)))
        flow.start("agents")
        killed.append(await kill(command, reached(0.35)))
        command = begin(flow, "replay", "resume", told(flow, "replay", "list")["jobs"][0]["id"])
        killed.append(await kill(second_trainer, reached(0.45)))
        flow.start("trainer")
        killed.append(await kill(second_worker, reached(0.6)))
        flow.start("agents")
        self.seen.say("trainers, workers and the command were killed at work", all(killed))
        flow.wait(lambda: command.poll() is not None, "the replay ends")
        took = time.monotonic() - began
        self.seen.say(f"the replay took {took:.0f} s", command.returncode == 0)
        flow.wait(lambda: stored(flow, "v2") >= rows, "all of v2 stored")
        state = told(flow, "cascade", "status", "--version", "v2")
        self.seen.say(f"cascade status: {json.dumps(state, ensure_ascii=False)}")

    def judge_calls(self, most: float) -> None:
        calls = {text: count for (model, text), count in self.server.calls.items() if model == "second"}
        every = sum(calls.values())
        share = every / len(self.truth)
        self.seen.say(
            f"calls: {every}, about {len(calls)} of {len(self.truth)} distinct texts: {share:.3f}",
            share <= most,
        )

    def judge_labels(self) -> None:
        """The paired difference to the model, over distinct texts: of each the label of any one row."""
        found = self.flow.rows(
            "SELECT text, toString(label), decided_by, row_id "
            f"FROM {self.flow.database}.logs_labeled WHERE label_version = 'v2' ORDER BY cityHash64(row_id)"
        )
        by_text = {text: (label, by) for text, label, by, _ in found}
        self.seen.say(f"by row: {dict(Counter(by for _, _, by, _ in found))}")
        self.seen.say(f"by text: {dict(Counter(by for _, by in by_text.values()))}")
        for what, some in (
            ("all texts", by_text.items()),
            ("the proxy's", [one for one in by_text.items() if one[1][1] == "proxy"]),
        ):
            if not some:
                continue
            served = np.array([label == self.truth[text] for text, (label, _) in some], float)
            model = np.array(
                [self.server.label("second", text) == self.truth[text] for text, _ in some], float
            )
            mean, error = (served - model).mean(), (served - model).std() / math.sqrt(len(served))
            kept = what != "all texts" or bool(mean - Z * error >= -MARGIN)
            self.seen.say(
                f"{what}: right {served.mean():.4f}, the model {model.mean():.4f}, "
                f"difference {mean:+.4f}, lower bound {mean - Z * error:+.4f}",
                kept,
            )

    async def judge_rows(self) -> None:
        """Each row once, in the table and on the topic, and no dead letter."""
        every = {str(number) for number in range(1, len(self.texts) + 1)}
        self.seen.say("v2: each row once in the table", set(labels(self.flow, "v2")) == every)
        self.seen.say("v2: each once on the topic", await once(self.flow, "labeled.shadow", "v2") == every)
        self.seen.say("v1: each once on its topic", await once(self.flow, "labeled", "v1") == every)
        self.seen.say("no dead letters", not self.flow.count("dead_letters"))

    async def judge_proxies(self) -> None:
        """Whether every label of a proxy is what its published bytes say."""
        proxies: dict[int, dict[int, bytes]] = {}
        for message in await self.flow.topic("versions", partitions=1):
            kind, _, rest = (message.key or b"").decode().partition("/")
            if kind == "proxy" and message.value is not None and rest.startswith("v2/"):
                _, generation, _, part = rest.split("/")
                proxies.setdefault(int(generation), {})[int(part)] = message.value
        said: dict[int, list[dict[str, Any]]] = {}
        for message in await self.flow.topic("labeled.shadow"):
            value = json.loads(message.value)
            if value["decided_by"] == "proxy":
                said.setdefault(value["proxy_generation"], []).append(value)
        for generation, some in sorted(said.items()):
            proxy = Proxy.unpack(b"".join(part for _, part in sorted(proxies[generation].items())))
            decisions = proxy.decide([one["text"] for one in some])
            differ = sum(
                (one["label"], one["confidence"]) != (decision.label, decision.score)
                for one, decision in zip(some, decisions, strict=True)
            )
            self.seen.say(
                f"generation {generation}: {len(some)} labels, {differ} are not as its bytes say", not differ
            )


def zipf_rows(texts: Sequence[str], rows: int, chance: random.Random) -> list[str]:
    """Each text once, and the rest of the rows by Zipf."""
    weights = [1 / rank for rank in range(1, len(texts) + 1)]
    found = [*texts, *chance.choices(texts, weights, k=rows - len(texts))]
    chance.shuffle(found)
    return found


async def all_of_it(soak: Soak, most: float) -> None:
    soak.history()
    await soak.replay()
    soak.judge_calls(most)
    soak.judge_labels()
    await soak.judge_rows()
    await soak.judge_proxies()


def main() -> None:
    """Parse the arguments and run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns text and scenario or label")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--most-calls", type=float, default=0.5, help="of the distinct texts [0.5]")
    given = parser.parse_args()
    as_program()
    chance, seen = random.Random(1), Verdicts()
    truth = variations(read_texts(given.file), given.rows // REPEATS, chance)
    texts = zipf_rows(list(truth), given.rows, chance)
    share = min(1.0, 1.1 * PEOPLE / len(truth))
    seen.say(f"{len(texts)} rows of {len(truth)} distinct texts, {len(set(truth.values()))} labels")
    with (
        tempfile.TemporaryDirectory(prefix="labelstream-cascade-") as name,
        ErringModels(truth, ("first", "second")) as server,
        stack_in(Path(name) / "stack", llm=False) as status,
    ):
        folder = Path(name)
        write_taxonomy(folder / "taxonomy.yaml", sorted(set(truth.values())))
        flow = Pipeline(
            status,
            "cascade",
            folder,
            LLM_LABELER_API_BASE=server.url,
            LLM_AUGMENTER_API_BASE=server.url,
            LLM_LABELER_MODEL="first",
            LLM_AUGMENTER_MODEL="first",
            LLM_LABELER_CONCURRENCY="16",
            LABEL_VERSION="v1",
            AUGMENT_VARIANTS="0",
            CASCADE="on",
            REVIEW_AUDIT_SHARE=str(share),
            TAXONOMY_PATH=str(folder / "taxonomy.yaml"),
        )
        flow.create()
        keep_doubles(flow)
        soak = Soak(flow, server, truth, texts, share, seen)
        try:
            soak.insert()
            asyncio.run(all_of_it(soak, given.most_calls))
        finally:
            flow.stop()
    sys.exit(0 if seen.kept else 1)


if __name__ == "__main__":
    main()
