"""Makes boto3's client for S3, or any server with its protocol, from what the environment says."""

from __future__ import annotations

import os
from typing import Any

from semseg.data.s3_errors import excerpt
from semseg.errors import DataError

_CONNECTIONS = 32


def connect(connect_timeout: float, read_timeout: float) -> Any:
    """Return a client of boto3; the timeouts are in seconds. Raises DataError."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1},
    )
    try:
        session = boto3.session.Session()
        region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
        return session.client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise DataError(
            f"S3 cannot be used: {excerpt(str(error))}.", "Check the environment variables AWS_*."
        ) from error
