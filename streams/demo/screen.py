"""The demo's output in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.core.settings import Settings
from streams.core.topics import Topics

if TYPE_CHECKING:
    from streams.demo.figures import Figures

_WIDTH = 30


def picture(figures: Figures, topics: Topics) -> RenderableType:
    """The stages with counts, lag and rate, the labels so far, and some rows."""
    stages = Table(title="rows that land in ClickHouse come out labelled; Ctrl-C ends", title_justify="left")
    for column, justify in (
        ("stage", "left"),
        ("messages", "right"),
        ("lag", "right"),
        ("a second", "right"),
    ):
        stages.add_column(column, justify=justify)  # type: ignore[arg-type]
    seconds = max(figures.seconds, 0.001)
    stages.add_row("inserted into the source table", str(figures.rows), "", f"{figures.rows / seconds:.1f}")
    for name in (topics.rows, topics.labeled, topics.augmented, topics.dead_letter):
        count = figures.topics.get(name, 0)
        stages.add_row(name, str(count), str(figures.lags.get(name, 0)), f"{count / seconds:.1f}")
    stored = figures.stored.augmented
    stages.add_row("stored with variants", str(stored), "", f"{stored / seconds:.1f}")
    calls = "" if figures.llm_calls is None else f"; {figures.llm_calls} calls to the stand-in"
    return Group(stages, _labels(figures), _examples(figures), Text(f"{figures.seconds:.0f} s{calls}"))


def farewell(figures: Figures, settings: Settings) -> RenderableType:
    """The final output: labels, examples, and where to look next."""
    prefix, database = settings.topic_prefix, settings.result_database
    calls = "" if figures.llm_calls is None else f" with {figures.llm_calls} calls to the LLM stand-in"
    return Group(
        _labels(figures),
        _examples(figures),
        Text(
            f"{figures.stored.current} of {figures.rows} rows are labelled and stored{calls}, "
            f"{figures.seconds:.1f} s.\n\n"
            "Where to look next:\n"
            "  labelstream local up                      the stack again, with the data of this run\n"
            f"  labelstream tap {prefix}.labeled --beginning   the labelled topic, message by message\n"
            "  labelstream run all                       the pipeline without the demo's traffic\n"
            f"  SELECT label, count() FROM {database}.logs_labeled_current GROUP BY label\n"
            "                                            (its address: labelstream local status)\n"
            "  README.md, docs/                          how to use your own ClickHouse, Kafka and LLMs"
        ),
    )


def _labels(figures: Figures) -> RenderableType:
    table = Table(title="labels so far", title_justify="left", show_header=False, box=None)
    most = max((count for _, count in figures.labels), default=1)
    for label, count in figures.labels[:12]:
        table.add_row(label, "█" * max(1, round(_WIDTH * count / most)), str(count))
    return table


def _examples(figures: Figures) -> RenderableType:
    table = Table(title="some rows", title_justify="left")
    for column in ("text", "label", "confidence", "variants"):
        table.add_column(column, overflow="fold")
    for text, label, sure, variants in figures.examples:
        # As Text: customers' texts must not be parsed as markup.
        table.add_row(
            Text(text[:120]), label, "" if sure is None else f"{sure:.2f}", Text("\n".join(variants)[:300])
        )
    return table
