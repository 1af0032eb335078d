"""A W&B server that speaks just enough for wandb-core: sign-in, runs, history, files, artifacts. What it is sent stands in its `Store`.

Source: the GraphQL documents and the file_stream requests that wandb-core 0.31 sends. The store outlives the server, so that an outage is
`close` and a further `Server(store, port)`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Kept:
    """One run as the server holds it."""

    variables: dict[str, Any]
    history: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history."""
        return [json.loads(line) for line in self.history]

    @property
    def config(self) -> dict[str, Any]:
        """The config without W&B's own keys."""
        values = json.loads(self.variables.get("config") or "{}")
        return {name: item["value"] for name, item in values.items() if not name.startswith("_")}

    def put(self, name: str, offset: int, lines: list[str]) -> None:
        """Lines of a file at their place, as the server takes them: a place that is filled is overwritten."""
        if name == "wandb-summary.json":
            self.summary = json.loads(lines[-1])
            return
        target = {"wandb-history.jsonl": self.history, "wandb-events.jsonl": self.events}.get(name)
        if target is not None:
            if offset > len(target):
                self.gaps.append(f"{name}: {len(target)} lines, then line {offset}")
            target[offset : offset + len(lines)] = lines


@dataclass
class Store:
    """All that was ever sent. `mood`: what the server does next: ok, 500, 401, or hang."""

    runs: dict[str, Kept] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    mood: str = "ok"
    limit: int | None = None
    requests: list[str] = field(default_factory=list)
    everything: list[bytes] = field(default_factory=list)

    def graphql(self, query: str, given: dict[str, Any], url: str) -> dict[str, Any]:
        """The answer to a query or mutation, by its name."""
        name = query.split("(")[0].split("{")[0].split()[1]
        self.requests.append(name)
        answer = getattr(self, f"on_{name.lower()}", None)
        return answer(given, url) if answer else {"project": None, "entity": None, "organization": None, "clientIDMapping": None}

    def on_viewer(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        viewer = {"id": "u", "entity": "me", "username": "me", "email": "m@e", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    def on_serverfeaturesquery(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def on_runresumestatus(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        run, entity = self.runs.get(given["name"]), given.get("entity") or "me"
        model = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": entity}, "bucket": None}
        if run is not None:
            model["bucket"] = {
                "id": given["name"],
                "name": given["name"],
                "summaryMetrics": json.dumps(run.summary),
                "displayName": run.variables.get("displayName"),
                "logLineCount": 0,
                "historyLineCount": len(run.history),
                "eventsLineCount": len(run.events),
                "historyTail": json.dumps(run.history[-1:]),
                "eventsTail": json.dumps(run.events[-1:]),
                "config": run.variables.get("config") or "{}",
                "tags": run.variables.get("tags") or [],
                "notes": run.variables.get("notes"),
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": model}

    def on_upsertbucket(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        if "name" not in given:
            self.runs[given["id"]].summary = json.loads(given["summaryMetrics"])
            return {"upsertBucket": {"bucket": {"id": given["id"]}}}
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Kept({}))
        run.variables.update({name: value for name, value in given.items() if value is not None})
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": given.get("entity") or "me"}}
        bucket = {"id": given["name"], "name": given["name"], "displayName": given.get("displayName"), "description": "", "config": "{}"}
        bucket |= {"sweepName": None, "project": project, "historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def on_createrunfiles(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{url}/upload/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def on_createartifact(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        wanted = given["input"]
        same = [number for number, known in enumerate(self.artifacts) if known["digest"] == wanted["digest"]]
        if not same:
            self.artifacts.append({**wanted, "files": [], "state": "PENDING"})
        number = same[0] if same else len(self.artifacts) - 1
        if same:  # the version is known: it gets the new names
            self.artifacts[number]["aliases"] = [*self.artifacts[number]["aliases"], *wanted.get("aliases", [])]
        sequence = {"id": "s", "latestArtifact": None}
        state = self.artifacts[number]["state"]
        return {"createArtifact": {"artifact": {"id": str(number), "state": state, "artifactSequence": sequence}}}

    def on_createartifactmanifest(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{url}/blob/manifest-{given['artifactID']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": given["artifactID"], "file": file}}}

    def on_updateartifactmanifest(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{url}/blob/manifest-{given['artifactManifestID']}", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": given["artifactManifestID"], "file": file}}}

    def on_createartifactfiles(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        nodes = []
        for spec in given["input"]["artifactFiles"]:
            self.artifacts[int(spec["artifactID"])]["files"].append(spec["name"])
            place = f"{spec['artifactID']}-{spec['name']}"
            node = {"storagePath": spec.get("storagePath") or place, "uploadUrl": f"{url}/blob/{place}", "uploadHeaders": []}
            nodes.append({"node": {**node, "uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def on_artifactbyid(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        known = self.artifacts[int(given["id"])]
        project = {"id": "p", "internalId": "p", "name": known["projectName"], "entity": {"id": "e", "name": known["entityName"]}}
        sequence = {"__typename": "ArtifactSequence", "id": "s", "name": known["artifactCollectionName"], "project": project}
        facts = {"versionIndex": 0, "description": None, "metadata": known["metadata"], "ttlDurationSeconds": -2, "ttlIsInherited": True}
        facts |= {"tags": [], "historyStep": None, "state": known["state"], "size": 1, "digest": known["digest"], "commitHash": "c"}
        facts |= {"fileCount": 1, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": None, "aliases": []}
        kind = {"name": known["artifactTypeName"]}
        return {"artifact": {"__typename": "Artifact", "id": given["id"], "artifactSequence": sequence, "artifactType": kind, **facts}}

    def on_commitartifact(self, given: dict[str, Any], url: str) -> dict[str, Any]:
        artifact = self.artifacts[int(given["artifactID"])]
        artifact["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": artifact["digest"]}}}


class Handler(BaseHTTPRequestHandler):
    """One request; the store says what it means."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_PUT(self) -> None:
        store, body = self.server.store, self._body()
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "upload":
            run, _, name = rest.partition("/")
            store.runs[run].files[name] = body
        else:
            store.blobs[rest] = body
        self._answer(200, {})

    def do_POST(self) -> None:
        store, body = self.server.store, self._body()
        if not self._willing():
            return
        given = json.loads(body)
        if "/file_stream" in self.path:
            self._answer(200, self._stream(given))
        else:
            self._answer(200, {"data": store.graphql(given["query"], given.get("variables") or {}, self.server.url)})

    def _stream(self, given: dict[str, Any]) -> dict[str, Any]:
        store = self.server.store
        run = store.runs[self.path.split("/")[-2]]
        for name, part in (given.get("files") or {}).items():
            run.put(name, part["offset"], part["content"])
        if given.get("complete"):
            run.exit_code = given.get("exitcode")
        if store.limit is not None and len(run.history) >= store.limit:
            store.mood = "500"
        return {"exitcode": None, "limits": {}}

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.store.everything.append(self.path.encode() + b"\n" + body)
        return body

    def _willing(self) -> bool:
        mood = self.server.store.mood
        wanted = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        if mood == "hang":
            self.server.closing.wait(120)
            return False
        if mood == "500":
            self._answer(500, {"errors": [{"message": "down"}]})
            return False
        if mood == "401" or self.headers.get("Authorization") != wanted:
            self._answer(401, {"errors": [{"message": "user is not logged in"}]})
            return False
        return True

    def _answer(self, code: int, document: dict[str, Any]) -> None:
        text = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 from the start, on a free port unless one is given."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, store: Store, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store, self.closing = store, threading.Event()
        self.port = int(self.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hung up has its reasons."""

    def close(self) -> None:
        """Gone: connections are refused from now on."""
        self.closing.set()
        self.shutdown()
        self.server_close()


if __name__ == "__main__":  # by hand: python tests/wandb_server.py, then WANDB_BASE_URL=... WANDB_API_KEY=... dlrun train ...
    print(f"export WANDB_BASE_URL={Server(Store()).url} WANDB_API_KEY={KEY}", flush=True)
    time.sleep(1e6)
