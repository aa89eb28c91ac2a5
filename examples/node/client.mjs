// Asks the session worker on behalf of one app, as docs/contract.md says. Nothing here is Node's
// alone: it is what a client in any language has to do.

import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import Redis from "ioredis";
import { CompactEncrypt, compactDecrypt } from "jose";

const TASKS = {
  "sessions.register": { queue: "sessions", lifetime: 15 * 60 },
  "sessions.silent_auth": { queue: "auth", lifetime: 60 },
  "sessions.start": { queue: "login", lifetime: 60 },
  "sessions.authenticate": { queue: "login", lifetime: 60 },
  "sessions.status": { queue: "sessions", lifetime: 60 },
  "sessions.logout": { queue: "logout", lifetime: 24 * 3600 },
  "sessions.refresh": { queue: "auth", lifetime: 60 },
  "sessions.receipt": { queue: "logout", lifetime: 60 },
  "notices.confirm": { queue: "logout", lifetime: 24 * 3600 },
};
const REPLY_SECONDS = 1; // how long the reader listens in one go
const AT_ONCE = 64;
const newId = () => randomBytes(24).toString("base64url");

/** Machines or settings: the worker, the broker, the key. What is about people is an answer. */
export class Unavailable extends Error {}
export class Unauthorized extends Error {}

/** An app key reads `<kid>.<base64url of 32 bytes>`. */
export function parseKey(text) {
  const [kid, secret] = text.split(".");
  return { kid, secret: Buffer.from(secret, "base64url") };
}

export async function seal({ kid, secret }, typ, content) {
  return new CompactEncrypt(Buffer.from(JSON.stringify(content)))
    .setProtectedHeader({ alg: "dir", enc: "A256GCM", kid, typ })
    .encrypt(secret);
}

/** Open what was sealed with this key as a *typ*; throws for anything else. */
export async function open({ kid, secret }, typ, text) {
  const { plaintext, protectedHeader: header } = await compactDecrypt(text, secret, {
    keyManagementAlgorithms: ["dir"],
    contentEncryptionAlgorithms: ["A256GCM"],
  });
  if (header.typ !== typ || header.kid !== kid) throw new Error(`no ${typ} under this key`);
  return JSON.parse(Buffer.from(plaintext));
}

export class SessionClient {
  #appId;
  #key;
  #writer;
  #reader;
  #inbox = newId();
  #waiting = new Map(); // request id → the promise's two ends
  #isReading = false;
  #listeners = [];

