"""What each error code of the protocol means to a writer: ask again, roll back, fenced, or stop.

Of Produce and of what a transaction asks besides: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit,
EndTxn, OffsetCommit and FindCoordinator. The names are the client's. tests/unit/test_refusals.py holds the table to all
codes that the client knows, so that a new one is classified before it is met.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from kafka import errors


class Fate(Enum):
    """What a refusal means, the gravest first."""

    PERMANENT = 1
    """The same again after every retry and every restart: stop, and say what to do."""
    FENCING = 2
    """A newer producer, or member, of this name has taken over: stop."""
    ABORTABLE = 3
    """The transaction is over: roll back and begin anew, for as long as the link's patience."""
    RETRIABLE = 4
    """The request is over and had no effect: ask again, of whichever broker is in charge by then."""
    DONE = 5


_TABLE: Final = {
    Fate.DONE: (
        errors.NoError,
        errors.DuplicateSequenceNumberError,  # appended by an earlier copy of the request
    ),
    Fate.RETRIABLE: (
        errors.UnknownTopicOrPartitionError,  # a broker that is yet to learn of it; PERMANENT where it lasts
        errors.LeaderNotAvailableError,
        errors.NotLeaderForPartitionError,
        errors.RequestTimedOutError,
        errors.ReplicaNotAvailableError,
        errors.NetworkExceptionError,
        errors.CoordinatorLoadInProgressError,
        errors.CoordinatorNotAvailableError,
        errors.NotCoordinatorError,
        errors.NotEnoughReplicasError,
        errors.NotEnoughReplicasAfterAppendError,
        errors.NotControllerError,
        errors.ConcurrentTransactionsError,
        errors.KafkaStorageError,
        errors.ListenerNotFoundError,
        errors.FencedLeaderEpochError,
        errors.UnknownLeaderEpochError,
        errors.OffsetNotAvailableError,
        errors.PreferredLeaderNotAvailableError,
        errors.EligibleLeadersNotAvailableError,
        errors.UnstableOffsetCommitError,
        errors.ThrottlingQuotaExceededError,
        errors.UnknownTopicIdError,
        errors.InconsistentTopicIdError,
    ),
    Fate.ABORTABLE: (
        errors.UnknownError,
        errors.CorruptRecordError,  # damaged on its way
        errors.BrokerNotAvailableError,
        errors.StaleControllerEpochError,
        errors.IllegalGenerationError,
        errors.UnknownMemberIdError,
        errors.RebalanceInProgressError,
        errors.OutOfOrderSequenceNumberError,
        errors.InvalidTxnStateError,
        errors.InvalidProducerIdMappingError,
        errors.TransactionCoordinatorFencedError,
        errors.OperationNotAttemptedError,
        errors.UnknownProducerIdError,
        errors.ReassignmentInProgressError,
        errors.StaleBrokerEpochError,
        errors.MemberIdRequiredError,
        errors.TransactionalIdNotFoundError,
        errors.NewLeaderElectedError,
        errors.FencedMemberEpochError,
        errors.StaleMemberEpochError,
        errors.TransactionAbortableError,
    ),
    Fate.FENCING: (
        errors.InvalidProducerEpochError,
        errors.ProducerFencedError,
        errors.FencedInstanceIdError,
    ),
    Fate.PERMANENT: (
        errors.MessageSizeTooLargeError,
        errors.OffsetMetadataTooLargeError,
        errors.InvalidTopicError,
        errors.RecordListTooLargeError,
        errors.InvalidRequiredAcksError,
        errors.InconsistentGroupProtocolError,
        errors.InvalidGroupIdError,
        errors.InvalidSessionTimeoutError,
        errors.InvalidCommitOffsetSizeError,
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.InvalidTimestampError,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
        errors.UnsupportedVersionError,
        errors.InvalidPartitionsError,
        errors.InvalidConfigurationError,
        errors.InvalidRequestError,
        errors.UnsupportedForMessageFormatError,
        errors.PolicyViolationError,
        errors.InvalidTransactionTimeoutError,
        errors.TransactionalIdAuthorizationFailedError,
        errors.SecurityDisabledError,
        errors.LogDirNotFoundError,
        errors.SaslAuthenticationFailedError,
        errors.DelegationTokenAuthDisabledError,
        errors.DelegationTokenNotFoundError,
        errors.DelegationTokenOwnerMismatchError,
        errors.DelegationTokenRequestNotAllowedError,
        errors.DelegationTokenAuthorizationFailedError,
        errors.DelegationTokenExpiredError,
        errors.UnsupportedCompressionTypeError,
        errors.GroupMaxSizeReachedError,
        errors.InvalidRecordError,
        errors.UnacceptableCredentialError,
        errors.PrincipalDeserializationFailureError,
        errors.InconsistentClusterIdError,
    ),
}
_OF_OTHER_REQUESTS: Final = (
    errors.OffsetOutOfRangeError,
    errors.InvalidFetchRequestError,
    errors.TopicAlreadyExistsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidReplicationAssignmentError,
    errors.InvalidPrincipalTypeError,
    errors.NonEmptyGroupError,
    errors.GroupIdNotFoundError,
    errors.FetchSessionIdNotFoundError,
    errors.InvalidFetchSessionEpochError,
    errors.TopicDeletionDisabledError,
    errors.ElectionNotNeededError,
    errors.NoReassignmentInProgressError,
    errors.GroupSubscribedToTopicError,
    errors.ResourceNotFoundError,
    errors.DuplicateResourceError,
    errors.InconsistentVoterSetError,
    errors.InvalidUpdateVersionError,
    errors.FeatureUpdateFailedError,
    errors.SnapshotNotFoundError,
    errors.PositionOutOfRangeError,
    errors.DuplicateBrokerRegistrationError,
    errors.BrokerIdNotRegisteredError,
    errors.FetchSessionTopicIdError,
    errors.IneligibleReplicaError,
    errors.OffsetMovedToTieredStorageError,
    errors.UnreleasedInstanceIdError,
    errors.UnsupportedAssignorError,
    errors.MismatchedEndpointTypeError,
    errors.UnsupportedEndpointTypeError,
    errors.UnknownControllerIdError,
    errors.UnknownSubscriptionIdError,
    errors.TelemetryTooLargeError,
    errors.InvalidRegistrationError,
    errors.InvalidRecordStateError,
    errors.ShareSessionNotFoundError,
    errors.InvalidShareSessionEpochError,
    errors.FencedStateEpochError,
    errors.InvalidVoterKeyError,
    errors.DuplicateVoterError,
    errors.VoterNotFoundError,
)
"""Codes that no request of a writer is answered with. One that is all the same is ABORTABLE: it ends by its name."""

_OF_A_REBALANCE: Final = (
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    errors.FencedMemberEpochError,
    errors.StaleMemberEpochError,
)

FATES: Final = {kind.errno: fate for fate, kinds in _TABLE.items() for kind in kinds}
"""By code."""
OTHERS: Final = frozenset(kind.errno for kind in _OF_OTHER_REQUESTS)


def fate(error: BaseException) -> Fate:
    """Return what an error means: ABORTABLE where it has no code, or one newer than the table."""
    code = getattr(error, "errno", None)
    if isinstance(error, errors.UnknownBrokerIdError) or (code is None and isinstance(error, errors.RetriableError)):
        return Fate.RETRIABLE  # it was not sent
    return FATES.get(code, Fate.ABORTABLE)


def is_of_a_rebalance(error: BaseException) -> bool:
    """Whether the group has only moved on, as it does: what was read under its last generation is read again."""
    return isinstance(error, _OF_A_REBALANCE)


def lasting(error: BaseException) -> Fate:
    """Return what it means that an error is the last word, after all retries."""
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return Fate.PERMANENT
    found = fate(error)
    return Fate.ABORTABLE if found is Fate.RETRIABLE else found
