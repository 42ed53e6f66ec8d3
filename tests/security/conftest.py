"""The parts of the local stack, asking for certificates and passwords."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from connectors.local import processes
from tests.security.parts import SECRET, USER, Certificates, make_certificates, running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[int]:
    """The port of a ClickHouse that speaks https and knows one password."""
    folder, port = tmp_path_factory.mktemp("clickhouse"), processes.free_port()
    command = processes.python_module(
        "connectors.local.clickhouse",
        *("--path", str(folder / "store"), "--port", str(port), "--user", USER),
        *("--password-env", "TEST_CLICKHOUSE_PASSWORD"),
        *("--tls-cert", str(certificates.server), "--tls-key", str(certificates.server_key)),
    )
    os.environ["TEST_CLICKHOUSE_PASSWORD"] = SECRET
    try:
        with running(command, folder / "log", lambda: not processes.port_is_free(port)):
            yield port
    finally:
        del os.environ["TEST_CLICKHOUSE_PASSWORD"]


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[int]:
    """The port of an LLM stand-in that speaks https and asks for a key."""
    folder, port = tmp_path_factory.mktemp("llm"), processes.free_port()
    command = processes.python_module(
        "connectors.llm.standin",
        *("--port", str(port), "--taxonomy", "taxonomy.yaml", "--api-key", SECRET),
        *("--tls-cert", str(certificates.server), "--tls-key", str(certificates.server_key)),
    )
    with running(command, folder / "log", lambda: not processes.port_is_free(port)):
        yield port


@pytest.fixture(autouse=True)
def no_secret_is_told(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may end with a secret in what was printed or logged."""
    with caplog.at_level("DEBUG"):
        yield
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err + caplog.text
