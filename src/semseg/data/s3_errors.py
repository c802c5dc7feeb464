"""Errors of boto3: which ones are transient, and what they mean to the user.

botocore is imported on the first call, as this takes long and few jobs need it.
"""

from __future__ import annotations

from semseg.errors import DataError, one_line

_TRANSIENT_STATUS = (429, 500, 502, 503, 504)
_CREDENTIALS = ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch")
_HINTS = {
    403: "The role that runs this needs s3:GetObject for the object and s3:ListBucket for the bucket.",
    404: "Check bucket and key.",
    **dict.fromkeys(_TRANSIENT_STATUS, "S3 is overloaded or failing, also after several attempts: start again later."),
}
_NETWORK_HINT = (
    "Check the network: a VPC needs an S3 endpoint; AWS_ENDPOINT_URL_S3, if set, must name a reachable server."
)


def raised_by_s3() -> tuple[type[Exception], ...]:
    """The types of errors that `is_transient` and `to_data_error` handle."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, ClientError, HTTPError


def is_transient(error: Exception) -> bool:
    """Whether a retry is worthwhile: no connection, a stalled or broken transfer, a busy or failing server.

    Credentials that could not be renewed are a transient error, missing credentials are not.
    """
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    if isinstance(error, exceptions.ClientError):
        return _status(error) in _TRANSIENT_STATUS or _error_field(error, "Code") == "RequestTimeout"
    transient = (
        exceptions.ConnectionError,
        exceptions.CredentialRetrievalError,
        exceptions.FlexibleChecksumError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        HTTPError,
    )
    return isinstance(error, transient)


def to_data_error(error: Exception, name: str) -> DataError:
    """The error for the user; name: the object or address that was requested."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code, status = _error_field(error, "Code"), _status(error)
        hint = "Renew the credentials." if code in _CREDENTIALS else _HINTS.get(status, "")
        return DataError(f"{name}: S3 answers {status} {code}: {_error_field(error, 'Message').rstrip('.')}.", hint)
    no_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    )
    if isinstance(error, no_credentials):
        hint = "Give the job a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        return DataError(f"{name}: {excerpt(str(error)).rstrip('.')}.", hint)
    if isinstance(error, exceptions.ReadTimeoutError):
        return DataError(f"{name}: S3 has stopped answering (read timeout).", _NETWORK_HINT)
    cut = "The transfer was cut short: " if isinstance(error, exceptions.IncompleteReadError) else ""
    return DataError(f"{name}: {cut}{excerpt(str(error)).rstrip('.')}.", _NETWORK_HINT)


def excerpt(text: str) -> str:
    """A text from outside as part of a message: at most 300 characters, on one line."""
    return one_line(text[:300])


def _status(error: Exception) -> int:
    status: int = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def _error_field(error: Exception, key: str) -> str:
    return excerpt(str(getattr(error, "response", {}).get("Error", {}).get(key, "")))
