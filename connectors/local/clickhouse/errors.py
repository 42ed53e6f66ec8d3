"""ClickHouse's errors as its HTTP interface reports them: a code, a text with the code's name, a status."""

import re

_FORBIDDEN = {192, 193, 516}  # UNKNOWN_USER, WRONG_PASSWORD, AUTHENTICATION_FAILED
_BAD_REQUEST = {
    *range(6, 8),  # CANNOT_PARSE_TEXT, INCORRECT_NUMBER_OF_COLUMNS
    *range(25, 28),  # CANNOT_PARSE_ESCAPE_SEQUENCE, ..._QUOTED_STRING, ..._INPUT_ASSERTION_FAILED
    *range(38, 44),  # CANNOT_PARSE_DATE ... ILLEGAL_TYPE_OF_ARGUMENT, and the argument errors between
    53,  # TYPE_MISMATCH
    62,  # SYNTAX_ERROR
    69,  # ARGUMENT_OUT_OF_BOUND
    70,  # CANNOT_CONVERT_TYPE
    72,  # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA
    130,  # CANNOT_READ_ARRAY_FROM_TEXT
    158,  # TOO_MANY_ROWS
    271,  # CANNOT_DECOMPRESS
    376,  # CANNOT_PARSE_UUID
    377,  # ILLEGAL_SYNTAX_FOR_DATA_TYPE
    457,  # BAD_QUERY_PARAMETER
    467,  # CANNOT_PARSE_BOOL
    675,  # CANNOT_PARSE_IPV4
    676,  # CANNOT_PARSE_IPV6
}
_NOT_FOUND = {
    16,  # NO_SUCH_COLUMN_IN_TABLE
    46,  # UNKNOWN_FUNCTION
    47,  # UNKNOWN_IDENTIFIER
    50,  # UNKNOWN_TYPE
    56,  # UNKNOWN_STORAGE
    60,  # UNKNOWN_TABLE
    63,  # UNKNOWN_AGGREGATE_FUNCTION
    73,  # UNKNOWN_FORMAT
    81,  # UNKNOWN_DATABASE
    115,  # UNKNOWN_SETTING
    372,  # SESSION_NOT_FOUND
}
_STATUS = {48: 501, 164: 500, 202: 500, 307: 500, 1002: 500}

_PREFIX = re.compile(r"Code: (\d+)\. DB::Exception: ")
_NAME = re.compile(r"\(([A-Z0-9_]{3,})\)")
_TRAILER = re.compile(r"(?:\s*(?:\([A-Z0-9_]{3,}\)|\(version [^()]*(?:\([^()]*\))?\))\.?)+\s*$")

# Error texts must not name the front's own file of an insert's data.
_SPOOLED = re.compile(r":? ?\(in file/uri /[a-z/]+/fd/\d+\)")


class EngineError(Exception):
    """An error with ClickHouse's code, text and name: 60, "Table x does not exist", UNKNOWN_TABLE."""

    def __init__(self, code: int, text: str, name: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.name = name

    def render(self, version: str) -> str:
        """The body of the response, as ClickHouse writes it."""
        return f"Code: {self.code}. DB::Exception: {self.text} ({self.name}) (version {version})\n"

    @property
    def status(self) -> int:
        """The HTTP status that ClickHouse sends with this code."""
        if self.code in _FORBIDDEN:
            return 403
        if self.code in _BAD_REQUEST:
            return 400
        if self.code in _NOT_FOUND:
            return 404
        return _STATUS.get(self.code, 500)


def from_engine(error: BaseException) -> EngineError:
    """Parse the error of chdb, which repeats prefix and name for each layer that the error passed."""
    message = _SPOOLED.sub("", str(error))
    codes = list(_PREFIX.finditer(message))
    if not codes:
        return EngineError(1002, message.strip() or type(error).__name__, "UNKNOWN_EXCEPTION")
    text = message[_last_of_leading(codes).end() :]
    names = _NAME.findall(message[codes[0].start() :])
    name = names[-1] if names else "UNKNOWN_EXCEPTION"
    return EngineError(int(codes[0].group(1)), _TRAILER.sub("", text).strip(), name)


def _last_of_leading(codes: list[re.Match[str]]) -> re.Match[str]:
    last = codes[0]
    for match in codes[1:]:
        if match.start() != last.end():
            break
        last = match
    return last
