"""What a W&B server holds of a run, asked by ourselves: wandb-core goes by the summary's step, and sends the summary ahead of the history.

When a long upload breaks off, the summary knows of steps that the history lacks, and a resumed run would go on after a gap. So the last
row of the history counts here, and a summary that is ahead of it is put back first. Source: wandb-core's RunResumeStatus, UpsertBucket.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]
SECONDS = 4.0
STATUS = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { id historyTail summaryMetrics } } }"""
PUT_BACK = """mutation UpsertBucket($id: String, $summaryMetrics: JSONString) {
  upsertBucket(input: {id: $id, summaryMetrics: $summaryMetrics}) { bucket { id } } }"""


class NotOnlineError(Exception):
    """W&B cannot be used online now; the text says why and what to do."""


def last_row(server: str, key: str | None, values: Mapping[str, Any]) -> Row | None:
    """The last row of the run's history at W&B, {} where it has none; None where only W&B itself can ask.

    values: `id`, `project`, `entity`. Raises NotOnlineError, within seconds, where nothing answers or the key is refused.
    """
    data = ask(server, key, STATUS, {"project": values["project"], "entity": values["entity"], "name": values["id"]})
    try:
        bucket = ((data or {}).get("model") or {}).get("bucket") if data is not None else None
        if not bucket:
            return None if data is None else {}
        rows = json.loads(bucket.get("historyTail") or "[]")
        last = rows[-1] if rows else {}
        row: Row = json.loads(last) if isinstance(last, str) else dict(last)
        summary = json.loads(bucket.get("summaryMetrics") or "{}")
        tail = int(row.get("_step", -1))
        if int(summary.get("_step", -1)) > tail:
            kept = {name: value for name, value in summary.items() if name != "_step"} | ({"_step": tail} if row else {})
            ask(server, key, PUT_BACK, {"id": bucket["id"], "summaryMetrics": json.dumps(kept)})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return row


def ask(server: str, key: str | None, query: str, variables: Mapping[str, Any]) -> Row | None:
    """The data of the answer; None where there is no key to ask with or the answer says nothing."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(
        f"{server.rstrip('/')}/graphql", json.dumps({"query": query, "variables": variables}).encode(), headers
    )
    if any(os.environ.get(name) for name in ("WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY")):
        return None  # W&B's own proxies are W&B's to use
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            found = json.loads(answer.read(1 << 26))
        return found.get("data") if isinstance(found, dict) and key else None
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise NotOnlineError(f"{server} answers {error.code} {error.reason}") from None
        if error.code == 401 and key:
            raise NotOnlineError("W&B does not accept the API key (401): run `wandb login`, or set WANDB_API_KEY") from None
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise NotOnlineError(f"{server} cannot be reached ({error.reason})") from None
    except TimeoutError:
        raise NotOnlineError(f"{server} does not answer within {SECONDS:.0f} s") from None
    except OSError as error:
        raise NotOnlineError(f"{server} cannot be reached ({error})") from None
    except (http.client.HTTPException, ValueError):
        pass
    return None


def reach(server: str) -> None:
    """NotOnlineError where nothing answers. Asked first, because wandb-core keeps trying until its time is up."""
    ask(server, None, "{__typename}", {})
