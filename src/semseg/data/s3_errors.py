"""What boto3 raises: whether it may pass, and what it means to the user.

The imports wait for the first call, because boto3 takes long to import and few jobs need it.
"""

from __future__ import annotations

from semseg.errors import DataError, one_line

_PASSING_STATUS = (429, 500, 502, 503, 504)
_CREDENTIALS = ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch")
_HINTS = {
    403: "The role that runs this needs s3:GetObject for the object and s3:ListBucket for the bucket.",
    404: "Check bucket and key.",
    **dict.fromkeys(_PASSING_STATUS, "It was asked several times: S3 is overloaded or failing, start again later."),
}
_NETWORK_HINT = "Check the network: a VPC needs an S3 endpoint; AWS_ENDPOINT_URL_S3, if set, must name a live server."


def raised_by_s3() -> tuple[type[Exception], ...]:
    """The errors that `may_pass` and `told` understand."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, ClientError, HTTPError


def may_pass(error: Exception) -> bool:
    """Whether it is worth while to ask again: no connection, a stalled or broken transfer, a busy or failing server.

    Of credentials: that they could not be renewed, not that there are none.
    """
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    if isinstance(error, exceptions.ClientError):
        return _status(error) in _PASSING_STATUS or _said(error, "Code") == "RequestTimeout"
    passing = (
        exceptions.ConnectionError,
        exceptions.CredentialRetrievalError,
        exceptions.FlexibleChecksumError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        HTTPError,
    )
    return isinstance(error, passing)


def told(error: Exception, name: str) -> DataError:
    """The error for the user, about what `name` says."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code, status = _said(error, "Code"), _status(error)
        hint = "Renew the credentials." if code in _CREDENTIALS else _HINTS.get(status, "")
        return DataError(f"{name}: S3 answers {status} {code}: {_said(error, 'Message').rstrip('.')}.", hint)
    no_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    )
    if isinstance(error, no_credentials):
        hint = "Give the job a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        return DataError(f"{name}: {shown(str(error)).rstrip('.')}.", hint)
    if isinstance(error, exceptions.ReadTimeoutError):
        return DataError(f"{name}: S3 has stopped answering (read timeout).", _NETWORK_HINT)
    cut = "The transfer was cut short: " if isinstance(error, exceptions.IncompleteReadError) else ""
    return DataError(f"{name}: {cut}{shown(str(error)).rstrip('.')}.", _NETWORK_HINT)


def shown(text: str) -> str:
    """A text from outside, fit for a message."""
    return one_line(text[:300])


def _status(error: Exception) -> int:
    status: int = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def _said(error: Exception, key: str) -> str:
    return shown(str(getattr(error, "response", {}).get("Error", {}).get(key, "")))
