// The page to sign in on: name and password, or the site's own sign-in; then back to where one came from.
import { el, setAttribute, setText } from "../parts/dom.js";
import { safeNext, SignedIn } from "../parts/signed_in.js";
import { both, language, otherLanguage, setLanguage, startLanguage, t } from "../parts/strings.js";

const ANSWER_MS = 20_000;
const RETRY_MS = 2000;
const asked = new URLSearchParams(location.search).get("next");
let me = null;
let view = null;
let problem = problemOf(new URLSearchParams(location.search));
let isBusy = false;

/** What the way back from the site's own sign-in says. */
function problemOf(query) {
  return query.has("refused") ? { key: "sign_in_refused_elsewhere" } : null;
}

function build() {
  const field = (name, attributes) => el("input", { name, id: name, required: true, spellcheck: "false", autocapitalize: "none", ...attributes });
  view = {
    name: field("username", { autocomplete: "username", maxlength: "100", "data-testid": "sign-in-name" }),
    password: field("password", { type: "password", autocomplete: "current-password", maxlength: "256", "data-testid": "sign-in-password" }),
    send: el("button", { type: "submit", "data-testid": "sign-in-send" }, t("sign_in")),
    problem: el("p", { class: "problem", role: "alert", "data-testid": "sign-in-problem" }),
  };
  const form = el(
    "form",
    { onsubmit: send, novalidate: true },
    el("label", {}, el("span", {}, t("sign_in_name")), view.name),
    el("label", {}, el("span", {}, t("sign_in_password")), view.password),
    view.send,
  );
  const here = new SignedIn();
  here.update(me);
  const card = el("main", { class: "sign-in" }, el("h2", {}, t("sign_in")), view.problem);
  if (me?.name) card.append(el("p", {}, t("signed_in_no_screen")), here.node);
  else if (me?.ways.password) card.append(form);
  if (!me?.name && me?.ways.oidc) {
    card.append(el("a", { href: `/api/v1/oidc/start?next=${encodeURIComponent(asked ?? "")}`, "data-testid": "sign-in-oidc" }, t("sign_in_with", { name: me.ways.oidc })));
  }
  if (me && !me.ways.password && !me.ways.oidc) card.append(el("p", {}, t("sign_in_no_way")));
  document.getElementById("screen").replaceChildren(
    el(
      "div",
      { class: "page" },
      toolbar(),
      el("div", { class: "middle" }, card),
      el("footer", { class: "disclaimer" }, both("disclaimer")),
    ),
  );
  document.title = `vitalwire · ${t("sign_in")}`;
  showProblem();
}

function toolbar() {
  const change = () => {
    const { name, password } = view;
    setLanguage(otherLanguage());
    build();
    [view.name.value, view.password.value] = [name.value, password.value];
    document.querySelector("[data-testid=language-switch]").focus();
  };
  return el(
    "header",
    { class: "toolbar" },
    el("h1", { class: "brand" }, el("b", {}, "vitalwire"), el("span", {}, t("sign_in"))),
    el("span", { class: "spring" }),
    el(
      "button",
      { type: "button", "data-testid": "language-switch", title: t("language_hint"), lang: language() === "zh" ? "en" : "zh-CN", onclick: change },
      t("language"),
    ),
  );
}

function showProblem() {
  setText(view.problem, problem ? t(problem.key, problem) : "");
  for (const field of [view.name, view.password]) setAttribute(field, "aria-invalid", problem?.key === "sign_in_wrong" ? "true" : null);
}

async function send(event) {
  event.preventDefault();
  if (isBusy) return;
  const [name, password] = [view.name.value.trim(), view.password.value];
  if (!name || !password) {
    problem = { key: "sign_in_both" };
    showProblem();
    (name ? view.password : view.name).focus();
    return;
  }
  isBusy = true;
  setAttribute(view.send, "aria-disabled", "true");
  problem = await signIn(name, password);
  isBusy = false;
  if (!problem) return arrive();
  setAttribute(view.send, "aria-disabled", null);
  showProblem();
  view.password.value = "";
  view.password.focus();
}

/** What is in the way, or null. */
async function signIn(name, password) {
  try {
    const answer = await fetch("/api/v1/sign-in", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name, password }),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (answer.ok) return null;
    if (answer.status === 429) return { key: "sign_in_wait", s: answer.headers.get("Retry-After") };
    return { key: answer.status === 401 || answer.status === 422 ? "sign_in_wrong" : "sign_in_unavailable" };
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    return { key: "sign_in_unavailable" };
  }
}

/** Who is here, or null while the server does not say. */
async function askMe() {
  try {
    const answer = await fetch("/api/v1/me", { signal: AbortSignal.timeout(ANSWER_MS) });
    return answer.ok ? await answer.json() : null;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError)) throw error;
    return null;
  }
}

/** Asks who is here until it is known, and sends them on to where they came from or to the screen of their role. */
async function arrive() {
  const found = await askMe();
  if (!found) {
    problem = { key: "sign_in_retrying" };
    showProblem(); // not built anew: somebody may be typing
    setTimeout(arrive, RETRY_MS);
    return;
  }
  if (problem?.key === "sign_in_retrying") problem = null;
  me = found;
  const next = me.name ? safeNext(asked, me.role) : null;
  if (next) location.replace(next);
  build();
  view.name.focus();
}

startLanguage();
build();
arrive();
