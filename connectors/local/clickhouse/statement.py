"""What the front must know of a statement before the engine gets it: where it ends, and its data's format."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

# Formats whose outputs can be concatenated to one valid output: these can be sent block by block.
STREAMABLE = frozenset(
    {
        "native",
        "rowbinary",
        "tabseparated",
        "tsv",
        "tabseparatedraw",
        "tsvraw",
        "csv",
        "jsoneachrow",
        "jsonlines",
        "ndjson",
        "jsoncompacteachrow",
        "lineasstring",
        "rawblob",
    }
)

# ClickHouse reads at most this much of a request while it looks for an INSERT's data.
MAX_STATEMENT_HEAD = 262_144

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]*(?:\n|\Z) | \#[\ !][^\n]*(?:\n|\Z) | /\*.*?\*/ )
    | (?P<quoted> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
                | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<word> [A-Za-z_][A-Za-z0-9_$]* )
    | (?P<number> [0-9][A-Za-z0-9_.]* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number, quoted string or symbol of a statement, and the number of brackets open around it."""

    kind: str
    text: str
    start: int
    end: int
    depth: int


@dataclass(frozen=True, slots=True)
class Insert:
    """``INSERT INTO <target> [SETTINGS ...] FORMAT <format>`` followed by its data.

    With ``INSERT INTO ... SELECT ... FROM input(<structure>) ...`` the ``target`` ends before ``input``, and
    ``rest`` is what follows it.
    """

    target: str
    settings: str
    format: str
    data_offset: int
    structure: str = ""
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """Any other statement.

    ``verb`` is its first word in capitals, ``format`` the output format it asks for itself, and ``core`` the
    statement without that FORMAT and without a semicolon at the end.
    """

    sql: str
    verb: str
    format: str | None
    core: str

    @property
    def selects(self) -> bool:
        return self.verb in ("SELECT", "WITH", "FROM", "VALUES")

    @property
    def kills(self) -> bool:
        """Whether it is KILL QUERY; KILL MUTATION is not."""
        return re.match(r"\s*KILL\s+QUERY\b", self.sql, re.IGNORECASE) is not None


def find_insert(head: bytes) -> Insert | bool:
    """Recognise an INSERT whose data follows in the request.

    Returns the insert; True when more of the request is needed to tell; False for any other statement
    (also for ``INSERT ... VALUES`` and for an ``INSERT ... SELECT`` that does not read ``input``, which the
    engine takes as text).
    """
    text = head.decode("latin-1")  # one character a byte, so that positions are offsets
    tokens = tokens_of(text)
    verb = next(tokens, None)
    if verb is None:
        return True
    if verb.text.upper() != "INSERT":
        # "INS" may be cut in the middle of the word.
        return verb.end == len(text) and "INSERT".startswith(verb.text.upper())
    settings: int | None = None
    selects, given, closed = False, None, None
    for token, following in pairwise(tokens):
        if given is not None and closed is None and token.text == ")" and token.depth <= given.depth:
            closed = token
        if token.depth or token.kind != "word":
            continue
        word = token.text.upper()
        if word == "SETTINGS" and following.kind == "word":
            settings = token.start
        if word == "VALUES":
            return False
        selects = selects or word in ("SELECT", "WITH")
        if selects and word == "INPUT" and following.text == "(" and given is None:
            given = token
        if selects and closed is None:
            continue
        if word == "FORMAT" and following.kind == "word":
            if following.end == len(text):
                return True  # the name itself, or the newline after it, may continue
            if following.text.upper() == "VALUES":
                return False
            end = token.start if settings is None else settings
            cut = (end, end, end, end)
            if given is not None and closed is not None:
                opened = text.index("(", given.end) + 1
                cut = (given.start, opened, closed.start, closed.end)
            return Insert(
                target=head[: cut[0]].decode("utf-8").rstrip(),
                settings=head[end : token.start].decode("utf-8").strip(),
                format=following.text,
                data_offset=_data_offset(text, following.end),
                structure=head[cut[1] : cut[2]].decode("utf-8").strip(),
                rest=head[cut[3] : end].decode("utf-8").strip(),
            )
    return not selects or (given is not None and len(head) < MAX_STATEMENT_HEAD)


def read_query(sql: str) -> Query:
    """Parse a whole statement as far as the front needs it."""
    tokens = list(tokens_of(sql))
    verb = next((token.text.upper() for token in tokens if token.kind == "word"), "")
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    output_format = _output_format(tokens)
    end = tokens[output_format].start if output_format is not None else tokens[-1].end if tokens else 0
    name = tokens[output_format + 1].text if output_format is not None else None
    return Query(sql, verb, name, sql[:end])


def _output_format(tokens: list[Token]) -> int | None:
    """The position of FORMAT: at the outermost level, followed by a name, and by nothing but settings."""
    for index in range(len(tokens) - 2, 0, -1):
        token, name = tokens[index], tokens[index + 1]
        if token.depth == 0 and token.text.upper() == "FORMAT" and token.kind == name.kind == "word":
            last = index + 2 == len(tokens) or tokens[index + 2].text.upper() == "SETTINGS"
            return index if last else None
    return None


def tokens_of(text: str) -> Iterator[Token]:
    """The tokens of a statement, without white space and comments."""
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "tag":
            kind = "quoted"
        if kind == "space":
            continue
        symbol = match.group()
        if symbol in (")", "]", "}"):
            depth -= 1
        yield Token(kind, symbol, match.start(), match.end(), depth)
        if symbol in ("(", "[", "{"):
            depth += 1


def _data_offset(text: str, end: int) -> int:
    # As ClickHouse does: blanks, then one line end; more white space belongs to the data.
    offset = end
    while offset < len(text) and text[offset] in " \t\f;":
        offset += 1
    if offset < len(text) and text[offset] == "\r":
        offset += 1
    if offset < len(text) and text[offset] == "\n":
        offset += 1
    return offset
