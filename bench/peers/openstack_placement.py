"""OpenStack placement beside Ashlar's: the same pool and the same groups, through its WSGI API on SQLite.

Set up as its own documentation does it (environment variables, noauth2, a SQLite file that is synced at start), but
called inside this process: no HTTP server and no socket, which is in its favour. What Nova's scheduler would add
(anti-affinity is no notion of placement's) is done here: each machine of a group goes to another host.

Prints one line of JSON.
"""

import json
import os
import sys
import tempfile
import time
import uuid
from importlib.metadata import version

HOSTS, GROUP, SECONDS = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

directory = tempfile.TemporaryDirectory()
open(f"{directory.name}/placement.conf", "w").close()
os.environ["OS_PLACEMENT_CONFIG_DIR"] = directory.name
os.environ["OS_PLACEMENT_DATABASE__CONNECTION"] = f"sqlite:///{directory.name}/placement.db"
os.environ["OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP"] = "True"
os.environ["OS_API__AUTH_STRATEGY"] = "noauth2"

import logging  # noqa: E402

logging.disable(logging.CRITICAL)
sys.argv = sys.argv[:1]

import webob  # noqa: E402
from placement import wsgi  # noqa: E402

application = wsgi.init_application()
PROJECT, USER = str(uuid.uuid4()), str(uuid.uuid4())


def call(method, path, body=None):
    request = webob.Request.blank(path, method=method)
    request.headers["x-auth-token"] = "admin"
    request.headers["openstack-api-version"] = "placement 1.38"
    request.headers["accept"] = "application/json"
    if body is not None:
        request.content_type = "application/json"
        request.body = json.dumps(body).encode()
    response = request.get_response(application)
    if response.status_int >= 400:
        sys.exit(f"{method} {path}: {response.status} {response.text}")
    return response.json if response.body else None


# 46 threads x 4, 382 GiB and 8 TiB, as the pool of `placement pool`; the machines that are bound to NUMA nodes are left out.
OFFER = {"VCPU": 46 * 4, "MEMORY_MB": 382 * 1024, "DISK_GB": 8192}
MACHINES = [(4, 8), (8, 32), (16, 64)]
for _ in range(HOSTS):
    host = str(uuid.uuid4())
    call("POST", "/resource_providers", {"name": host, "uuid": host})
    inventories = {kind: {"total": total, "max_unit": total} for kind, total in OFFER.items()}
    call(
        "PUT",
        f"/resource_providers/{host}/inventories",
        {"resource_provider_generation": 0, "inventories": inventories},
    )

placed, random, started = 0, 1, time.monotonic()
while time.monotonic() - started < SECONDS:
    random = (random * 6364136223846793005 + 1442695040888963407) % 2**64
    vcpus, gib = MACHINES[(random >> 33) % len(MACHINES)]
    theirs = set()
    for _ in range(GROUP):
        # Nova asks for a thousand candidates by default; so few as are sure to hold another host are in its favour.
        wanted = f"VCPU:{vcpus},MEMORY_MB:{gib * 1024},DISK_GB:50"
        found = call("GET", f"/allocation_candidates?resources={wanted}&limit={GROUP}")
        requests = found["allocation_requests"]
        request = next((r for r in requests if not theirs & set(r["allocations"])), None)
        if request is None:
            sys.exit("no host")
        theirs |= set(request["allocations"])
        consumer = str(uuid.uuid4())
        call(
            "PUT",
            f"/allocations/{consumer}",
            {
                "allocations": request["allocations"],
                "project_id": PROJECT,
                "user_id": USER,
                "consumer_generation": None,
                "consumer_type": "INSTANCE",
            },
        )
        placed += 1
elapsed = time.monotonic() - started
print(json.dumps({"version": version("openstack-placement"), "machines": placed, "seconds": elapsed}))
