"""Kafka's jars: downloaded once, checked, and a failure that says what to do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.local.jars import Jar, JarsUnavailableError, ensure_jars, kafka_jars
from tests.waiting import PATIENCE

Fetch = Callable[[Jar, Path], Path]


def content(jar: Jar) -> bytes:
    return f"content of {jar.artifact}".encode()


def jar(name: str) -> Jar:
    data = f"content of {name}".encode()
    return Jar("org.example", name, "1.0", len(data), hashlib.sha256(data).hexdigest())


JARS = [jar("one"), jar("two"), jar("three")]


class Repository:
    """Gives jars, counts the requests; ``spoil`` may change what one gives."""

    def __init__(self, spoil: Callable[[Jar, int, bytes], bytes] = lambda _jar, _request, data: data) -> None:
        self.requests: list[str] = []
        self._spoil = spoil

    def __call__(self, wanted: Jar, scratch: Path) -> Path:
        self.requests.append(wanted.artifact)
        data = self._spoil(wanted, self.requests.count(wanted.artifact), content(wanted))
        path = scratch / "deep" / wanted.filename
        path.parent.mkdir()
        path.write_bytes(data)
        return path


def offline(_jar: Jar, _scratch: Path) -> Path:
    raise AssertionError("the network was touched")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in {one.filename for one in JARS})


def test_missing_jars_are_downloaded_in_order_and_then_never_again(tmp_path: Path) -> None:
    repository = Repository()
    paths = ensure_jars(tmp_path / "jars", fetch=repository, jars=JARS)
    assert [path.name for path in paths] == ["one-1.0.jar", "two-1.0.jar", "three-1.0.jar"]
    assert [path.read_bytes() for path in paths] == [content(one) for one in JARS]
    assert ensure_jars(tmp_path / "jars", fetch=offline, jars=JARS) == paths
    assert repository.requests == ["one", "two", "three"]
    assert leftovers(tmp_path / "jars") == []


def test_only_what_is_missing_or_cut_short_is_downloaded(tmp_path: Path) -> None:
    ensure_jars(tmp_path, fetch=Repository(), jars=JARS)
    (tmp_path / "one-1.0.jar").unlink()
    (tmp_path / "two-1.0.jar").write_bytes(b"content of t")
    repository = Repository()
    ensure_jars(tmp_path, fetch=repository, jars=JARS)
    assert repository.requests == ["one", "two"]
    assert (tmp_path / "two-1.0.jar").read_bytes() == content(JARS[1])


def test_progress_tells_the_total_first_and_the_whole_at_the_end(tmp_path: Path) -> None:
    lines: list[str] = []
    ensure_jars(tmp_path, lines.append, fetch=Repository(), jars=JARS)
    assert "3 jars" in lines[0]
    assert "MB" in lines[0]
    assert "3 of 3 jars" in lines[-1]
    lines.clear()
    ensure_jars(tmp_path, lines.append, fetch=offline, jars=JARS)
    assert lines == []


def test_a_download_that_heals_is_taken(tmp_path: Path) -> None:
    repository = Repository(lambda _jar, request, data: data if request > 1 else data[:-1])
    paths = ensure_jars(tmp_path, fetch=repository, jars=JARS[:1])
    assert paths[0].read_bytes() == content(JARS[0])
    assert repository.requests == ["one", "one"]
    assert leftovers(tmp_path) == []


def test_a_wrong_digest_never_enters_the_folder(tmp_path: Path) -> None:
    def swap(wanted: Jar, _request: int, data: bytes) -> bytes:
        return data.replace(b"content", b"CONTENT") if wanted.artifact == "two" else data  # same size

    with pytest.raises(JarsUnavailableError, match=r"org\.example:two:1\.0.*digest"):
        ensure_jars(tmp_path, fetch=Repository(swap), jars=JARS)
    assert (tmp_path / "one-1.0.jar").is_file()
    assert not (tmp_path / "two-1.0.jar").exists()
    assert leftovers(tmp_path) == []


def test_a_failed_download_says_what_is_missing_why_and_what_to_set(tmp_path: Path) -> None:
    def refuse(_jar: Jar, _scratch: Path) -> Path:
        raise ConnectionError("no route\nto host")

    with pytest.raises(JarsUnavailableError) as caught:
        ensure_jars(tmp_path / "jars", fetch=refuse, jars=JARS)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "org.example:one:1.0",
        "ConnectionError: no route to host",
        "KAFKA_BOOTSTRAP_SERVERS",
        str(tmp_path / "jars"),
        "JGO_CONFIG_FILE",
    ):
        assert part in message
    assert caught.value.setting == "KAFKA_BOOTSTRAP_SERVERS"


def test_a_killed_download_does_not_count(tmp_path: Path) -> None:
    scratch = tmp_path / ".download-killed"
    scratch.mkdir()
    (scratch / "one-1.0.jar").write_bytes(content(JARS[0]))
    repository = Repository()
    ensure_jars(tmp_path, fetch=repository, jars=JARS)
    assert repository.requests == ["one", "two", "three"]


def test_two_processes_may_fill_one_folder(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def fetch(wanted: Jar, scratch: Path) -> Path:
        path = Repository()(wanted, scratch)
        if wanted.artifact == "one":
            both.wait(PATIENCE)  # both have it, before either puts it in place
        return path

    failures: list[BaseException] = []

    def fill() -> None:
        try:
            ensure_jars(tmp_path, fetch=fetch, jars=JARS)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fill) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert leftovers(tmp_path) == []
    ensure_jars(tmp_path, fetch=offline, jars=JARS)


def test_the_shipped_list_is_one_whole_kafka() -> None:
    jars = kafka_jars()
    names = [one.artifact for one in jars]
    assert {"kafka_2.13", "kafka-clients", "kafka-storage", "kafka-raft", "scala-library"} <= set(names)
    assert len(names) == len(set(names))
    assert all(len(one.sha256) == 64 and one.size > 0 for one in jars)
