"""aiokafka's exceptions, told in ours."""

from __future__ import annotations

import ssl

from aiokafka import errors as kafka

from streams.errors import (
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

_ACCESS = (
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
    kafka.SecurityDisabled,
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.DelegationTokenAuthDisabled,
    kafka.DelegationTokenAuthorizationFailed,
    kafka.DelegationTokenExpired,
    kafka.DelegationTokenNotFound,
    kafka.DelegationTokenOwnerMismatch,
    kafka.DelegationTokenRequestNotAllowed,
)
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
    """Our error for one of aiokafka's, or for what lies below it (sockets, TLS).

    What is neither refused nor forbidden counts as unavailable: waiting loses nothing.
    """
    text = _sentence(error)
    if isinstance(error, LabelstreamError):
        return error
    if isinstance(error, ssl.SSLError):
        return AccessError(
            f"Kafka's certificate is not accepted: {getattr(error, 'reason', None) or error}",
            setting="KAFKA_SSL_CAFILE",
            fix="point it at the CA that signed the brokers' certificates",
        )
    if isinstance(error, _ACCESS):
        return AccessError(
            f"Kafka refuses access: {text}",
            setting="KAFKA_SASL_USERNAME",
            fix="check user, password and the user's rights on topics and groups",
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


def _sentence(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except AttributeError:  # aiokafka's abstract base has no error number to show
        return type(error).__name__
