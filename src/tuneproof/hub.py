"""What a hub id stands for just now: the commit, asked of the hub or of its local cache.

Whether the hub can be reached is tried once, by a connection of at most three seconds, because the
hub's own client spends half a minute on retries before it says that there is no network.
"""

from __future__ import annotations

import functools
import os
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Literal

from tuneproof.errors import DataError, ModelError, UsageError

Kind = Literal["model", "dataset"]

_LOOKED_FOR = {"model": "config.json", "dataset": "README.md"}


@functools.cache
def is_reachable() -> bool:
    """Whether the hub answers a connection; with a proxy in between it is taken to."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = urllib.parse.urlsplit(endpoint)
    if url.scheme in urllib.request.getproxies():
        return True
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=3).close()
    except OSError:
        # Read by the hub's client when it is first imported: no retries, cache only.
        os.environ["HF_HUB_OFFLINE"] = "1"
        return False
    return True


def _newest_snapshot(name: str, kind: Kind) -> str | None:
    """The commit last downloaded; what was loaded by commit leaves no name for it in the cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "snapshots"
    snapshots = sorted(folder.glob("*"), key=lambda p: p.stat().st_mtime)
    return snapshots[-1].name if snapshots else None


def commit_of(name: str, revision: str | None, *, kind: Kind, place: str) -> str:
    """The commit that a hub id and revision stand for.

    Raises:
        ModelError, DataError: the hub does not know it or does not give it, or cannot be reached
            and the local cache does not hold it.
    """
    online = is_reachable()
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    error_type: type[UsageError] = ModelError if kind == "model" else DataError
    local = "model.id=FOLDER" if kind == "model" else "data.source.path=FILE"
    remedy = f"Check the name and the network, or give what lies on this machine: --set {local}."

    def refusal(problem: str, remedy: str = remedy) -> UsageError:
        return error_type(problem, place=place, value=name, remedy=remedy)

    cached: str | None = None
    try:
        found = try_to_load_from_cache(name, _LOOKED_FOR[kind], revision=revision, repo_type=kind)
        cached = Path(found).parent.name if isinstance(found, str) else None
        if cached is None and revision is None:
            cached = _newest_snapshot(name, kind)
        if not online:
            if cached is None:
                raise refusal("is not on this machine, and the hub cannot be reached")
            return cached
        commit = HfApi().repo_info(name, revision=revision, repo_type=kind).sha
    except GatedRepoError:
        raise refusal(
            "is gated, and this machine has no access to it",
            f"Accept its licence on its hub page, then log in (hf auth login) or set HF_TOKEN; "
            f"or use a local copy: --set {local}.",
        ) from None
    except RevisionNotFoundError:
        raise refusal(f"the hub has no revision {revision!r} of it") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise refusal(f"no such folder here, and no such {kind} on the hub") from None
    except (HfHubHTTPError, OSError) as error:
        if cached is not None:
            return cached
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise refusal(f"the hub did not answer: {reason}") from None
    assert commit is not None
    return commit
