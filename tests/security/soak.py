"""Three brokers that ask for TLS, a password and rights: ``python -m tests.security.soak``, as
`make soak-secured` runs it.

Each role and command works with the rights that are declared for it and no more, and each right that one user
lacks is named by `check`. Exit code 1 if not.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from pydantic import SecretStr

from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.local.kafka import Security
from tests.cluster import BROKERS, cluster_in
from tests.faults.world import as_program
from tests.security.access_lists import AccessLists
from tests.security.missing_rights import MissingRights
from tests.security.parts import SECRET, USER, Certificates, make_certificates, settings
from tests.security.secured import USERS, Cluster, Secured, work_through
from tests.stack import TAXONOMY, stack_in


async def each_is_named(cluster: Cluster, certificates: Certificates) -> int:
    """Take away every right of one user, one after the other; returns how many."""
    given = settings(
        kafka_bootstrap_servers=cluster.address,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username=USER,
        kafka_sasl_password=SECRET,
        kafka_ssl_cafile=certificates.ca,
        topic_prefix="missing",
        topic_partitions=1,
    )
    user = MissingRights(given, AccessLists(cluster.internal))
    await user.allow_all()
    await Admin(connection(given)).create_topics(given)
    await user.take_each(user.wanted)
    await user.close()
    return len(user.wanted)


def main() -> int:
    """Run both."""
    as_program()
    with tempfile.TemporaryDirectory(prefix="labelstream-secured-") as scratch:
        folder = Path(scratch)
        certificates = make_certificates(folder)
        security = Security(
            "SASL_SSL",
            0,
            certificate=certificates.both,
            users={user: SecretStr(SECRET) for user in (USER, *USERS)},
            acls=True,
        )
        with (
            cluster_in(folder, security=security) as brokers,
            stack_in(folder / "stack", kafka=False, taxonomy=TAXONOMY) as stack,
        ):
            logs = tuple(brokers.log_of(number) for number in BROKERS)
            cluster = Cluster(brokers.address, brokers.internal_address, logs)
            begun = time.monotonic()
            count = asyncio.run(each_is_named(cluster, certificates))
            print(f"{count} rights taken away, each named: {time.monotonic() - begun:.0f} s", flush=True)
            work = folder / "work"
            work.mkdir()
            flow = Secured(cluster, stack, certificates, "secured", work)
            begun = time.monotonic()
            try:
                work_through(flow, rows=200, thorough=True)
            finally:
                flow.stop()
            print(f"roles and commands with their rights alone: {time.monotonic() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
