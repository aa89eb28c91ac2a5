// An app without a framework: login, another factor where one is asked for, a page for signed-in users, logout, and being
// told of logouts.
//
//     SESSION_BROKER_URL=… SESSION_APP_ID=desk SESSION_APP_KEY=… NOTICE_QUEUE=desk-notices \
//     node server.mjs            (PORT=8090; register the queue with `apps set-notice`)

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { SessionClient, Unavailable } from "./client.mjs";

const { SESSION_BROKER_URL, SESSION_APP_ID, SESSION_APP_KEY, NOTICE_QUEUE, PORT = "8090" } = process.env;
const client = new SessionClient({
  brokerUrl: SESSION_BROKER_URL,
  appId: SESSION_APP_ID,
  appKey: SESSION_APP_KEY,
});

// The browser token is a cookie that all apps below one domain share; on localhost, all ports do.
// In production both have the attribute Secure, and names that begin with `__Secure-` and `__Host-`.
const BROWSER = "mosaic-sso";
const KNOWN = "desk-known"; // that users have proved themselves here before: it stays after a logout
const LOCAL = "desk-session";
const local = new Map(); // our own sessions: id → {user, ref}
const BEGUN = "desk-login";
const begun = new Map(); // first steps under way: id → the handle that the second one brings
// What has ended within the last hour: a notice may overtake an answer that is on its way to us.
const ended = new Set();

