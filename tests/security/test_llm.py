"""Connections to LLM endpoints that are not trusted are not made."""

from __future__ import annotations

import pytest

from connectors.llm.client import ChatClient
from streams.core.errors import AccessError, ConfigurationError, LabelstreamError
from tests.security.parts import SECRET, Certificates, chain_of, settings


def given(port: int, certificates: Certificates, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "llm_labeler_api_base": f"https://127.0.0.1:{port}/v1",
        "llm_labeler_api_key": SECRET,
        "llm_ca_cert": certificates.ca,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


async def models(**values: object) -> list[str]:
    client = ChatClient.from_settings(settings(**values), "labeler")
    try:
        return await client.models()
    finally:
        await client.close()


async def refused(**values: object) -> AccessError:
    with pytest.raises(AccessError) as caught:
        await models(**values)
    assert SECRET not in chain_of(caught.value)
    assert caught.value.fix
    return caught.value


async def test_the_right_authority_and_key_come_in(endpoint: int, certificates: Certificates) -> None:
    assert await models(**given(endpoint, certificates))


async def test_a_wrong_authority_is_refused(endpoint: int, certificates: Certificates) -> None:
    error = await refused(**given(endpoint, certificates, llm_ca_cert=certificates.other_ca))
    assert error.setting == "LLM_CA_CERT"


async def test_without_the_authority_it_is_refused(endpoint: int, certificates: Certificates) -> None:
    assert (await refused(**given(endpoint, certificates, llm_ca_cert=None))).setting == "LLM_CA_CERT"


async def test_a_wrong_host_name_is_refused(endpoint: int, certificates: Certificates) -> None:
    error = await refused(
        **given(endpoint, certificates, llm_labeler_api_base=f"https://localhost:{endpoint}/v1")
    )
    assert error.setting == "LLM_LABELER_API_BASE"
    assert "localhost" in str(error)


@pytest.mark.parametrize("key", ["wrong-key", None])
async def test_a_wrong_key_is_refused(endpoint: int, certificates: Certificates, key: str | None) -> None:
    error = await refused(**given(endpoint, certificates, llm_labeler_api_key=key))
    assert error.setting == "LLM_LABELER_API_KEY"


async def test_in_the_clear_nothing_is_asked_of_a_port_that_speaks_tls(
    endpoint: int, certificates: Certificates
) -> None:
    with pytest.raises(LabelstreamError) as caught:
        await models(**given(endpoint, certificates, llm_labeler_api_base=f"http://127.0.0.1:{endpoint}/v1"))
    assert SECRET not in chain_of(caught.value)


async def test_a_file_that_is_no_authority_is_refused(endpoint: int, certificates: Certificates) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await models(**given(endpoint, certificates, llm_ca_cert=certificates.server_key))
    assert caught.value.setting == "LLM_CA_CERT"


def test_a_missing_file_is_refused_by_the_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"LLM_CA_CERT.*nowhere"):
        settings(llm_ca_cert="/nowhere.pem")
