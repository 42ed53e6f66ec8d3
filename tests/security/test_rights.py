"""The rights that `operations.md` names are enough, and `check` names each that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from streams.core.settings import Settings
from tests.security.access_lists import AccessLists
from tests.security.missing_rights import MissingRights
from tests.security.parts import SECRET, USER, Certificates, kafka, settings
from tests.security.secured import USERS, Cluster, Secured, work_through
from tests.stack import SharedStack, fresh_name


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("guarded")
    with kafka(folder, "SASL_SSL", certificates, users=(USER, *USERS), acls=True) as broker:
        yield Cluster(f"127.0.0.1:{broker.port}", f"127.0.0.1:{broker.internal}", (broker.log,))


@pytest.fixture
def given(cluster: Cluster, certificates: Certificates) -> Settings:
    """Of a user who may do nothing yet, with topics of its own."""
    return settings(
        kafka_bootstrap_servers=cluster.address,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username=USER,
        kafka_sasl_password=SECRET,
        kafka_ssl_cafile=certificates.ca,
        topic_prefix=fresh_name("rights"),
        topic_partitions=1,
    )


async def test_a_right_that_is_missing_is_named(given: Settings, cluster: Cluster) -> None:
    """One of each kind; `make soak-secured` takes all."""
    user = MissingRights(given, AccessLists(cluster.internal))
    text = await user.said()
    for right in user.wanted:
        assert await user.names(right), f"{right}: {text}"
    await user.allow_all()  # it is told of topics that are not made yet
    await Admin(connection(given)).create_topics(given)
    await user.take_each({(right.resource, right.operation): right for right in user.wanted}.values())
    await user.close()


def test_with_its_rights_alone_each_role_and_command_works(
    cluster: Cluster, shared: SharedStack, certificates: Certificates, tmp_path: Path
) -> None:
    flow = Secured(cluster, shared.all(), certificates, fresh_name("secured"), tmp_path)
    try:
        work_through(flow)
    finally:
        flow.stop()
