"""Translates clickhouse-connect's exceptions and ClickHouse's codes to ours."""

from __future__ import annotations

import re

from clickhouse_connect.driver import exceptions as driver

from streams.core.errors import (
    AccessError,
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    PermanentError,
    RefusedError,
    UnavailableError,
)

SETTING = "CLICKHOUSE_HOST"
# From the first quote to the last one: a quoted value may hold quotes.
_QUOTED, _LONG_NUMBER = re.compile(r"'.*'|\".*\""), re.compile(r"\d{5,}")
# As ClickHouse writes it, in the body and in the driver's text; a proxy has codes of its own.
_CODE = re.compile(r"Code: (\d+)\. DB::|ClickHouse error code (\d+)")

_ACCESS = {192, 193, 194, 195, 497, 516}
_MISSING_TABLE = {60, 81}
_MISSING_COLUMN = {10, 16, 47}
# No capacity now: too many parts, queries or simultaneous connections, memory, quota, temporarily read-only.
_OVERLOADED = {201, 202, 241, 242, 252, 305, 439}
# 3, 32, 33: the data was cut off, for example by a proxy.
_AWAY = {3, 32, 33, 159, 160, 198, 203, 209, 210, 225, 236, 279, 285, 319, 394, 999}
# Space, files, memory, replicas, Poco's network errors: none of these depends on a row.
SERVERS_FAULT = _AWAY | {74, 75, 76, 173, 243, 246, 254, 286, 425, 499, 571, 668, 1000}
# A setting that we send and that the user's profile does not allow.
READONLY, CONSTRAINT = 164, 452
_SETTINGS = {115, READONLY, CONSTRAINT, 472}
# The query was ended by its own limit, or would have been.
_TOO_LONG = {159, 160}
# The data itself: types, conversions, sizes, constraints. The same row would be refused again.
_DATA = {
    *(6, 8, 26, 27, 38, 41, 44, 53, 69, 70, 72, 117, 128, 130, 131, 153, 190, 321, 349, 376, 395, 407, 441),
    *(467, 469, 691),
}


# Another statement with the same id runs.
RUNNING = 216
TABLE_EXISTS, TABLE_MISSING = 57, 60


# This host is cut off from the others: a table is read-only, the Keeper does not answer, it is shutting down,
# it reaches no replica of a shard, or none that is not behind.
_CUT_OFF = {236, 242, 279, 289, 369, 999}


def leaves_host(error: LabelstreamError) -> bool:
    """Whether another host of a cluster should be asked next: this one does not answer, or is cut off."""
    code = code_of(error)
    return code in _CUT_OFF if code is not None else isinstance(error, UnavailableError)


def code_of(error: BaseException) -> int | None:
    """ClickHouse's error code in the exception's text."""
    found = _CODE.search(str(error))
    return int(found.group(1) or found.group(2)) if found else None


def translate(error: BaseException, *, private: bool = False) -> LabelstreamError:
    """Our error for one of the driver. Errors that are not known to be permanent count as unavailable.

    ``private``: without what the server quotes, which may be of a row.
    """
    if isinstance(error, LabelstreamError):
        return error
    text = " ".join(str(error).split())
    if private:
        text = _LONG_NUMBER.sub("…", _QUOTED.sub("'…'", text))
    text = text[:500] or type(error).__name__
    code = code_of(error)
    if code in _ACCESS:
        return AccessError(
            f"ClickHouse refuses access: {text}",
            setting="CLICKHOUSE_PASSWORD" if code != 497 else "CLICKHOUSE_USERNAME",
            fix="check CLICKHOUSE_USERNAME and CLICKHOUSE_PASSWORD"
            if code != 497
            else "grant the user the missing right",
        )
    if code in _MISSING_TABLE:
        setting = "CLICKHOUSE_TABLE" if code == 60 else "CLICKHOUSE_DATABASE"
        return ConfigurationError(f"ClickHouse: {text}", setting=setting, fix="check the name, or make it")
    if code in _MISSING_COLUMN:
        return ConfigurationError(
            f"ClickHouse: {text}",
            setting="CLICKHOUSE_TEXT_COLUMN",
            fix="check the CLICKHOUSE_*_COLUMN names; after an upgrade run `labelstream init`",
        )
    if code in _SETTINGS:
        return ConfigurationError(
            f"ClickHouse refuses a setting: {text}",
            setting="CLICKHOUSE_USERNAME",
            fix="let the user's profile change it (no readonly profile, no constraint on it)",
        )
    if code in _TOO_LONG:
        return UnavailableError(f"ClickHouse took too long: {text}", setting=SETTING)
    if code in _OVERLOADED:
        return OverloadedError(f"ClickHouse has no room now: {text}")
    if code in _DATA or isinstance(error, driver.DataError):
        return RefusedError(f"ClickHouse refuses the data: {text}", reason="refused-by-table")
    if "certificate is not valid for" in text:
        return AccessError(
            f"ClickHouse's certificate is for another name: {text}",
            setting=SETTING,
            fix="set CLICKHOUSE_HOST to a name that the certificate holds",
        )
    if "NO_CERTIFICATE_OR_CRL_FOUND" in text:
        return ConfigurationError(
            f"the file of the authority for ClickHouse cannot be used: {text}",
            setting="CLICKHOUSE_CA_CERT",
            fix="give a PEM file with the certificate of the CA",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text.lower():
        return AccessError(
            f"ClickHouse's certificate is not accepted: {text}",
            setting="CLICKHOUSE_CA_CERT",
            fix="point it at the CA that signed the certificate",
        )
    if code in _AWAY or isinstance(error, (driver.OperationalError, OSError, TimeoutError)):
        return UnavailableError(f"ClickHouse does not answer: {text}", setting=SETTING)
    if isinstance(error, driver.ClickHouseError) or type(error).__module__.startswith("urllib3"):
        return UnavailableError(f"ClickHouse: {text}", setting=SETTING)
    return PermanentError(f"unexpected error from ClickHouse's client: {text}", reason="unexpected")
