"""Where stores are: folders, zip files, s3:// and gs://bucket/path; and what goes wrong there.

tensorstore finds the credentials where other tools find them (docs/store.md). They never become
part of a message: messages give a server's error code, never its answer.
"""

import errno
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tensorstore as ts

from pointcmt.datasets.store.file_checks import MISSING, file_problem
from pointcmt.datasets.store.schema import PLAN, ROOT
from pointcmt.errors import DamageError, StoreError, UsageError, nearest, require_utf8
from pointcmt.files import require_regular

DRIVERS = {"s3": "s3", "gs": "gcs"}  # tensorstore's name by URL scheme
# Retries of a request, 0.5 s, 1 s, 2 s, … 8 s apart. On first contact a wrong address shows within
# seconds; a server that has answered before may be away for two minutes.
FIRST_TRIES, TRIES = 4, 18
FIRST_ANSWER = 30.0  # seconds for the first answer of a location, retries included
# Without these limits, a connection that a server or a firewall has dropped silently blocks until
# the kernel gives it up after half an hour.
CURL_LIMITS = {
    "TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS": "10",
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "30",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}

_TRY_LATER = "run the same command again later; committed shards are kept"
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth "
    "application-default login`",
}
_SYSTEM_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EROFS: ("the file system is read-only", "choose a writable location"),
    errno.EACCES: (
        "permission denied",
        "choose a writable location, or fix its owner",
    ),
    errno.EPERM: ("operation not permitted", "choose a writable location"),
    errno.ENOTDIR: ("part of this path is a file, not a folder", "choose another path"),
    errno.ENOTEMPTY: (
        "another process writes to this folder while it is being deleted",
        "stop that process first, then run the same command again",
    ),
    errno.EINVAL: ("this is not a regular file", "choose another path"),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
}
_CURL_ERRORS = {
    6: ("the server's name cannot be resolved", "check the network and the URL"),
    7: ("no server answers at this address", "check the network and the URL"),
    28: ("the server does not answer", _TRY_LATER),
    60: (
        "the server's certificate is not trusted",
        "set TENSORSTORE_CA_BUNDLE to a file with the certificate of its certificate authority",
    ),
}


def is_remote(path: str) -> bool:
    """Return whether a location is on object storage."""
    return "://" in path


def is_zip(path: str) -> bool:
    """Return whether a location is a zip file: it is named like one, and is not a folder."""
    return not is_remote(path) and path.lower().endswith(".zip") and not Path(path).is_dir()


def tidy(path: str) -> str:
    """Return a location without trailing slashes, and with ~ as the home directory.

    Raises UsageError for an empty one.
    """
    if not path:
        raise UsageError(
            "the store's path is empty",
            fix="use a folder, s3://bucket/path or gs://bucket/path",
        )
    return os.path.expanduser(path).rstrip("/") or "/"


def absolute(path: str) -> str:
    """Return a location that does not depend on the current directory.

    A folder's `..` are resolved as the system resolves them, since tensorstore refuses them. A link
    at the end is kept.
    """
    if is_remote(path):
        return path
    folder = Path(path).absolute()
    if ".." not in folder.parts:
        return str(folder)
    if folder.name == "..":
        return os.path.realpath(folder)
    return os.path.join(os.path.realpath(folder.parent), folder.name)


def kvstore_spec(path: str) -> dict[str, Any]:
    """Return tensorstore's spec of the key-value store at a location.

    Raises UsageError for a path or a URL that cannot be a location.
    """
    if not is_remote(path):
        require_utf8(path, where="the store")
        scheme = re.match(r"(\w+):(/|$)", path)
        if scheme and scheme[1] in DRIVERS:
            raise UsageError(
                "this is neither a folder nor a URL", where=path, fix=f"{scheme[1]}://bucket/path"
            )
        if is_zip(path):
            return _zip_spec(Path(absolute(path)))
        return {"driver": "file", "path": Path(absolute(path)).as_posix().rstrip("/") + "/"}
    scheme_, rest = path.split("://", 1)
    bucket, *parts = rest.rstrip("/").split("/")
    if scheme_ not in DRIVERS:
        raise UsageError(
            f"stores on {scheme_}:// are not supported", where=path, fix=nearest(scheme_, DRIVERS)
        )
    if not bucket or {"", ".", ".."} & set(parts):
        raise UsageError(
            "this URL is not a valid location",
            where=path,
            fix=f"use {scheme_}://bucket/path, without . and ..",
        )
    own = {"driver": DRIVERS[scheme_], "bucket": bucket, "path": "".join(f"{p}/" for p in parts)}
    return own | (_s3_options() if scheme_ == "s3" else {})


def _zip_spec(path: Path) -> dict[str, Any]:
    """Return tensorstore's spec of the store in a zip file, at its top or in its only folder.

    Its entries must not be compressed: the data are already, and a view is read without the rest of
    its shard. Raises StoreError for a file that holds no such store.
    """
    with storage_errors(str(path)):
        if file_problem(path) == MISSING:  # tensorstore finds nothing in it, as in an empty folder
            return {
                "driver": "zip",
                "base": {"driver": "file", "path": path.as_posix()},
                "path": "",
            }
        require_regular(path)
        status = path.stat()
    return {
        "driver": "zip",
        "base": {"driver": "file", "path": path.as_posix()},
        "path": _top_of_zip(path, status.st_mtime_ns, status.st_size),
    }


