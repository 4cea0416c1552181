"""Fixtures of the tests of object storage."""

import pytest

from tests.datasets.store.object_storage import (
    SECRETS,
    gcs_server,
    s3_server,
)


@pytest.fixture(scope="session")
def running_servers():
    """A server of S3 and one of Google Cloud Storage, each with a bucket."""
    with s3_server() as s3, gcs_server() as gs:
        yield s3, gs


@pytest.fixture(scope="module")
def servers(running_servers):
    """A bucket by scheme; the environment says where the servers are."""
    s3, gs = running_servers
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        found = {**SECRETS, "AWS_ENDPOINT_URL": s3.server, "AWS_EC2_METADATA_DISABLED": "true"}
        found |= {"TENSORSTORE_GCS_HTTP_URL": gs.server, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token"}
        for name, value in found.items():
            patch.setenv(name, value)
        yield {"s3": s3, "gs": gs}


@pytest.fixture(params=["s3", "gs"])
def bucket(request, servers):
    return servers[request.param]


@pytest.fixture
def s3(servers):
    return servers["s3"]
