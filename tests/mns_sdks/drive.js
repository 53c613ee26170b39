// Drives a queue by the official Node SDK: every operation once, then leaves
// the given bodies in it, the first half raw and the second in base64, which
// this SDK leaves to its user. What it is to do comes as JSON on standard input.
'use strict';

const assert = require('assert');
const fs = require('fs');
const path = require('path');

const Client = require(path.join(process.argv[2], 'node_modules', '@alicloud', 'mns'));

const task = JSON.parse(fs.readFileSync(0, 'utf8'));
const client = (id, secret, token) =>
  new Client('1234567890123456', {
    accessKeyId: id,
    accessKeySecret: secret,
    securityToken: token || undefined,
    endpoint: task.endpoint,
  });

// This SDK puts texts into its XML as they are.
const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

async function refused(code, promise) {
  await assert.rejects(promise, (error) => {
    assert.ok(error.name.includes(code), `${error.name}: ${error.message}, not ${code}`);
    return true;
  });
}

async function main() {
  const mns = client(task.id, task.secret, task.token);
  const q = task.queue;
  await refused('QueueNotExist', mns.getQueueAttributes(q));
  const created = await mns.createQueue(q, { VisibilityTimeout: 20 });
  assert.strictEqual(created.code, 201);
  assert.ok(created.headers.location.endsWith(`/queues/${q}`));
  assert.strictEqual((await mns.createQueue(q, { VisibilityTimeout: 20 })).code, 204);
  await refused('QueueAlreadyExist', mns.createQueue(q, { VisibilityTimeout: 21 }));
  const list = await mns.listQueue('', 10, 'ice-');
  assert.ok(JSON.stringify(list.body).includes(q));
  await mns.setQueueAttributes(q, { VisibilityTimeout: 30 });
  const attributes = await mns.getQueueAttributes(q);
  assert.strictEqual(String(attributes.body.VisibilityTimeout), '30');
  await refused('MessageNotExist', mns.receiveMessage(q, 1));
  await refused('MessageNotExist', mns.peekMessage(q));

  const odd = 'I am 测试字符串. <&>"\' \t+/=';
  await refused('MalformedXML', mns.sendMessage(q, { MessageBody: odd }));
  const sent = await mns.sendMessage(q, { MessageBody: escaped(odd) });
  assert.strictEqual(sent.code, 201);
  assert.strictEqual((await mns.peekMessage(q)).body.MessageBody, odd);
  const got = await mns.receiveMessage(q, 3);
  assert.strictEqual(got.body.MessageBody, odd);
  assert.strictEqual(got.body.MessageBodyMD5, sent.body.MessageBodyMD5);
  const changed = await mns.changeMessageVisibility(q, got.body.ReceiptHandle, 60);
  await refused('ReceiptHandleError', mns.deleteMessage(q, got.body.ReceiptHandle));
  assert.strictEqual((await mns.deleteMessage(q, changed.body.ReceiptHandle)).code, 204);
  await refused('MessageNotExist', mns.receiveMessage(q, 1));

  const texts = Array.from({ length: 16 }, (_, n) => `message ${n}`);
  const many = await mns.batchSendMessage(q, texts.map((text) => ({ MessageBody: text, Priority: 8 })));
  assert.strictEqual(many.body.length, 16);
  assert.strictEqual((await mns.batchPeekMessage(q, 16)).body.length, 16);
  const received = await mns.batchReceiveMessage(q, 16, 3);
  assert.deepStrictEqual(received.body.map((one) => one.MessageBody).sort(), texts.sort());
  const handles = received.body.map((one) => one.ReceiptHandle);
  assert.strictEqual((await mns.batchDeleteMessage(q, handles.slice(0, 15))).code, 204);
  const partly = await mns.batchDeleteMessage(q, handles.slice(14));
  assert.ok(JSON.stringify(partly.body).includes('ReceiptHandleError'));
  await refused('MessageNotExist', mns.receiveMessage(q, 1));
  await refused('SignatureDoesNotMatch', client(task.id, 'not the secret', task.token).receiveMessage(q, 1));
  await refused('InvalidAccessKeyId', client('nobody', 'x').receiveMessage(q, 1));

  const half = Math.floor(task.bodies.length / 2);
  for (const body of task.bodies.slice(0, half)) {
    await mns.sendMessage(q, { MessageBody: escaped(body) });
  }
  await mns.batchSendMessage(
    q,
    task.bodies.slice(half).map((body) => ({ MessageBody: Buffer.from(body).toString('base64') })),
  );
  console.log('done');
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
