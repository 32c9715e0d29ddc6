"""A real Celery worker and beat on a real Redis: messages may be lost, doubled or forged."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.batches.cli_world import check_money, released, until, usd_row
from tests.workers.cluster_world import QUEUE, clustered


def test_messages_that_are_doubled_or_forged_pay_nothing_more(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        cluster.start_worker()
        cluster.start_beat()
        world = cluster.world
        words = ["create:slow=0.2", "create:drop-after", "process:drop-after", "create:409-after"]
        world.write([usd_row(n, words[n % len(words)]) for n in range(20)])
        world.write([usd_row(300), usd_row(301)], "draft.csv")
        world.write([usd_row(310)], "rejected.csv")
        world.write([usd_row(320)], "last.csv")
        draft, rejected = cluster.submit("draft.csv"), cluster.submit("rejected.csv")
        world.paybatch("reject", rejected)

        # Of what is not approved, a message moves nothing; nor does one of anything else.
        for number in [*cluster.ids(draft), *cluster.ids(rejected)]:
            cluster.publish(number, times=2)
        for arguments in ((10**9,), ("1 OR 1=1",), (None,), ({"reference_id": "T-0300"},), ()):
            cluster.publish(*arguments)
        # Each message of an approved batch comes four times.
        batch = cluster.submit("p.csv", "--approve")
        for number in cluster.ids(batch):
            cluster.publish(number, times=3)
        # The command follows; the workers pay.
        assert world.paybatch("watch", batch, "--json").json["counts"] == {"paid": 20}
        world.paybatch("results", batch, "-o", "p.results.csv")
        for number in cluster.ids(batch):
            cluster.publish(number)
        # The same worker pays what comes after all of them.
        cluster.until_paid(cluster.submit("last.csv", "--approve"))
        until(lambda: cluster.redis.llen(QUEUE) == 0)

        assert cluster.states(draft) == ["draft", "draft"]
        assert cluster.states(rejected) == ["cancelled"]
        ledger = dict(cluster.provider.ledger())
        assert released(ledger).pop("T-0320") == 1
        del ledger["T-0320"]
        assert ledger["T-0000"]["creates"] == 1
        check_money(world.read(), ledger)


def test_a_killed_worker_and_a_flushed_broker_cost_time_and_nothing_else(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.write([usd_row(n, "create:slow=0.3") for n in range(30)])
        batch = cluster.submit("p.csv", "--approve")

        # What is in the broker is an id, and when it is worthless.
        messages = [json.loads(message) for message in cluster.redis.lrange(QUEUE, 0, -1)]
        bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
        assert sorted(body[0][0] for body in bodies) == cluster.ids(batch)
        assert all(len(body[0]) == 1 and body[1] == {} for body in bodies)
        assert all(message["headers"]["expires"] for message in messages)
        for row in world.read("p.csv"):
            for secret in (row["reference_id"], row["fields.account"]):
                assert secret not in json.dumps([messages, bodies])

        # A worker that starts late finds expired messages, and what the sweep announces again.
        worker = cluster.start_worker()
        cluster.start_beat()
        until(lambda: world.count("creating") and world.count("created", "processing", "paid"))
        worker.kill()
        cluster.redis.flushdb()
        cluster.start_worker()
        cluster.until_paid(batch)
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), cluster.provider.ledger())
