"""Three brokers for the tests of this folder, which run in one process; they end with the last of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, cluster_in


@pytest.fixture(scope="package")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def cluster(brokers: Cluster) -> Iterator[Cluster]:
    """Three brokers, whole again after each test."""
    yield brokers
    brokers.repair()
