"""How close does the label path come to the capacity of its endpoint? ``python -m bench.label [--json]``.

`esk.rows` -> `labelstream run agents` -> a stand-in endpoint -> `esk.labeled`, all texts distinct; beside it
a bare loop with the same number of requests in flight. The augmenter's endpoint never answers, so that
labelling alone is measured; `whole` runs both steps (AUGMENT_VARIANTS=0: no call, but one more message for
each row). `both` asks both models, over answers with 20 alternatives at each token, beside a bare loop of the
same two calls; it also tells what the three topics of rows take on the broker. Steady state: between the
first and the last quarter of the answers.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.endpoint import MODEL, endpoint
from bench.harness import cpu_seconds, measure, options, report, say, stack
from bench.running import (
    distinct_texts,
    fill_rows,
    make_topics,
    records,
    role,
    steady_rate,
    watch,
    watched_run,
    with_settings,
)
from streams.core.settings import Settings
from streams.core.topics import Topics

PARTITIONS = 4
_numbers = itertools.count()


def raw(bases: Sequence[str], rows: int, in_flight: int) -> dict[str, float]:
    """So many requests in flight to each of ``bases`` through httpx-aiohttp's transport, with prepared
    bodies: to the first about labels, to the second about variants.
    """
    import uvloop

    figures: dict[str, float] = uvloop.run(_raw(bases, rows, in_flight))
    return figures


async def _raw(bases: Sequence[str], rows: int, in_flight: int) -> dict[str, float]:
    bodies = [_bodies(rows), *([_variant_bodies(rows)] if len(bases) > 1 else [])]
    began = cpu_seconds()
    done = await asyncio.gather(
        *(_raw_calls(base, some, in_flight) for base, some in zip(bases, bodies, strict=True))
    )
    if len(done) > 1:  # their steady halves are not at the same time
        every = [at for times in done for at, _ in times]
        return {
            "rows/s": min(steady_rate(at for at, _ in times) for times in done),
            "CPU ms/row": (cpu_seconds() - began) / rows * 1000,
            "seconds": max(every) - min(every),
        }
    times = done[0]
    first, last = times[len(times) // 4], times[3 * len(times) // 4]
    return {
        "rows/s": steady_rate(at for at, _ in times),
        "CPU ms/row": (last[1] - first[1]) / (len(times) // 2) * 1000,
    }


async def _raw_calls(base: str, prepared: Sequence[bytes], in_flight: int) -> list[tuple[float, float]]:
    """When each answer was there, and the CPU seconds then."""
    import aiohttp
    import httpx
    from httpx_aiohttp import AiohttpTransport

    bodies = iter(prepared)
    url, headers = httpx.URL(base + "/chat/completions"), {"content-type": "application/json"}
    done: list[tuple[float, float]] = []
    connector = aiohttp.TCPConnector(limit=in_flight)
    transport = AiohttpTransport(
        client=lambda: aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    )

    async def ask() -> None:
        for body in bodies:
            request = httpx.Request("POST", url, headers=headers, content=body)
            response = await transport.handle_async_request(request)
            answer = orjson.loads(await response.aread())
            assert answer["choices"]
            done.append((time.perf_counter(), cpu_seconds()))

    await asyncio.gather(*(ask() for _ in range(in_flight)))
    await transport.aclose()
    return done


def _bodies(rows: int) -> list[bytes]:
    """The same requests as the label step makes."""
    from agents.prompting import prompt_text
    from agents.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(Path(__file__).resolve().parents[1] / "taxonomy.yaml")
    system = prompt_text("label").format(domains=taxonomy.as_prompt())
    return _requests(rows, system, max_tokens=60, temperature=0.0, logprobs=True, top_logprobs=20)


def _variant_bodies(rows: int) -> list[bytes]:
    """As `_bodies`, of the augment step."""
    from agents.prompting import prompt_text

    array = {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 3}
    schema = {"type": "object", "properties": {"variants": array}, "required": ["variants"]}
    system = prompt_text("augment").format(count=3)
    answer = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return _requests(rows, system, max_tokens=400, temperature=0.7, response_format=answer)


def _requests(rows: int, system: str, **more: Any) -> list[bytes]:
    """One for each of so many texts."""
    from agents.prompting import wrap_query

    return [
        orjson.dumps(
            {
                "model": MODEL,
                "messages": [
                    {"role": "system", "content": system},
                    {"role": "user", "content": wrap_query(text)},
                ],
                **more,
            }
        )
        for text in distinct_texts(rows)
    ]


def product(
    settings: Settings, base: str, rows: int, in_flight: int, folder: Path, *, whole: bool = False
) -> dict[str, float]:
    """One agents worker over ``rows`` rows."""
    here = with_settings(
        settings,
        topic_prefix=f"label{next(_numbers)}",
        topic_partitions=PARTITIONS,
        llm_labeler_api_base=base,
        llm_labeler_concurrency=in_flight,
        llm_augmenter_api_base=base,
        augment_variants=0,
    )
    with endpoint(slots=0) as silent:
        if not whole:
            here = with_settings(here, llm_augmenter_api_base=silent, augment_variants=3)
        make_topics(here)
        fill_rows(here, distinct_texts(rows))
        with role("agents", here, folder / here.topic_prefix) as worker:
            found = watched_run(here, [worker], rows)
            if whole:
                watch(here, Topics(here.topic_prefix).augmented, rows, [worker])
    return found | broker_bytes(here, folder, rows) if whole else found


def beside_raw(
    settings: Settings, folder: Path, in_flight: int, rows: int, seconds: float
) -> list[tuple[str, dict[str, float]]]:
    """The product and the raw loop on one endpoint with as many slots as requests in flight."""
    found = []
    with endpoint(slots=in_flight, seconds=seconds) as base:
        measured = measure(raw, [base], rows, in_flight)
        found.append((f"raw, {in_flight} in flight", measured.result | {"peak MB": measured.peak_mb}))
        ours = product(settings, base, rows, in_flight, folder)
        found.append((f"label path, {in_flight} in flight", ours))
    for name, figures in found:
        figures["of slots/latency"] = figures["rows/s"] / (in_flight / seconds)
        say(f"{name}: {figures['rows/s']:.1f} rows/s, {figures['CPU ms/row']:.2f} ms")
    return found


def both_steps(settings: Settings, folder: Path, rows: int) -> tuple[dict[str, float], dict[str, float]]:
    """The bare loop of two calls a row, and one worker that labels and augments; 64 in flight of 0.3 s for
    each step.
    """
    with (
        endpoint(slots=64, seconds=0.3, alternatives=20) as labels,
        endpoint(slots=64, seconds=0.3) as variants,
    ):
        bare = measure(raw, [labels, variants], rows, 64)
        here = with_settings(
            settings,
            topic_prefix="both",
            topic_partitions=8,  # the default
            llm_labeler_api_base=labels,
            llm_augmenter_api_base=variants,
            llm_labeler_concurrency=64,
            llm_augmenter_concurrency=64,
        )
        make_topics(here)
        fill_rows(here, distinct_texts(rows))
        with role("agents", here, folder / here.topic_prefix) as worker:
            ours = watched_run(here, [worker], rows, "augmented")
    return bare.result | {"peak MB": bare.peak_mb}, ours | broker_bytes(here, folder, rows)


def broker_bytes(settings: Settings, folder: Path, rows: int) -> dict[str, float]:
    """Bytes a row of its three messages: keys, values and headers, and what the broker has of them."""
    topics = Topics(settings.topic_prefix)
    names = (topics.rows, topics.labeled, topics.augmented)
    logs = [one for one in folder.rglob("*.log") if one.parent.name.rpartition("-")[0] in names]
    sizes = [
        len(one.key or b"") + len(one.value) + sum(len(key) + len(value) for key, value in one.headers)
        for name in names
        for one in records(settings, name)
    ]
    return {
        "bytes of messages": sum(sizes) / rows,
        "bytes on the broker": sum(one.stat().st_size for one in logs) / rows,
    }


def compression(figures: dict[str, float]) -> float:
    """Of `broker_bytes`."""
    return figures["bytes of messages"] / figures["bytes on the broker"]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=16.0, help="how long each run is to take, about")
    parser.add_argument("--only", choices=("64", "256", "fast", "both"), help="one of the questions")
    chosen = parser.parse_args()
    figures: list[tuple[str, dict[str, float]]] = []
    ratios: dict[str, float] = {}
    with stack(clickhouse=False) as settings:
        folder = settings.labelstream_data
        for slots in (64, 256):
            if chosen.only in (None, str(slots)):
                rows = int(slots / 0.3 * chosen.seconds)
                (_, bare), (_, ours) = found = beside_raw(settings, folder, slots, rows, 0.3)
                figures += found
                ratios[f"label path over {slots} slots / 0.3 s"] = ours["rows/s"] / (slots / 0.3)
                ratios[f"label path over the raw loop, {slots} in flight"] = ours["rows/s"] / bare["rows/s"]
        if chosen.only in (None, "fast"):
            rows = int(1200 * chosen.seconds)
            with endpoint(seconds=0.005) as base:
                bare_run = measure(raw, [base], rows, 64)
                fast = product(settings, base, rows, 64, folder)
                both = product(settings, base, rows // 2, 64, folder, whole=True)
            figures.append(("raw, 5 ms", bare_run.result | {"peak MB": bare_run.peak_mb}))
            figures.append(("label path, 5 ms", fast))
            figures.append(("whole: label and augment, 5 ms", both))
            ratios["rows/s, 5 ms endpoint"] = fast["rows/s"]
            ratios["CPU ms a row, 5 ms endpoint"] = fast["CPU ms/row"]
            ratios["rows/s, 5 ms endpoint, augmented too"] = both["rows/s"]
            ratios["CPU ms a row, 5 ms endpoint, augmented too"] = both["CPU ms/row"]
            ratios["bytes of messages / on the broker, 5 ms endpoint"] = compression(both)
            ratios["label path over the raw loop, 5 ms"] = fast["rows/s"] / bare_run.result["rows/s"]
        if chosen.only in (None, "both"):
            bare, ours = both_steps(settings, folder, int(64 / 0.3 * chosen.seconds))
            figures += [("raw, two calls", bare), ("label and augment, 64 in flight each", ours)]
            ratios["CPU a row, label and augment over the raw client's two calls"] = (
                ours["CPU ms/row"] / bare["CPU ms/row"]
            )
            ratios["label and augment over 64 slots / 0.3 s"] = ours["rows/s"] / (64 / 0.3)
            ratios["bytes of messages / on the broker, 64 slots / 0.3 s"] = compression(ours)
    report(
        f"label path, one worker, {PARTITIONS} partitions, texts distinct",
        figures,
        as_json=chosen.json,
        ratios=ratios,
    )


if __name__ == "__main__":
    main()
