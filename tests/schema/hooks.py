"""What a description has no words for.

A request that is as described may still be refused: for what happened before, for the time, for who asks, or because two of its
parameters do not go together. Each such refusal is known by its exact words, for the operations that may say them; any other
one fails the run.
"""

import re

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

# Pieces of uploads are bytes.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

# By the problem's code: refusals for what happened before.
HAPPENED = {
    "session-deleted": "a session is deleted once, and its id is never used again",
    "export-gone": "the result of an export that was called off, or is not there yet or any more",
    "replica-behind": "`min_offset` may name a record that is still to come",
    "attachment-not-found": "a message refers to what was sent before",
    "antivirus-off": "whether files are looked through is saved while the program runs",
    "attachment-not-quarantined": "what is cleared was quarantined before",
    "attachment-bytes-dropped": "what is released was not cleared before",
    "too-many-files": "how many a form may have is saved while the program runs",
    "file-too-large": "likewise how large a file may be",
    "inline-cap-exceeded": "and one that is kept",
    "quota-exceeded": "and all files together",
    "mime-not-allowed": "and of which types",
    "external-references-disabled": "likewise whether files are fetched",
    "external-reference-not-allowed": "and from which hosts",
    "upload-incomplete": "an upload is finished when all of it has come",
    "upload-locked": "nobody adds to an upload while it is finished",
    "too-many-uploads": "a caller has so many open uploads and no more",
    "checksum-mismatch": "the bytes of a piece and what they sum up to go together",
    "checksum-algorithm-unsupported": "clients of tus ask beforehand how sums may be made",
    "tus-version-unsupported": "one version of tus is spoken, and its pattern is not looked at for the shortest text",
    "idempotency-key-reused": "a key stands for the first request that showed it",
}

# By operation and the words about one place: what only a second look at the request tells.
SEEN = {
    "POST /v1/keys": {
        "must be a time to come, in seconds since 1970": "what is past depends on the clock",
        "is no scope of whoever makes the key": "what may be lent depends on who lends it",
    },
    "PUT /v1/admin/dlq/{topic}/{id}/reprocess": {
        "must keep its `tenant`": "what a record must hold depends on the letter that it replaces",
        "names another tenant": "it is the letter's",
        "must have an object `payload` with a text `id`": "so must the record of a memory, and no other one",
    },
    "GET /v1/admin/logins": {"must be given with subject": "an issuer says who a name is"},
    "DELETE /v1/admin/logins": {
        "must be given with subject": "likewise",
        "must not be given with subject": "it is one or the other",
        "is missing, and all is not true": "and one of them",
    },
    "GET /v1/ui/settings/diff": {"must be given": "an empty parameter is as good as none"},
    "POST /v1/uploads": {"is given more than once": "the form and the query may say it, but not two things"},
    "POST /v1/uploads/external": {
        "is none": "a pattern does not say what a URL is",
        "has no host": "likewise",
        "must start with https:// and a host": "likewise",
        "must not hold a user name or password": "likewise",
        "must not hold spaces, control characters or backslashes": "likewise",
    },
    "POST /v1/uploads/tus": {
        "must be given": "only clients of tus say in the head how long an upload is",
        "must be a number of bytes": "likewise",
        "must not be given with parts: they have their lengths": "it is one or the other",
        "must be partial, or final and parts": "they alone name parts",
        "must name parts by where they are": "likewise",
        "must be at most 4096 bytes": "and say what an upload is called",
        "must have a name in each pair": "likewise",
        "must have each name once": "likewise",
        "must have values in base64": "likewise",
        "must have a filename, filetype and session_id in UTF-8": "likewise",
        "must have a filetype that is one": "likewise",
        "must have a session_id that is a UUID": "likewise",
    },
    "PATCH /v1/uploads/tus/{upload_id}": {
        "must be an algorithm and a sum": "clients of tus write sums in one way",
        "must have a sum in base64, as long as its algorithm makes it": "likewise",
        "must be a SHA-256 in hexadecimal digits": "and others in another",
    },
    "GET /gateway_stream": {"is missing": "either of `session_id` and `sid` will do"},
    "GET /v1/sessions/{session_id}/events": {
        "must not be given with after or limit": "`last` counts from the end, they from the beginning",
        "must be given with last": "`before` is about `last`",
    },
}

# What is still shown after its end, with its end.
SHOWN = {"DELETE /v1/memory/export/jobs/{job_id}", "GET /v1/memory/export/jobs/{job_id}", "GET /v1/memory/export/jobs/{job_id}/download"}

# Words that any operation may say.
ANYWHERE = {"must not contain U+0000": "a body is refused for it wherever it is, in unknown members too"}

# A description takes 7.0 for a whole number; here one is written without a point.
POINT = re.compile(r"invalid type: floating point `-?[0-9.e+]+`, expected [iu](32|64)")

# Names of fields that the head of a part has no words for (RFC 9110 §5.5), or that end it early.
UNSAYABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\\\Z")


def is_unsayable(case):
    """Whether a form has a field of such a name."""
    return isinstance(case.body, dict) and any(UNSAYABLE.search(name) for name in case.body)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops what is no failure."""
    if isinstance(failure, UseAfterFree):
        return case.operation.label not in SHOWN
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    if problem["code"] == "bad-multipart":
        return not is_unsayable(case)
    known = ANYWHERE | SEEN.get(case.operation.label, {})
    errors = problem.get("errors") or []
    foreseen = all(error["msg"] in known or POINT.fullmatch(error["msg"]) for error in errors)
    return problem["code"] not in HAPPENED and not (errors and foreseen)
