"""Translates aiokafka's exceptions to ours."""

from __future__ import annotations

import ssl

from aiokafka import errors as kafka

from connectors.kafka.rights.declared import READ, Resource
from streams.core.errors import (
    AccessError,
    ConfigurationError,
    LabelstreamError,
    LeaseLostError,
    OverloadedError,
    PermanentError,
    RefusedError,
    UnavailableError,
)

SETTING = "KAFKA_BOOTSTRAP_SERVERS"

_LOGIN = (kafka.AuthenticationFailedError, kafka.SaslAuthenticationFailed)
_ACCESS = (
    kafka.IllegalSaslStateError,
    kafka.SecurityDisabled,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.DelegationTokenAuthDisabled,
    kafka.DelegationTokenAuthorizationFailed,
    kafka.DelegationTokenExpired,
    kafka.DelegationTokenNotFound,
    kafka.DelegationTokenOwnerMismatch,
    kafka.DelegationTokenRequestNotAllowed,
)
# OpenSSL's codes for a certificate of another host or address.
_WRONG_NAME = {62, 64}
_NOT_TLS = {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"}
# The group, or a newer producer, has taken over.
_LEASE = (
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.UnknownMemberIdError,
    kafka.RebalanceInProgressError,
    kafka.ProducerFenced,
    kafka.TransactionCoordinatorFenced,
    kafka.StaleControllerEpochError,
)
_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError, kafka.RecordTooLargeError)
_REFUSED = (
    kafka.InvalidMessageError,
    kafka.CorruptRecordException,
    kafka.InvalidTimestampError,
    kafka.PolicyViolationError,
    kafka.UnsupportedForMessageFormatError,
    kafka.UnsupportedCodecError,
    kafka.InvalidCommitOffsetSizeError,
    kafka.OffsetMetadataTooLargeError,
)
_CONFIGURATION = (
    kafka.IncompatibleBrokerVersion,
    kafka.UnrecognizedBrokerVersion,
    kafka.UnsupportedVersionError,
    kafka.InvalidTopicError,
    kafka.InvalidGroupIdError,
    kafka.InvalidSessionTimeoutError,
    kafka.InconsistentGroupProtocolError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidReplicationAssignmentError,
    kafka.InvalidConfigurationError,
    kafka.InvalidRequiredAcksError,
    kafka.KafkaConfigurationError,
    kafka.IllegalOperation,
)


def translate(error: BaseException) -> LabelstreamError:
    """Our error for one of aiokafka, or of the layers below it (sockets, TLS).

    Everything that is neither refused nor forbidden counts as unavailable: waiting loses nothing.
    """
    text = _sentence(error)
    if isinstance(error, LabelstreamError):
        return error
    if isinstance(error, ssl.SSLError):
        return _certificate(error)
    if isinstance(error, (kafka.UnsupportedSaslMechanismError, kafka.AuthenticationMethodNotSupported)):
        return AccessError(
            f"Kafka does not take this SASL mechanism: {text}",
            setting="KAFKA_SASL_MECHANISM",
            fix="ask which one the brokers have enabled",
        )
    if isinstance(error, _LOGIN):
        return AccessError(
            f"Kafka refuses user or password: {text}",
            setting="KAFKA_SASL_PASSWORD",
            fix="check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM",
        )
    if isinstance(error, kafka.TopicAuthorizationFailedError):
        return lacking("", "topic", _named(error))
    if isinstance(error, kafka.GroupAuthorizationFailedError):
        return lacking(READ, "group", _named(error))
    if isinstance(error, _ACCESS):
        return AccessError(
            f"Kafka refuses access: {text}",
            setting="KAFKA_SASL_USERNAME",
            fix="check the user's rights on topics and groups",
        )
    if isinstance(error, _LEASE):
        return LeaseLostError(f"the consumer group has moved on: {text}")
    if isinstance(error, _TOO_LARGE):
        return RefusedError(f"too large for the topic: {text}", reason="too-large")
    if isinstance(error, _REFUSED):
        return RefusedError(f"Kafka refuses the message: {text}", reason="refused-by-kafka")
    if isinstance(error, _CONFIGURATION):
        return ConfigurationError(f"Kafka: {text}", setting=SETTING)
    if isinstance(error, (kafka.QuotaViolationError, kafka.TooManyInFlightRequests)):
        return OverloadedError(f"Kafka has no room now: {text}")
    if isinstance(error, (kafka.KafkaError, kafka.ConsumerStoppedError, OSError, TimeoutError)):
        return UnavailableError(f"Kafka does not answer: {text}", setting=SETTING)
    return PermanentError(f"unexpected error from Kafka's client: {text}", reason="unexpected")


def lacking(operation: str, resource: Resource, name: str) -> AccessError:
    """The error for a right that the user has not. ``operation`` is empty where the brokers do not say it."""
    right = f"the right {operation}" if operation else "a right"
    return AccessError(
        f"Kafka refuses access: {right} on {resource} {name or '(the brokers do not say which)'} is missing",
        setting="KAFKA_SASL_USERNAME",
        fix="labelstream check names each missing right, and the command that grants it",
    )


def _named(error: kafka.KafkaError) -> str:
    """The topics or the group that aiokafka's ``error`` is about; empty if it does not say."""
    names = error.args[0] if error.args else ""
    return names if isinstance(names, str) else ", ".join(sorted(map(str, names)))


def _certificate(error: ssl.SSLError) -> LabelstreamError:
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _WRONG_NAME:
        return AccessError(
            f"Kafka's certificate is for another name: {error.verify_message}",
            setting=SETTING,
            fix="use a name that the brokers' certificates hold; the brokers must also advertise it",
        )
    reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
    if "ALERT" in reason:  # sent by the broker
        return AccessError(
            f"Kafka does not accept our certificate: {reason}",
            setting="KAFKA_SSL_CERTFILE",
            fix="set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE to a certificate that the brokers trust",
        )
    if isinstance(error, ssl.SSLEOFError) or reason in _NOT_TLS:
        return UnavailableError(f"Kafka does not answer in TLS: {reason}", setting=SETTING)
    return AccessError(
        f"Kafka's certificate is not accepted: {reason}",
        setting="KAFKA_SSL_CAFILE",
        fix="point it at the CA that signed the brokers' certificates",
    )


def _sentence(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except AttributeError:  # aiokafka's abstract base has no error number to show
        return type(error).__name__
