"""Where stores lie: folders, s3://bucket/path and gs://bucket/path; and what goes wrong there.

Credentials are found by tensorstore, where other tools find them too (docs/store.md), and never
become part of a message: none repeats what a server answered, only its error code.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Read by tensorstore when it first connects. Without them a connection that a server or a firewall
# has forgotten is waited for until the kernel gives it up, half an hour later.
os.environ.setdefault("TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS", "10")
os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", "30")
os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")

import tensorstore as ts

from pointcmt.errors import StoreError, UsageError, nearest, require_utf8

DRIVERS = {"s3": "s3", "gs": "gcs"}  # by the URL's scheme
# Tries of a request, 0.5 s, 1 s, 2 s, … 8 s apart: a wrong address shows in seconds, while a store
# that was in use already is waited for for two minutes.
FIRST_TRIES, TRIES = 4, 18
FIRST_ANSWER = 30.0  # seconds for a place's first answer, tries included

_AGAIN = "run the same command again later: what is committed is safe"
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth "
    "application-default login`",
}
_OF_SYSTEM = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EROFS: ("the file system is read-only", "choose a place that can be written"),
    errno.EACCES: ("permission denied", "choose a place that can be written, or fix its owner"),
    errno.EPERM: ("operation not permitted", "choose a place that can be written"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another path"),
    errno.ENOTEMPTY: (
        "something writes to this folder while it is deleted",
        "stop that first, then run the same command again",
    ),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
}
_OF_CURL = {
    6: ("the server's name cannot be resolved", "check the network and the address"),
    7: ("nothing answers at the server's address", "check the network and the address"),
    28: ("the server does not answer", _AGAIN),
    60: (
        "the server's certificate is not trusted",
        "set TENSORSTORE_CA_BUNDLE to a file with its authority's certificate",
    ),
}


def is_remote(path: str) -> bool:
    """Whether a store is on object storage."""
    return "://" in path


def tidy(path: str) -> str:
    """A place's name without slashes at its end. Raises UsageError for an empty one."""
    if not path:
        raise UsageError(
            "the name of the store is empty", fix="a folder, s3://bucket/path or gs://bucket/path"
        )
    return path.rstrip("/") or "/"


def absolute(path: str) -> str:
    """The same place, whatever the current directory."""
    return path if is_remote(path) else str(Path(path).absolute())


def spec(path: str) -> dict[str, Any]:
    """The key-value store of a place, as a tensorstore spec. Raises UsageError for what is none."""
    if not is_remote(path):
        require_utf8(path, where="the store")
        scheme = re.match(r"(\w+):(/|$)", path)
        if scheme and scheme[1] in DRIVERS:
            raise UsageError(
                "this is neither a folder nor a URL", where=path, fix=f"{scheme[1]}://bucket/path"
            )
        return {"driver": "file", "path": f"{Path(path).absolute()}/".replace("//", "/")}
    scheme_, rest = path.split("://", 1)
    bucket, *parts = rest.rstrip("/").split("/")
    if scheme_ not in DRIVERS:
        raise UsageError(
            f"stores cannot be on {scheme_}://", where=path, fix=nearest(scheme_, DRIVERS)
        )
    if not bucket or {"", ".", ".."} & set(parts):
        raise UsageError(
            "this URL names no place", where=path, fix=f"{scheme_}://bucket/path, without . and .."
        )
    own = {"driver": DRIVERS[scheme_], "bucket": bucket, "path": "".join(f"{p}/" for p in parts)}
    return own | (_s3_options() if scheme_ == "s3" else {})


@cache
def context(threads: int, tries: int) -> ts.Context:
    """One pool of `threads` for decoding, encoding and file access; nothing is cached in memory.

    tries: of each request to a server.
    """
    retries = {"max_retries": tries, "initial_delay": "500ms", "max_delay": "8s"}
    return ts.Context(
        {
            "data_copy_concurrency": {"limit": threads},
            "file_io_concurrency": {"limit": max(4, threads)},
            "cache_pool": {"total_bytes_limit": 0},
            "s3_request_retries": retries,
            "gcs_request_retries": retries,
        }
    )


