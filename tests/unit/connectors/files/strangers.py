"""Files as programs and people write them, and what must be understood of each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

from tests.unit.connectors.files.workbook import workbook

TEXTS = ["где мой заказ", "хочу вернуть деньги", "как сменить тариф", "не работает сайт"]
CLEAR = "nothing"


@dataclass(frozen=True)
class Stranger:
    """``told``: what must be in a warning, or the id of a question; CLEAR: no warning and no question.
    ``refused``: what must be in the refusal. Others: what must come out, if given.
    """

    content: bytes
    told: str = CLEAR
    refused: str = ""
    texts: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)
    broken: int = 0
    timeless: bool = False
    answers: dict[str, str] = field(default_factory=dict)


def _table(head: str, cells: list[str], end: str = "\n") -> bytes:
    """The texts and ``cells``, with the delimiter that ``head`` has."""
    mark = next(one for one in (";", "\t", "|", ",") if one in head)
    lines = [head, *(f"{text}{mark}{cell}" for text, cell in zip(TEXTS, cells, strict=False))]
    return (end.join(lines) + end).encode()


def _times(
    written: list[str], at: list[str], told: str = CLEAR, head: str = "text;date", **more: Any
) -> Stranger:
    texts = [] if "broken" in more else TEXTS[: len(written)]
    return Stranger(_table(head, written), told, texts=texts, times=at, **more)


def _zip(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return out.getvalue()


def _jsonl(*lines: str, told: str = CLEAR, **more: Any) -> Stranger:
    return Stranger("\n".join(lines).encode(), told, **more)


_PLAIN = _table("text,ts", ["2026-01-01"] * 4)
_AT = ["2026-01-31T10:00:00"]
_RUSSIAN = "Текст;Дата\n" + "".join(f"{text};31.01.2026\n" for text in TEXTS)

STRANGERS: dict[str, Stranger] = {
    # Times.
    "BigQuery": _times(["2026-01-31 10:00:00.123456 UTC"], ["2026-01-31T10:00:00.123456"]),
    "one digit": _times(["2026-01-31 9:05"], ["2026-01-31T09:05:00"]),
    "slashes": _times(["2026/1/31 10:00:00"], _AT),
    "offsets": _times(["2026-01-31 13:00+03", "2026-01-31 13:00:00 +0300", "2026-01-31 13:00 MSK"], _AT * 3),
    "zone of Java": _times(["2026-01-31T13:00:00+03:00[Europe/Moscow]"], _AT),
    "nanoseconds": _times(["2026-01-31 10:00:00.123456789"], ["2026-01-31T10:00:00.123456"]),
    "Russian months": _times(
        ["31 января 2026 г. 10:00", "1 мая 2026"], ["2026-01-31T10:00:00", "2026-05-01T00:00:00"]
    ),
    "zones": _times(["2026-01-31 11:00:00 CET", "20260131T100000Z"], _AT * 2),
    "zones of America": _times(
        ["2026-01-31 11:00:00 CET", "2026-01-31 05:00 EST", "1/31/2026 04:00:00 AM (cst)"],
        _AT * 3,
        "2 rows have",
    ),
    "zones of China": _times(["2026-01-31 18:00:00.000 +0800 CST", "2026-01-31 18:00+08:00 CST"], _AT * 2),
    "zones of Moscow": _times(["31.01.2026 13:00 (МСК)", "31.01.2026 13:00 МСК"], _AT * 2),
    "a zone that nobody knows": _times(["31.01.2026 13:00 (Омск)"], [], "timestamp", timeless=True),
    "Go": _times(["2026-01-31 13:00:00.123 +0300 MSK"], ["2026-01-31T10:00:00.123000"]),
    "a wide blank": _times(["31.01.2026\u00a010:00"], _AT),
    "JavaScript": _times(["1/31/2026, 10:00:00\u202fAM"], _AT),
    ".NET": _times(["2026-01-31T10:00:00.1234567Z"], ["2026-01-31T10:00:00.123456"]),
    "Google Forms": _times(["2026/01/31 1:00:00 PM GMT+3"], _AT),
    "the command date": _times(["Sat Jan 31 10:00:00 UTC 2026"], _AT),
    "the command date in America": _times(["Sat Jan 31 02:00:00 PST 2026"], _AT, "1 rows have"),
    "C": _times(["Sat Jan 31 10:00:00 2026"], _AT),
    "Oracle": _times(["31-JAN-26 10.00.00.000000 AM"], _AT),
    "a week": _times(["2026-W05-6"], [], "timestamp", timeless=True),
    "hour 24": _times(["31.01.2026 24:00"], [], "timestamp", timeless=True),
    "mail": _times(["Sat, 31 Jan 2026 13:00:00 +0300"], _AT),
    "Apache": _times(["31/Jan/2026:13:00:00 +0300"], _AT),
    "Hungary": _times(["2026. 01. 31. 10:00:00"], _AT),
    "Finland": _times(["31.1.2026 10.00"], _AT),
    "America": _times(
        ["1/31/2026 10:00 AM", "2/1/2026 12:30 AM"], ["2026-01-31T10:00:00", "2026-02-01T00:30:00"]
    ),
    "Britain": _times(
        ["31/01/2026 10:00", "01/02/2026 10:00"], ["2026-01-31T10:00:00", "2026-02-01T10:00:00"]
    ),
    "America or Britain": _times(["02/01/2026", "03/01/2026"], [], "dates"),
    "America, as answered": _times(
        ["02/01/2026", "03/01/2026"],
        ["2026-02-01T00:00:00", "2026-03-01T00:00:00"],
        answers={"dates": "month-day-year"},
    ),
    "both orders": _times(["31/01/2026", "01/31/2026", "02/02/2026"], [], "dates", broken=1),
    "order decided late": Stranger(
        (
            "text;date\n"
            + "".join(f"текст номер {n};{n % 9 + 1:02}/02/2026\n" for n in range(300))
            + "да да;25/02/2026\n"
        ).encode(),
        times=["2026-02-01T00:00:00"],
    ),
    "short years": _times(["31.01.26 10:00"], _AT, "two digits"),
    "year first": _times(["26-01-31", "26-02-01"], ["2026-01-31T00:00:00"], "dates"),
    "days of Excel": _times(
        ["46053,416666667", "46054"], ["2026-01-31T10:00:00", "2026-02-01T00:00:00"], "Excel's days"
    ),
    "digits": _times(["20260131100000", "20260201"], ["2026-01-31T10:00:00", "2026-02-01T00:00:00"]),
    "seconds": _times(["1769853600"], _AT),
    "milliseconds": _times(["1769853600500"], ["2026-01-31T10:00:00.500000"]),
    "microseconds": _times(["1769853600000001"], ["2026-01-31T10:00:00.000001"]),
    "nanoseconds since 1970": _times(["1769853600000001000"], ["2026-01-31T10:00:00.000001"]),
    "two columns": Stranger(
        "text;дата;время\nгде заказ;31.01.2026;10:00\nещё раз;01.02.2026;9:05\n".encode(),
        "time of day",
        times=["2026-01-31T10:00:00", "2026-02-01T09:05:00"],
    ),
    "several times": Stranger(
        "zapros;opened;closed\nгде заказ;2026-01-01;2026-01-02\n".encode(), "timestamp"
    ),
    "times of several things": Stranger(
        "text;start_date;end_date\nгде заказ;2026-01-01;2026-01-02\n".encode(), "timestamp"
    ),
    "no time in the time": _times(["вчера", "сегодня"], [], "timestamp", timeless=True),
    "numbers of orders as time": _times(["20240115001", "20240115002"], [], "timestamp", timeless=True),
    "digits lost": _times(["1.76985E+12"], [], "timestamp", timeless=True),
    "a time with gaps": _times(["31.01.2026", "вчера", "01.02.2026"], [], "cannot be read", broken=1),
    "long ago": _times(["1970-01-01 00:00:00"], ["1970-01-01T00:00:00"], "before 2000"),
    "phone numbers": Stranger(
        _table("text;phone", ["1701234567", "1701234568"]), "could be times", timeless=True
    ),
    "a title without names": Stranger(
        "Отчёт;\nгде заказ;2026-01-31\nещё раз;2026-02-01\n".encode(),
        "no rows",
        texts=["где заказ", "ещё раз"],
    ),
    "ids of what was created": Stranger(
        _table("text;created_id", ["1769853600", "1769853601"]), "could be times", timeless=True
    ),
    "numbers without a name": Stranger(
        "где заказ;1769853600\nещё раз;1769853601\n".encode(), "timestamp", timeless=True
    ),
    # Where a table begins and ends.
    "sep": Stranger(b"sep=;\r\n" + _table("text;user_id", ["1", "2"], "\r\n"), users=["1", "2"]),
    "sep in quotes": Stranger(b'\xef\xbb\xbf"sep=|"\r\n' + _table("text|user_id", ["1"]), users=["1"]),
    "title": Stranger("Отчёт; за январь\n\n".encode() + _RUSSIAN.encode(), "no rows", texts=TEXTS),
    "title with delimiters": Stranger("Отчёт;\n;\n".encode() + _RUSSIAN.encode(), "no rows", texts=TEXTS),
    "comments": Stranger(b"# by x\n# 2026, rows: 4\n" + _PLAIN, "comments", texts=TEXTS),
    "total": Stranger(_table("text;user_id", ["1", "2"]) + "Итого: 2;\n".encode(), "total"),
    "psql": Stranger(
        b" text | user_id \n------+---------\n"
        + "".join(f" {one} | 7 \n" for one in TEXTS).encode()
        + b"(4 rows)\n",
        "cannot be read",
        texts=TEXTS,
        users=["7"] * 4,
        broken=2,
    ),
    "two lines of names": Stranger(
        "Обращение;;Клиент\nТекст;Дата;Имя\nгде мой заказ;31.01.2026;а\n".encode(), "no rows", texts=TEXTS[:1]
    ),
    "names again": Stranger(_PLAIN + _PLAIN, "cannot be read", broken=1, texts=TEXTS * 2),
    "names twice": Stranger("text,text,ts\nа б,в г,2026-01-01\n".encode(), "text_2", texts=["а б"]),
    "no names": Stranger(
        "где заказ;2026-01-31\nещё раз;2026-02-01\n".encode(), "No names", texts=["где заказ", "ещё раз"]
    ),
    "names or a row": Stranger("topic;где мой заказ\nsms;хочу вернуть\n".encode(), "header"),
    "a row, as answered": Stranger(
        "topic;где мой заказ\nsms;хочу вернуть\n".encode(),
        "text is taken",
        texts=["где мой заказ", "хочу вернуть"],
        answers={"header": "no"},
    ),
    "two texts": Stranger(
        "zapros;otvet\nгде мой заказ;он в пути\nверните деньги;уже вернули\n".encode(), "text"
    ),
    "sentences": Stranger(
        "привет, как дела\nнет, спасибо вам\n".encode(),
        "delimiter",
        texts=["привет, как дела", "нет, спасибо вам"],
    ),
    "by position": Stranger(
        "text              user\nгде мой заказ     u1\nверните деньги    u2\n".encode(), "delimiter"
    ),
    "pandas": Stranger(
        _table(",body,who", [])[:-1] + "\n0,где мой заказ,7\n1,да да,8\n".encode(), "text is taken"
    ),
    "joined": Stranger(b"\xef\xbb\xbf" + _PLAIN + b"\xef\xbb\xbf" + _PLAIN, "cannot be read", broken=1),
    "types": Stranger(b'"text","n"\n"String","Nullable(UInt8)"\n"a b","1"\n', "cannot be read", broken=1),
    "delimiters at the end": Stranger(_table("text;user_id", ["1;", "2;"]), users=["1", "2"]),
    "cases of one name": Stranger(b"Text,text\na b c,d e f\n", "'Text'"),
    # Quotes.
    "Spark": Stranger(
        'text,user_id\n"он сказал \\"да\\", и ушёл",u1\n'.encode(), texts=['он сказал "да", и ушёл']
    ),
    "Spark, a backslash at the end": Stranger(
        b'text,user_id\n"at C:\\\\",u1\n"he said \\"yes\\"",u2\n',
        "Pairs of",
        texts=["at C:\\", 'he said "yes"'],
    ),
    "quotes that are escaped outside of quotes": Stranger(
        b'text,user_id\n\\"a\\" bc,u1\n"a, b",u2\nat C:\\new,u3\n', texts=['"a" bc', "a, b", "at C:\\new"]
    ),
    "OUTFILE in quotes": Stranger(
        b'text,user_id\n"C:\\\\new",u1\n"a b\\\nc d",\\N\n',
        "Pairs of",
        texts=["C:\\new", "a b c d"],
        users=["u1", None],
    ),
    "two backslashes": Stranger(
        b"text,user_id\n\\\\server\\new,u1\n", "two as two", texts=["\\\\server\\new"]
    ),
    "blanks before quotes": Stranger(
        'text, user_id\n"где, мой", "u, 1"\n'.encode(), texts=["где, мой"], users=["u, 1"]
    ),
    "line ends in quotes": Stranger(
        'text,user_id\n"где\nмой ""заказ""",1\n'.encode(), texts=['где мой "заказ"']
    ),
    "COPY": Stranger(
        'text\tuser_id\nпервая\\nвторая\t\\N\nпуть C:\\\\new\tu2\n"не закрыл\tu3\n\\.\n'.encode(),
        texts=["первая вторая", "путь C:\\new", '"не закрыл'],
        users=[None, "u2", "u3"],
    ),
    "OUTFILE": Stranger(
        "text\tuser_id\nпервая\\\nвторая\t\\N\n".encode(), texts=["первая вторая"], users=[None]
    ),
    "a tab in OUTFILE": Stranger(
        "text\tuser_id\nпервая\\\tвторая\t\\N\n".encode(), texts=["первая вторая"], users=[None]
    ),
    "nulls in TSVRaw": Stranger("text\tuser_id\nпуть C:\\new\t\\N\n".encode(), "escapes"),
    "a path in TSV": Stranger("text\tuser_id\nпуть C:\\new\tu1\n".encode(), "escapes"),
    "TSV of Excel": Stranger('text\tuser_id\n"он ""сказал"""\tu1\n'.encode(), texts=['он "сказал"']),
    "a long cell": Stranger(b"text,user_id\n" + b"word " * 60_000 + b",u1\n", users=["u1"]),
    # Values.
    "nulls": Stranger(_table("text,user_id", ["NULL", "nan", r"\N", ""]), "NULL", users=[None] * 4),
    "nulls of R and Excel": Stranger(_table("text;user_id", ["NA", "#ЗНАЧ!"]), "NULL", users=[None, None]),
    "zeros before": Stranger(
        _table("text,user_id", ["007", "1234567890123456789012"]), users=["007", "1234567890123456789012"]
    ),
    "numbers of Excel": Stranger(_table("text;user_id", ["1,23457E+17"]), "digits of them are lost"),
    "rounded": Stranger(
        _table("text;user_id", ["7000000000000010", "7000000000000020", "7000000000000030"]),
        "digits of them are lost",
    ),
    "fractions": Stranger(_table("text,user_id", ["12345.0", ""]), "fractions", users=["12345.0", None]),
    "formula": Stranger(_table("text;user_id", ['="007"']), users=["007"]),
    # Encodings.
    **{
        page: Stranger(_RUSSIAN.encode(page), "no UTF-8", texts=TEXTS)
        for page in ("cp1251", "koi8-r", "cp866", "mac-cyrillic", "iso8859-5")
    },
    "Mac": Stranger(_RUSSIAN.replace("\n", "\r").encode("mac-cyrillic"), "no UTF-8", texts=TEXTS),
    "German": Stranger(
        "text;date\nWo ist mein Päckchen;31.01.2026\nIch möchte zurück;01.02.2026\n".encode("cp1252"),
        "encoding",
    ),
    "Chinese": Stranger("text;date\n我的订单在哪里;31.01.2026\n".encode("gbk"), "encoding"),
    **{
        wide: Stranger(_PLAIN.decode().encode(wide), texts=TEXTS)
        for wide in ("utf-16", "utf-16-be", "utf-32", "utf-8-sig")
    },
    "read wrongly before": Stranger(
        _PLAIN.decode().encode().decode("cp1251", "replace").encode(), "wrong encoding"
    ),
    "read as Western before": Stranger(
        b"text,ts\n" + "где мой,2026-01-01\n".encode().decode("latin-1").encode(), "wrong encoding"
    ),
    "question marks": Stranger(b"text,ts\n??? ??? ?????,2026-01-01\n", "lost before"),
    # JSON.
    "commas at the end": _jsonl(
        '{"text":"где, мой,","user_id":1,},', '{"text":"да ,}"},', texts=["где, мой,", "да ,}"]
    ),
    "an array a line each": _jsonl(
        "[", '{"text":"где мой"},', '{"text":"да да"}', "]", texts=["где мой", "да да"]
    ),
    "an array from its first line to its last": _jsonl(
        '[{"text":"где мой"},',
        *[' {"text":"да да"},'] * 3,
        ' {"text":"нет нет"}]',
        texts=["где мой", *["да да"] * 3, "нет нет"],
    ),
    "an array that ends in its last line": _jsonl(
        "[", *['{"text":"да да"},'] * 60, '{"text":"нет нет"}]', texts=[*["да да"] * 60, "нет нет"]
    ),
    "single quotes": _jsonl("{'text': 'где мой', 'user_id': None}", texts=["где мой"], users=[None]),
    "long numbers": _jsonl(
        '{"text":"где мой","user_id":123456789012345678901234567890}',
        '{"text":"да да","user_id":1.50}',
        texts=["где мой", "да да"],
        users=["123456789012345678901234567890", "1.50"],
    ),
    "NaN": _jsonl(
        '{"text":"где мой","user_id":NaN}', '{"text":"да да","user_id":-Infinity}', users=[None, None]
    ),
    "half a surrogate": _jsonl('{"text":"где \\ud83d"}', '{"text":"да да"}', told="cannot be read", broken=1),
    "an array": Stranger(json.dumps([{"text": one} for one in TEXTS]).encode(), texts=TEXTS),
    "a pretty array": Stranger(
        json.dumps([{"text": one, "more": [{"b": "}"}]} for one in TEXTS], indent=2).encode("utf-16"),
        texts=TEXTS,
    ),
    "an array of Python": Stranger(
        repr([{"text": one, "user_id": None} for one in TEXTS]).encode(), texts=TEXTS
    ),
    "an array of Python, longer than what is read at once": Stranger(
        repr([{"text": f"номер {'}' * 60}", "user_id": str(n)} for n in range(4_000)]).encode(),
        users=[str(n) for n in range(4_000)],
    ),
    "an apostrophe at the end": Stranger(
        b'{"text":\n"a bc"}\nthat\'s all {"text":"c de"}\n\'',
        "cannot be read",
        texts=["a bc", "c de"],
        broken=2,
    ),
    "pretty": Stranger(json.dumps({"text": "a bc"}, indent=2).encode(), texts=["a bc"]),
    "one after the other": Stranger(b'{"text":"a bc"}{"text":"c de"}', texts=["a bc", "c de"]),
    "in an object": Stranger(b'{"ok":"all is well","data":[{"text":"a bc"}]}', texts=["a bc"]),
    "a table of pandas": Stranger(
        b'{"schema":{"fields":[{"name":"text"},{"name":"ts"}]},"data":[{"text":"a bc"}]}', texts=["a bc"]
    ),
    "JSONCompact": Stranger(
        b'{"meta":[{"name":"text","type":"String"}],"data":[["a bc"]],"rows":1}', refused="not one row"
    ),
    "comments in JSON": Stranger(
        b'// all\n[\n  /* one */ {"text":"a bc"},\n  {"text":"c de"}\n]\n',
        "cannot be read",
        texts=["a bc", "c de"],
        broken=1,
    ),
    "hits of Elasticsearch": Stranger(
        b'{"hits":{"hits":[{"_index":"logs","_source":{"text":"a bc"}},{"_index":"logs","_source":{}}]}}',
        "text",
    ),
    "quotes of Word in JSON": _jsonl("{“text”: “a bc”}", refused="objects"),
    "events": Stranger(b'data: {"text":"a bc"}\n\ndata: {"text":"c de"}\n', "The texts are JSON"),
    "a date of .NET": _jsonl('{"text":"a bc","date":"\\/Date(1769853600000)\\/"}', times=_AT),
    "a key that comes late": _jsonl(
        *['{"text":"да да"}'] * 1_200, '{"text":"да да","user_id":"7"}', users=[*[None] * 1_200, "7"]
    ),
    "texts that are JSON": Stranger(b'text\n"{""text"":""a bc""}"\n', "The texts are JSON"),
    "JSON of ClickHouse": Stranger(
        json.dumps(
            {"meta": [{"name": "text", "type": "String"}] * 9, "data": [{"text": one} for one in TEXTS]},
            indent=1,
        ).encode(),
        texts=TEXTS,
    ),
    "in objects": Stranger(b'{"hits":{"n":1,"hits":[{"text":"a bc"}]}}', texts=["a bc"]),
    "a row with a list": Stranger(b'{"text":"a bc","links":[{"url":"x"}]}', "sheet"),
    "two lists": Stranger(b'{"a":[{"text":"a bc"}],"b":[{"text":"c de"},{"text":"e fg"}]}', "sheet"),
    "two lists, as answered": Stranger(
        b'{"a":[{"text":"a bc"}],"b":[{"text":"c de"},{"text":"e fg"}]}',
        texts=["a bc"],
        answers={"sheet": ".a[]"},
    ),
    "an array that ends too early": Stranger(
        b'[{"text":\n"a bc"},{"text":\n"c de"},\n{"text"', "cannot be read", texts=["a bc", "c de"], broken=1
    ),
    "a bad object of an array": Stranger(
        b'[{"text":\n"a bc"},{"text":\nc de},{"text":"e fg"}]',
        "cannot be read",
        texts=["a bc", "e fg"],
        broken=1,
    ),
    "text after objects": Stranger(
        b'{"text":\n"a bc"} and more\n"of it"\n{"text":\n"c de"}\n[1,2]\n{"text":\n"e fg"}\nit is 5" long\n',
        "cannot be read",
        texts=["a bc", "c de", "e fg"],
        broken=3,
    ),
    "what is no object in an array": Stranger(
        b'{"n":1,"data":[{"text":"a bc"},"d ef",null,{"text":"c de"},["g hi"]],"more":["x"]}',
        "cannot be read",
        texts=["a bc", "c de"],
        broken=2,
    ),
    "text after an array": Stranger(
        b'[{"text":"a bc"},\n{"text":"c de"}]\nand more\n{"text":"e fg"}\n',
        "cannot be read",
        texts=["a bc", "c de"],
        broken=1,
    ),
    "a bracket too many": Stranger(
        b'{"data":[\n{"text":"a bc"}},\n{"text":\n"c de"}]}', "cannot be read", texts=["a bc"], broken=1
    ),
    "arrays one after the other": Stranger(
        b'\xef\xbb\xbf[{"text":"a bc"}];\n\x1e[{"text":"c de"}, {"text":"e fg"}]\n',
        texts=["a bc", "c de", "e fg"],
    ),
    "a list with a damaged name": Stranger(
        b'{"a\xbe":[{"text":"' + TEXTS[0].encode() + b'"}]}', refused="without objects"
    ),
    "a short list in an object": Stranger(
        b'{"data":[{"text":"a bc"},\n{"text":"c de"}],"total":2}', texts=["a bc", "c de"]
    ),
    "a list in the second line": Stranger(b'{"data":\n[{"text":"a bc"}],"total":2}', texts=["a bc"]),
    "a table with JSON": Stranger(
        b'{"a":1}\tgive it back\n{"a":2}\twhere is it\n', "No names", texts=["give it back", "where is it"]
    ),
    "a table with lists": Stranger(
        b'["a"]\tgive it back\n["b","c"]\twhere is it\n', "No names", texts=["give it back", "where is it"]
    ),
    "texts with JSON": Stranger(
        b'{"a":1} is no answer\nwhere is it\n', texts=['{"a":1} is no answer', "where is it"], told="No names"
    ),
    "a quote that is never closed": Stranger(
        b'[{"text":"a bc},\n' + b'{"text":c},' * 200_000, refused="line 1"
    ),
    "brackets without end": Stranger(b"[" * 100_000, refused="nested"),
    "names without quotes": Stranger(b'{text:"a: {b}", user_id:undefined}\n', texts=["a: {b}"], users=[None]),
    "JSON without objects": Stranger(b'["a bc", "c de"]', refused="objects"),
    "a key twice": _jsonl('{"text":"a bc","text":"c de"}', told="'text' several times", texts=["c de"]),
    "structures": _jsonl('{"text":"a bc","user_id":{"$oid":"7"}}', told="structures"),
    "no names in JSON": Stranger(b'["a b c",1]\n["d e f",2]\n', refused="JSON"),
    "a structure as text": _jsonl(
        '{"text":{"ru":"да"}}', '{"text":"да да"}', told="cannot be read", broken=1
    ),
    "SQL": Stranger(b"INSERT INTO logs VALUES (1, 'a b');\n", refused="SQL"),
    "a dump": Stranger(
        b"/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump\n--\nDROP TABLE IF EXISTS `logs`;\n",
        refused="SQL",
    ),
    "a drawn row": Stranger(b"-[ RECORD 1 ]---\ntext | a bc\n", refused="drawn"),
    "a drawn table": Stranger("┌─text─┐\n│ a b  │\n└──────┘\n".encode(), refused="drawn"),
    "brackets of SQL": Stranger("[text];[date]\nгде мой;2026-01-01\n".encode(), texts=["где мой"]),
    # Archives and workbooks.
    "gzip": Stranger(gzip.compress(_PLAIN), texts=TEXTS),
    "bzip2": Stranger(bz2.compress(_PLAIN), texts=TEXTS),
    "zip": Stranger(_zip(a_csv=_PLAIN), texts=TEXTS),
    "zip of two": Stranger(_zip(a_csv=_PLAIN, b_csv=_PLAIN), refused="2 files"),
    "a broken gzip": Stranger(gzip.compress(_PLAIN)[:-9], refused="damaged"),
    "a bomb": Stranger(gzip.compress(bytes(3_000_000)), refused="API_UPLOAD_BYTES"),
    "a page": Stranger(b"<html><table><tr><td>text</td></tr></table>", refused="page"),
    "bytes": Stranger(bytes(range(256)) * 8, refused="no text"),
    "workbook": Stranger(
        workbook(
            {
                "a": [
                    ["Отчёт"],
                    [],
                    ["Текст", "Дата", "Клиент"],
                    ["где мой заказ", ("date", 46053.416666667), 79161234567],
                ]
            }
        ),
        "no rows",
        texts=["где мой заказ"],
        times=["2026-01-31T10:00:00"],
        users=["79161234567"],
    ),
    "workbook of two": Stranger(
        workbook({"a": [["text"], ["где мой"]], "b": [["text"], ["да да"]]}),
        texts=["да да"],
        answers={"sheet": "b"},
    ),
    "workbook of two, not answered": Stranger(
        workbook({"a": [["text"], ["где"]], "b": [["text"], ["да"]]}), "sheet"
    ),
    "a broken workbook": Stranger(workbook({"a": [["text"], ["где мой"]]})[:-30], refused="damaged"),
}
