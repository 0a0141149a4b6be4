// The auditor's screen: every break-glass, those that wait for a review first.
import { ask, problemKey } from "../parts/ask.js";
import { el, setHidden, setText } from "../parts/dom.js";
import { requireSignIn, SignedIn } from "../parts/signed_in.js";
import { language, otherLanguage, setLanguage, startLanguage, t } from "../parts/strings.js";
import { clockText } from "../parts/time_text.js";
import { GrantCard } from "./grant_card.js";
import { countGrants } from "./grant_words.js";

// As many as one answer holds (cloud/api/reach_routes.py).
const MOST = 200;
const OWN_WORDS = { 0: "review_failed", 403: "review_not_allowed", 503: "review_failed" };

const drafts = new Map(); // grant id -> what was typed and not sent
let me = null;
let answer = null; // {server_us, grants} of the newest that came
let notice = null; // {key, status, isProblem}: what happened last
let isAsking = false;
let view = null;

function build() {
  view = {
    signedIn: new SignedIn(),
    counts: el("p", { class: "counts", role: "status", "data-testid": "review-counts" }),
    // Two: what is wrong interrupts, what went well waits.
    problem: el("p", { class: "problem", role: "alert", "data-testid": "review-trouble" }),
    notice: el("p", { class: "warning", role: "status", tabindex: "-1", "data-testid": "review-notice" }),
    list: el("main", { class: "grants" }),
  };
  document.getElementById("screen").replaceChildren(
    toolbar(),
    el("div", { class: "bar" }, view.counts, view.problem, view.notice),
    view.list,
    el("footer", { class: "disclaimer" }, t("review_disclaimer")),
  );
  document.title = `vitalwire · ${t("review_title")}`;
  view.signedIn.update(me);
  show();
}

function toolbar() {
  const change = () => {
    setLanguage(otherLanguage());
    build();
    document.querySelector("[data-testid=language-switch]").focus();
  };
  return el(
    "header",
    { class: "toolbar" },
    el("h1", { class: "brand" }, el("b", {}, "vitalwire"), el("span", {}, t("review_title"))),
    el("span", { class: "spring" }),
    el("button", { type: "button", "data-testid": "review-refresh", onclick: refresh }, t("review_refresh")),
    view.signedIn.node,
    el(
      "button",
      { type: "button", "data-testid": "language-switch", title: t("language_hint"), lang: language() === "zh" ? "en" : "zh-CN", onclick: change },
      t("language"),
    ),
  );
}

function show() {
  const grants = answer?.grants ?? [];
  const words = notice ? t(notice.key, notice) : "";
  setText(view.problem, notice?.isProblem ? words : "");
  setText(view.notice, notice?.isProblem ? "" : words);
  setHidden(view.notice, !words || notice.isProblem);
  setText(view.counts, answer ? t("review_counts", { ...countGrants(grants), time: clockText(answer.server_us) }) : "");
  const cards = grants.map(
    (grant) =>
      new GrantCard({
        grant,
        reader: me?.name,
        nowUs: answer.server_us,
        draft: drafts.get(grant.grant_id) ?? "",
        onDraft: (text) => drafts.set(grant.grant_id, text),
        onSettled: (key) => settle(grant.grant_id, key),
      }),
  );
  const more = grants.length >= MOST ? [el("p", { class: "quiet-words" }, t("review_first", { n: MOST }))] : [];
  const nothing = answer && grants.length === 0 ? [el("p", { class: "nothing", "data-testid": "review-none" }, t("review_none"))] : [];
  view.list.replaceChildren(...nothing, ...cards.map(({ node }) => node), ...more);
}

async function settle(grantId, key) {
  drafts.delete(grantId);
  await load();
  if (!notice) notice = { key };
  show();
  if (!notice.isProblem) view.notice.focus();
}

async function refresh() {
  await load();
  show();
}

/** Asks who is here and for the list. Never by itself: each look is on the trail, and nobody there is no use of a sign-in. */
async function load() {
  if (isAsking) return;
  isAsking = true;
  const { status, body } = await ask("/api/v1/break-glass");
  isAsking = false;
  notice = status === 200 ? null : { key: problemKey(status, OWN_WORDS), status, isProblem: true };
  if (status === 200) answer = body;
  // What one may no longer see does not stay on the screen.
  else if (status === 401 || status === 403) answer = null;
  if (status === 401) await requireSignIn();
}

async function arrive() {
  const { status, body } = await ask("/api/v1/me");
  if (status === 200) me = body;
  view.signedIn.update(me);
  await refresh();
}

startLanguage();
build();
arrive();