@lru_cache(maxsize=16)
def _top_of_zip(path: Path, changed: int, size: int) -> str:
    """Return where in a zip file the store is: "" or "folder/". changed, size: for the cache."""
    try:
        with storage_errors(str(path)), zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DamageError(
            f"this zip file is damaged or incomplete: {error}",
            where=str(path),
            fix="copy or download it again",
        ) from None
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise StoreError(
            "the files in this zip file are compressed or encrypted",
            where=str(path),
            fix="unpack it and use the folder, or pack it again with `zip -0 -r`",
        )
    names = {entry.filename for entry in entries}
    tops = {
        name.removesuffix(ROOT)
        for name in names
        if re.fullmatch(f"([^/]+/)?{re.escape(ROOT)}", name)
    }
    tops = {top for top in tops if f"{top}{PLAN}" in names} or tops
    if "" in tops or not tops:
        return ""
    if len(tops) > 1:
        raise StoreError(
            f"this zip file holds several stores: {', '.join(sorted(tops)[:5])}",
            where=str(path),
            fix="pack each store into a zip file of its own",
        )
    return tops.pop()


def limit_waiting() -> None:
    """Limit how long tensorstore waits for a silent server, unless the environment says otherwise.

    tensorstore reads the limits once, when it first opens a location on object storage.
    """
    for name, value in CURL_LIMITS.items():
        os.environ.setdefault(name, value)


@cache
def shared_context(threads: int, tries: int) -> ts.Context:
    """Return a pool of `threads` for decoding, encoding and file access, without a memory cache.

    tries: retries of each request to a server.
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


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn storage errors of tensorstore and the system into a StoreError with its remedy.

    A ValueError that is about the data rather than the storage passes through.
    """
    try:
        yield
    except (ValueError, OSError, NotImplementedError) as error:
        explained = _explain(error, where)
        if explained is None:
            raise
        what, fix = explained
        raise StoreError(what, where=where, fix=fix) from error


def _s3_options() -> dict[str, Any]:
    """Return endpoint, region and credentials, from the variables that other S3 tools read too.

    Without an endpoint, tensorstore asks AWS for the bucket's region, which may differ from the
    region that the variables name.
    """
    options: dict[str, Any] = {}
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        # The variables take precedence anyway; naming them avoids complaints about ~/.aws/config.
        options["aws_credentials"] = {"type": "environment"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return options
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise UsageError(
            "this is not a valid S3 endpoint",
            where=f"AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL: {endpoint}",
            fix="use a URL such as https://minio.example.org:9000",
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return {**options, "endpoint": endpoint.rstrip("/"), "aws_region": region}


def _explain(error: Exception, path: str) -> tuple[str, str] | None:
    """Return what is wrong and how to fix it, None for an error that is not about storage."""
    text = str(error)
    if isinstance(error, TimeoutError):
        return _CURL_ERRORS[28]
    # The second form is that of older versions.
    system = re.search(r"os_error_code='(\d+)'|\[OS error (\d+)", text)
    number = int(system[1] or system[2]) if system else getattr(error, "errno", None)
    if number is not None:
        return _SYSTEM_ERRORS.get(number, (os.strerror(number), ""))
    if not is_remote(path):
        return None
    scheme = path.split("://")[0]
    curl = re.search(r"\[curl_code='(\d+)'\]", text)
    if curl:
        unknown = f"the connection was lost (curl {curl[1]})", _TRY_LATER
        what, fix = _CURL_ERRORS.get(int(curl[1]), unknown)
        return f"{what}: {_server(scheme)}", fix
    http = re.search(r"\[http_response_code='(\d+)'\]", text)
    if http:
        code = re.search(r"<Code>(\w+)</Code>", text)
        return _explain_http(int(http[1]), code[1] if code else "", scheme)
    if "Malformed List response" in text:  # how older versions report a missing bucket
        return _explain_http(404, "", scheme)
    if "redential" in text:
        return "no credentials were found, or they cannot be read", _CREDENTIALS[scheme]
    return None


def _explain_http(number: int, code: str, scheme: str) -> tuple[str, str]:
    """Return what an HTTP error means and how to fix it. code: S3's own error code, if any."""
    given = f"{number} {code}".rstrip()
    if number in (401, 403):
        return (
            f"access denied ({given})",
            "use valid credentials that may list, read, write and delete here: "
            f"{_CREDENTIALS[scheme]}",
        )
    if number == 404:
        return f"no such bucket ({given})", "create it, or correct the URL"
    if number in (301, 307) or code == "AuthorizationHeaderMalformed":
        return f"the bucket is in another region ({given})", "set AWS_REGION to the bucket's region"
    if number == 429 or number >= 500:
        return f"the server is overloaded or unavailable ({given})", _TRY_LATER
    server = _server(scheme)
    return f"the server rejected the request ({given})", f"check that this bucket is on {server}"


def _server(scheme: str) -> str:
    """Return the server to name in messages, credentials removed."""
    if scheme == "gs":
        address = os.environ.get("TENSORSTORE_GCS_HTTP_URL", "https://storage.googleapis.com")
    else:
        address = _s3_options().get("endpoint", "https://s3.amazonaws.com")
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