def location(kv: ts.KvStore) -> str:
    """The path or URL that a key-value store was opened with."""
    own = kv.spec().to_json()
    schemes = {driver: scheme for scheme, driver in DRIVERS.items()}
    if own["driver"] not in schemes:
        return str(kv.path).rstrip("/") or "/"
    return f"{schemes[own['driver']]}://{own['bucket']}/{kv.path}".rstrip("/")


@contextmanager
def storage_errors(where: str | ts.KvStore) -> Iterator[None]:
    """Turn tensorstore's and the system's storage errors into a StoreError with its remedy.

    ValueErrors that are about data, not about storage, are let through.
    """
    try:
        yield
    except (ValueError, OSError, NotImplementedError) as error:
        path = where if isinstance(where, str) else location(where)
        explained = _explain(error, path)
        if explained is None:
            raise
        what, fix = explained
        raise StoreError(what, where=path, fix=fix) from error


def _s3_options() -> dict[str, Any]:
    """Endpoint, region and credentials, from the variables that other S3 tools read as well.

    Without an endpoint tensorstore asks AWS for the bucket's region, which may be another one than
    the variables'.
    """
    options: dict[str, Any] = {}
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        # They come first in any case; said so, nothing complains about a lack of ~/.aws/config.
        options["aws_credentials"] = {"type": "environment"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return options
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise UsageError(
            "this is no address of an S3 server",
            where=f"AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL: {endpoint}",
            fix="such as https://minio.example.org:9000",
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return {**options, "endpoint": endpoint.rstrip("/"), "aws_region": region}


def _explain(error: Exception, path: str) -> tuple[str, str] | None:
    """What is wrong and what fixes it; None where the storage is not to blame."""
    text = str(error)
    if isinstance(error, TimeoutError):
        return _OF_CURL[28]
    system = re.search(r"os_error_code='(\d+)'", text)
    number = int(system[1]) if system else getattr(error, "errno", None)
    if number is not None:
        return _OF_SYSTEM.get(number, (os.strerror(number), ""))
    if not is_remote(path):
        return None
    scheme = path.split("://")[0]
    curl = re.search(r"\[curl_code='(\d+)'\]", text)
    if curl:
        what, fix = _OF_CURL.get(int(curl[1]), (f"the connection broke (curl {curl[1]})", _AGAIN))
        return f"{what}: {_server(scheme)}", fix
    http = re.search(r"\[http_response_code='(\d+)'\]", text)
    if http:
        code = re.search(r"<Code>(\w+)</Code>", text)
        return _answer(int(http[1]), code[1] if code else "", scheme)
    if "Malformed List response" in text:  # what older versions make of its lack
        return _answer(404, "", scheme)
    if "redential" in text:
        return "no credentials were found, or none that can be read", _CREDENTIALS[scheme]
    return None


def _answer(number: int, code: str, scheme: str) -> tuple[str, str]:
    """What an HTTP error means. code: S3's own word for it, if there is one."""
    said = f"{number} {code}".rstrip()
    if number in (401, 403):
        return (
            f"access is denied ({said})",
            f"these credentials must be right, and may list, read, write and delete here: "
            f"{_CREDENTIALS[scheme]}",
        )
    if number == 404:
        return f"there is no such bucket ({said})", "make it, or correct the URL"
    if number in (301, 307) or code == "AuthorizationHeaderMalformed":
        return f"the bucket is in another region ({said})", "set AWS_REGION to the bucket's"
    if number == 429 or number >= 500:
        return f"the server is overloaded or out of order ({said})", _AGAIN
    return f"the server refuses the request ({said})", f"is this a bucket of {_server(scheme)}?"


def _server(scheme: str) -> str:
    """Who is asked, without what an address may hold of passwords."""
    if scheme == "gs":
        address = os.environ.get("TENSORSTORE_GCS_HTTP_URL", "https://storage.googleapis.com")
    else:
        address = _s3_options().get("endpoint", "https://s3.amazonaws.com")
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