createServer(async (request, response) => {
  const answer = (status, body, headers = {}) =>
    response.writeHead(status, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", ...headers }).end(body);
  try {
    await serve(request, answer);
  } catch (error) {
    console.error(error.message);
    // A worker that is away is no reason to ask anybody for a password.
    const isAway = error instanceof Unavailable;
    answer(isAway ? 503 : 500, isAway ? "Try again in a moment." : "Our fault.", isAway ? { "Retry-After": "5" } : {});
  }
}).listen(Number(PORT), "127.0.0.1", () => console.log(`Listening on http://127.0.0.1:${PORT}`));

async function serve(request, answer) {
  const cookies = read(request.headers.cookie);
  const route = `${request.method} ${new URL(request.url, "http://localhost").pathname}`;
  if (request.method === "POST" && !isOwn(request)) return answer(403, "This came from another site.");
  if (route === "GET /") return home(cookies, answer);
  if (route === "GET /login") return answer(200, form(""));
  if (route === "POST /login") return logIn(request, cookies, answer);
  if (route === "GET /step-up") return answer(200, code(""));
  if (route === "POST /step-up") return stepUp(request, cookies, answer);
  if (route === "POST /logout") return logOut(cookies, answer);
  return answer(404, "No such page.");
}

async function home(cookies, answer) {
  const known = local.get(cookies[LOCAL]);
  if (known) return answer(200, page(known.user));
  if (!cookies[BROWSER]) return answer(303, "", { Location: "/login" });
  // Another app of the company may have signed this browser in: ask, nobody has to type anything.
  const said = await client.ask("sessions.silent_auth", { browser_token: cookies[BROWSER] });
  if (said.verdict === "interaction_required") return answer(303, "", { Location: "/step-up" });
  const isIn = said.verdict === "authenticated" && !ended.has(said.data.session_ref);
  if (!isIn) return answer(303, "", { Location: "/login" });
  return answer(200, page(said.data.user_id), { "Set-Cookie": begin(said.data) });
}

async function logIn(request, cookies, answer) {
  const sent = new URLSearchParams(await text(request));
  const said = await client.ask(
    "sessions.authenticate",
    {
      method: "password",
      fields: { username: sent.get("user") ?? "", password: sent.get("password") ?? "" },
      ...(cookies[BROWSER] ? { replaces: cookies[BROWSER] } : {}),
      ...(cookies[KNOWN] ? { known_browser: cookies[KNOWN] } : {}),
    },
    { timeout: 10_000 },
  );
  if (said.verdict === "access_denied") return answer(403, form("That was not right."));
  return signedIn(said, cookies, answer);
}

/** Have a code sent, or take it. No page here asks for it, but an operator may of all. */
async function stepUp(request, cookies, answer) {
  if (!cookies[BROWSER]) return answer(303, "", { Location: "/login" });
  const sent = new URLSearchParams(await text(request));
  const handle = begun.get(cookies[BEGUN]);
  if (sent.has("code") && !handle) return answer(403, code("Have a new code sent."));
  const said = await client.ask(
    sent.has("code") ? "sessions.authenticate" : "sessions.start",
    {
      method: "otp",
      // To whom it goes the worker knows.
      ...(sent.has("code") ? { fields: { code: sent.get("code") }, login: handle } : { fields: { channel: "sms" } }),
      step_up: cookies[BROWSER],
      ...(cookies[KNOWN] ? { known_browser: cookies[KNOWN] } : {}),
    },
    { timeout: 10_000 },
  );
  if (said.verdict === "access_denied") return answer(403, code("That did not work."));
  if (said.verdict !== "ok") return signedIn(said, cookies, answer);
  const id = randomBytes(32).toString("base64url");
  begun.set(id, said.data.login);
  setTimeout(() => begun.delete(id), said.data.expires_in * 1000).unref();
  return answer(200, code("It is on its way."), { "Set-Cookie": cookie(BEGUN, id) });
}

/** Keep what a login or another factor has given, if it did; the page then says what is missing. */
function signedIn({ verdict, data }, cookies, answer) {
  local.delete(cookies[LOCAL]);
  const fresh = [];
  if (verdict === "authenticated") fresh.push(begin(data));
  if (data?.browser_token) fresh.push(cookie(BROWSER, data.browser_token));
  if (data?.known_browser) fresh.push(cookie(KNOWN, data.known_browser, `; Max-Age=${180 * 86_400}`));
  return answer(303, "", { Location: "/", "Set-Cookie": fresh });
}

async function logOut(cookies, answer) {
  local.delete(cookies[LOCAL]); // here in any case
  if (cookies[BROWSER]) await client.logout({ browser_token: cookies[BROWSER] }, { timeout: 10_000 });
  const gone = [LOCAL, BROWSER, BEGUN].map((name) => cookie(name, "", "; Max-Age=0"));
  return answer(303, "", { Location: "/login", "Set-Cookie": gone });
}

function begin({ user_id: user, session_ref: ref }) {
  const id = randomBytes(32).toString("base64url");
  local.set(id, { user, ref });
  return cookie(LOCAL, id);
}

function endAll(ref) {
  ended.add(ref);
  setTimeout(() => ended.delete(ref), 3_600_000).unref();
  for (const [id, session] of local) if (session.ref === ref) local.delete(id);
}

const cookie = (name, value, more = "") => `${name}=${value}; Path=/; HttpOnly; SameSite=Lax${more}`;

function read(header = "") {
  const pairs = header.split(/;\s*/).map((pair) => pair.split(/=(.*)/s));
  const names = pairs.map(([name]) => name);
  // A cookie that comes twice was planted by a sibling host: it counts as none.
  return Object.fromEntries(pairs.filter(([name]) => names.indexOf(name) === names.lastIndexOf(name)));
}

function isOwn({ headers }) {
  const site = headers["sec-fetch-site"];
  if (site) return site === "same-origin" || site === "none";
  return headers.origin === `http://${headers.host}`;
}

async function text(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > 16_384) throw new Error("a form that large is none of ours");
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

const escape = (said) => said.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
const page = (user) => `<h1>Desk of ${escape(user)}</h1><form method=post action=/logout><button>Sign out</button></form>`;
const code = (said) =>
  `<p>${said}</p><form method=post action=/step-up><button>Send me a code</button></form>` +
  `<form method=post action=/step-up><input name=code><button>Go on</button></form>`;
const form = (said) =>
  `<p>${said}</p><form method=post action=/login><input name=user><input name=password type=password><button>Sign in</button></form>`;

if (NOTICE_QUEUE) client.takeNotices(NOTICE_QUEUE, ({ session_ref: ref }) => endAll(ref));
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => (client.close(), process.exit(0)));