  constructor({ brokerUrl, appId, appKey }) {
    this.#appId = appId;
    this.#key = parseKey(appKey);
    // No queue of commands and no repeating behind our back: a repeated BLPOP takes an answer
    // that nobody reads, and a queued request goes out after its caller has given up.
    const options = {
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: 5000,
    };
    this.#writer = new Redis(brokerUrl, { ...options, commandTimeout: 5000 });
    this.#reader = new Redis(brokerUrl, options);
    for (const connection of [this.#writer, this.#reader]) {
      connection.on("error", () => {}); // whoever waits hears of it by their own time-out
    }
  }

  /** Ask once, and return the opened answer if it is about people: `{verdict, reason, data, …}`. */
  async ask(task, payload, { timeout = 5000, requestId = newId() } = {}) {
    const answer = await this.#send(await this.#seal(task, payload, requestId), timeout);
    if (answer.verdict === "temporarily_unavailable") throw new Unavailable(answer.reason);
    if (answer.verdict === "invalid_request") throw new Error(`${task}: ${answer.reason}: ${answer.detail}`);
    return answer;
  }

  /** Log out: the same bytes again and again until the worker has said yes. */
  async logout(payload, { timeout = 60_000 } = {}) {
    return this.#untilAcknowledged("sessions.logout", payload, timeout);
  }

  /** Say that a notice was acted on; until then it comes again. */
  async confirm(notice) {
    return this.#untilAcknowledged("notices.confirm", { notice_id: notice.notice_id }, 60_000);
  }

  /** Hand each notice on *queue* to *act*, and confirm it afterwards. Ends with `close`. */
  async takeNotices(queue, act) {
    const listener = this.#writer.duplicate({ commandTimeout: undefined });
    listener.on("error", () => {});
    this.#listeners.push(listener);
    while (this.#listeners.length > 0) {
      try {
        await connected(listener);
        const taken = await listener.brpop(queue, REPLY_SECONDS);
        if (taken) await this.#take(JSON.parse(taken[1]), act);
      } catch (error) {
        if (this.#listeners.length === 0) return; // closed
        console.error(`a notice was not taken: ${error.message}`); // it comes again
        await sleep(1000);
      }
    }
  }

  async #take(message, act) {
    const [, { envelope }] = JSON.parse(Buffer.from(message.body, "base64"));
    const notice = await open(this.#key, "logout-notice", envelope);
    if (notice.v !== 1 || notice.task !== "sessions.logged_out" || notice.app_id !== this.#appId) {
      throw new Error("no notice to this app");
    }
    await act(notice);
    await this.confirm(notice);
  }

  close() {
    const listeners = this.#listeners.splice(0);
    for (const connection of [this.#writer, this.#reader, ...listeners]) connection.disconnect();
  }

  async #untilAcknowledged(task, payload, timeout) {
    const until = Date.now() + timeout;
    const message = await this.#seal(task, payload, newId());
    for (let pause = 1000; ; pause = Math.min(2 * pause, 10_000)) {
      const answer = await this.#send(message, Math.min(5000, until - Date.now())).catch((error) => {
        if (error instanceof Unauthorized) throw error;
        return null;
      });
      if (answer?.verdict === "ok") return answer;
      if (answer && answer.verdict !== "temporarily_unavailable") throw new Error(answer.reason);
      if (Date.now() + pause >= until) throw new Unavailable(`${task} is not acknowledged`);
      await sleep(pause);
    }
  }

  async #seal(task, payload, requestId) {
    const issued = new Date();
    const content = {
      v: 1,
      task,
      app_id: this.#appId,
      request_id: requestId,
      issued_at: issued.toISOString(),
      deadline: new Date(issued.getTime() + TASKS[task].lifetime * 1000).toISOString(),
      payload,
    };
    const envelope = await seal(this.#key, "session-request", content);
    return { task, requestId, envelope };
  }

  /** Publish as Celery would, and wait for what comes to our inbox under the request's id. */
  async #send({ task, requestId, envelope }, timeout) {
    const answered = new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Unavailable("no answer")), timeout);
      this.#waiting.set(requestId, { task, resolve, reject, late });
    });
    answered.catch(() => {}); // it may fail before anybody awaits it
    try {
      await connected(this.#writer);
      this.#read();
      await this.#writer.lpush(TASKS[task].queue, this.#message(task, requestId, envelope));
      return await answered;
    } catch (error) {
      if (error instanceof Unavailable || error instanceof Unauthorized) throw error;
      throw new Unavailable(`the broker: ${error.message}`);
    } finally {
      clearTimeout(this.#waiting.get(requestId)?.late);
      this.#waiting.delete(requestId);
    }
  }

  #message(task, requestId, envelope) {
    const body = JSON.stringify([[], { app_id: this.#appId, envelope }, {}]);
    return JSON.stringify({
      body: Buffer.from(body).toString("base64"),
      "content-encoding": "utf-8",
      "content-type": "application/json",
      headers: { task, id: requestId, answer_to: this.#inbox, published_at: new Date().toISOString() },
      properties: {
        body_encoding: "base64",
        correlation_id: requestId,
        delivery_info: { exchange: "", routing_key: TASKS[task].queue },
        delivery_mode: 2,
        delivery_tag: randomUUID(), // a new one each time, also of a repetition
        priority: 0,
      },
    });
  }

  /** One reader for all who wait; it ends when nobody does. */
  async #read() {
    if (this.#isReading) return;
    this.#isReading = true;
    const box = `reply:${this.#appId}:${this.#inbox}`;
    try {
      while (this.#waiting.size > 0) {
        try {
          await connected(this.#reader);
          const first = await this.#reader.blpop(box, REPLY_SECONDS);
          if (first === null) continue;
          const more = (await this.#reader.lpop(box, AT_ONCE)) ?? [];
          for (const text of [first[1], ...more]) await this.#hand(text);
        } catch {
          await sleep(100); // the broker is away: each caller has a time-out of its own
        }
      }
    } finally {
      this.#isReading = false;
    }
  }

  async #hand(text) {
    if (text.startsWith("{")) {
      // In clear, so anybody may have written it: nothing but this one verdict is believed.
      const { verdict, reason, request_id: id } = JSON.parse(text);
      if (verdict === "unauthorized") this.#waiting.get(id)?.reject(new Unauthorized(reason));
      return;
    }
    const answer = await open(this.#key, "session-answer", text).catch(() => ({}));
    const caller = this.#waiting.get(answer.request_id); // what comes for nobody is dropped
    if (answer.v !== 1 || answer.app_id !== this.#appId || answer.task !== caller?.task) return;
    if (answer.verdict === "unauthorized") caller.reject(new Unauthorized(answer.reason));
    else caller.resolve(answer);
  }
}

async function connected(redis) {
  if (redis.status === "ready") return;
  if (redis.status === "wait" || redis.status === "end") await redis.connect();
  else await once(redis, "ready", { signal: AbortSignal.timeout(5000) });
}
