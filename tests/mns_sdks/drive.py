"""Drives a queue by the official Python SDK: every operation once, then leaves
the given bodies in it, the first half raw and the second as the SDK encodes
by default. What it is to do comes as JSON on standard input."""

import json
import sys

from mns.account import Account
from mns.mns_exception import MNSServerException
from mns.queue import Message, QueueMeta

task = json.load(sys.stdin)
account = Account(task["endpoint"], task["id"], task["secret"], task.get("token") or "")
queue = account.get_queue(task["queue"])


def refused(code, act):
    try:
        act()
    except MNSServerException as error:
        assert error.type == code, (error.type, code)
        return
    raise AssertionError(f"{code} was expected")


refused("QueueNotExist", lambda: queue.get_attributes())
url = queue.create(QueueMeta(vis_timeout=20, polling_wait_sec=0))
assert url.endswith("/queues/" + task["queue"]), url
names, _ = account.list_queue(prefix="ice-")
assert any(name.endswith(task["queue"]) for name in names), names
meta = queue.get_attributes()
assert meta.visibility_timeout == 20, meta.visibility_timeout
queue.set_attributes(QueueMeta(vis_timeout=30))
assert queue.get_attributes().visibility_timeout == 30
refused("MessageNotExist", lambda: queue.receive_message(1))
refused("MessageNotExist", lambda: queue.peek_message())

odd = "I am 测试字符串. <&>\"' \t+/="
for encode in (False, True):
    queue.set_encoding(encode)
    sent = queue.send_message(Message(odd))
    assert len(sent.message_id) == 32 and len(sent.message_body_md5) == 32
    assert queue.peek_message_with_str_body().message_body == odd
    got = queue.receive_message_with_str_body(3)
    assert got.message_body == odd, got.message_body
    assert got.message_body_md5 == sent.message_body_md5
    assert got.dequeue_count == 1 and got.priority == 8, vars(got)
    changed = queue.change_message_visibility(got.receipt_handle, 60)
    refused("ReceiptHandleError", lambda: queue.delete_message(got.receipt_handle))
    queue.delete_message(changed.receipt_handle)
    refused("MessageNotExist", lambda: queue.receive_message(1))

    many = queue.batch_send_message([Message(f"message {n}") for n in range(16)])
    assert len(many) == 16
    assert len(queue.batch_peek_message(16)) == 16
    received = queue.batch_receive_message_with_str_body(16, 3)
    assert sorted(one.message_body for one in received) == sorted(f"message {n}" for n in range(16))
    handles = [one.receipt_handle for one in received]
    queue.batch_delete_message(handles[:15])
    refused("ReceiptHandleError", lambda: queue.batch_delete_message(handles[14:]))
    refused("MessageNotExist", lambda: queue.receive_message(1))

refused("InvalidArgument", lambda: queue.send_message(Message("x" * 70000)))
wrong = Account(task["endpoint"], task["id"], "not the secret", task.get("token") or "").get_queue(task["queue"])
refused("SignatureDoesNotMatch", lambda: wrong.receive_message(1))
stranger = Account(task["endpoint"], "nobody", "x").get_queue(task["queue"])
refused("InvalidAccessKeyId", lambda: stranger.receive_message(1))

bodies = task["bodies"]
half = len(bodies) // 2
queue.set_encoding(False)
for body in bodies[:half]:
    queue.send_message(Message(body))
queue.set_encoding(True)
queue.batch_send_message([Message(body) for body in bodies[half:]])
print("done")
