"""The jars of Apache Kafka: a packaged list with digests, and a cache folder that is filled from it once.

The list (``data/kafka-<version>.jars``) is what Maven resolves for ``org.apache.kafka:kafka_2.13``, plus the
logging binding of Kafka's own distribution. With the list the set is reproducible, the total size is known in
advance, and only the jars themselves are downloaded (resolving them takes a hundred more requests and ten
seconds).

``python -m connectors.local.jars`` resolves the list again and prints it, for a change of version.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from streams.core.errors import UnavailableError

KAFKA_VERSION = "4.1.0"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka logs through slf4j 1.7; without a binding its log stays empty, errors included.
_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
_ATTEMPTS = 3

Progress = Callable[[str], None]


class JarsUnavailableError(UnavailableError):
    """Kafka's jars are missing and cannot be downloaded; the message says which, why, and what to set."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the list: Maven coordinate, size in bytes, sha256 in hex."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


Fetch = Callable[[Jar, Path], Path]
"""Downloads one jar to somewhere below the scratch folder, returns where it is; raises on any failure."""


def kafka_jars() -> list[Jar]:
    """The shipped list, in class-path order."""
    text = resources.files(__package__).joinpath(f"data/kafka-{KAFKA_VERSION}.jars").read_text("utf-8")
    jars = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinate, size, sha256 = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, int(size), sha256))
    return jars


def ensure_jars(
    jars_dir: Path,
    on_progress: Progress | None = None,
    fetch: Fetch | None = None,
    jars: Sequence[Jar] | None = None,
) -> list[Path]:
    """Return the paths of all jars in ``jars_dir``, downloading those that are missing.

    A jar is put in place only when it is complete and its digest is right. So a killed download leaves
    nothing to repair, and several processes may fill one folder. If nothing is missing, the network is not
    used.

    Raises :class:`JarsUnavailableError`.
    """
    wanted = kafka_jars() if jars is None else list(jars)
    paths = [jars_dir / jar.filename for jar in wanted]
    missing = [jar for jar, path in zip(wanted, paths, strict=True) if not _complete(path, jar)]
    if not missing:
        return paths
    report = on_progress or (lambda _line: None)
    fetch = fetch or _jgo_fetch
    have, megabytes = len(wanted) - len(missing), sum(jar.size for jar in missing) / 1e6
    report(f"downloading Apache Kafka {KAFKA_VERSION}: {len(missing)} jars, {megabytes:.0f} MB, once")
    received, said = 0, time.monotonic()
    for jar in missing:
        _fetch_into(jars_dir, jar, fetch)
        have, received = have + 1, received + jar.size
        if time.monotonic() - said > 0.5 or have == len(wanted):
            report(
                f"downloading Apache Kafka {KAFKA_VERSION}: {have} of {len(wanted)} jars, "
                f"{received / 1e6:.0f} MB"
            )
            said = time.monotonic()
    return paths


def _complete(path: Path, jar: Jar) -> bool:
    # Jars are renamed into the folder after their digest was checked, so the right size means a complete jar.
    return path.is_file() and path.stat().st_size == jar.size


def _fetch_into(jars_dir: Path, jar: Jar, fetch: Fetch) -> None:
    jars_dir.mkdir(parents=True, exist_ok=True)
    problem: Exception | None = None
    for attempt in range(_ATTEMPTS):
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=jars_dir))
        try:
            got = fetch(jar, scratch)
            digest = hashlib.sha256(got.read_bytes()).hexdigest()
            if digest != jar.sha256:
                raise ValueError(f"digest {digest[:12]}… instead of {jar.sha256[:12]}…")
            os.replace(got, jars_dir / jar.filename)
            return
        except Exception as error:  # whatever a resolver or the network raises, the advice is the same
            problem = error
            time.sleep(0.5 * attempt)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    raise JarsUnavailableError(
        f"Apache Kafka {KAFKA_VERSION} could not be downloaded: {jar} ({_short(problem)}). "
        f"Set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs already, or copy the jars into {jars_dir} "
        "from a machine that has them; a repository of your own goes into jgo's settings file "
        "(JGO_CONFIG_FILE, section [repositories]).",
        setting="KAFKA_BOOTSTRAP_SERVERS",
    ) from problem


def _short(error: Exception | None) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


def _jgo_fetch(jar: Jar, scratch: Path) -> Path:
    context = _maven(scratch)
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    return Path(component.artifact().resolve())


def _maven(cache: Path):  # type: ignore[no-untyped-def]
    """A Maven context that writes below ``cache`` only: a home folder may be missing or read-only."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    own_repositories = GlobalSettings.load().repositories
    return MavenContext(repo_cache=cache, remote_repos=own_repositories or None, timeout=30)


def _print_list() -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = _maven(Path(folder))
        kafka, logging_binding = (context.create_dependency(root) for root in (_KAFKA, _LOGGING))
        # Resolved alone: together, the second root's managed versions would replace Kafka's own clients.
        inputs, transitive = context.resolver.resolve([kafka])
        wanted = [*inputs, logging_binding, *transitive]
        print(f"# {_KAFKA} and {_LOGGING}: coordinate, bytes, sha256")
        for dependency in wanted:
            if dependency.optional or dependency.scope not in (None, "compile", "runtime"):
                continue
            path = dependency.artifact.resolve()
            coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
            print(coordinate, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    _print_list()
