// The fleet screen for those who run the boxes: composes link, list, filter and details.
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { LiveLink } from "../parts/live.js";
import { requireSignIn, SignedIn } from "../parts/signed_in.js";
import { both, language, otherLanguage, setLanguage, startLanguage, t } from "../parts/strings.js";
import { ageText, clockText } from "../parts/time_text.js";
import { Boxes } from "./boxes.js";
import { Details } from "./details.js";
import { Table } from "./table.js";
import { byTrouble, countGroups, matches, STATES, troublesOf, wordsOf } from "./troubles.js";

// Ages are whole seconds, and heartbeats come every 5 s.
const REFRESH_MS = 1000;
// Rows that change places under a finger are the wrong ones to press.
const REORDER_MS = 3000;
const EXPLAIN_MS = 2000;
const GROUPS = ["all", "trouble", ...STATES];

const boxes = new Boxes();
const query = new URLSearchParams(location.search);
const chosen = {
  group: GROUPS.includes(query.get("state")) ? query.get("state") : "all",
  text: query.get("filter") ?? "",
  box: query.get("box"),
};
const link = new LiveLink(`${location.origin.replace(/^http/, "ws")}/api/v1/fleet/live`, {
  onMessage: (message, nowMs) => {
    boxes.apply(message, nowMs);
    if (message.type === "fleet" && view) refreshSoon();
  },
  onRefused: requireSignIn,
});
const timing = { refreshes: 0, lastMs: 0, worstMs: 0 };
let view = null;
let order = new Map(); // gateway id -> place, kept between sortings
let orderedMs = -Infinity;
let timer = 0;
let isRefused = false;

function build() {
  const filter = el("input", {
    type: "search",
    class: "filter",
    value: chosen.text,
    placeholder: t("filter"),
    "aria-label": t("filter"),
    "data-testid": "filter",
    oninput: () => {
      chosen.text = filter.value;
      refreshSoon();
    },
  });
  const groups = Object.fromEntries(
    GROUPS.map((group) => [group, el("button", { type: "button", class: "group", "data-testid": `group-${group}`, onclick: () => choose(group) })]),
  );
  view = {
    filter,
    groups,
    counts: Object.fromEntries(GROUPS.map((group) => [group, el("b", {})])),
    clock: el("time", { class: "clock", "data-testid": "clock" }),
    signIn: el("span", { class: "auto-sign-in", hidden: true }, t("auto_sign_in")),
    signedIn: new SignedIn(),
    shown: el("span", { class: "shown", role: "status", "data-testid": "shown" }),
    deadSince: el("span", {}),
    connecting: el("p", { class: "nothing", "data-testid": "connecting" }),
    table: new Table({ onOpen: open, onSeen: refreshSoon }),
    details: new Details({ onClose: close }),
  };
  for (const group of GROUPS) view.groups[group].append(view.counts[group], el("span", {}, t(`fleet_${group}`)));
  view.dead = el(
    "div",
    { class: "screen-dead", "data-testid": "screen-dead", role: "alert", hidden: true },
    el("strong", {}, both("screen_dead")),
    el("span", {}, t("screen_dead_hint")),
    view.deadSince,
  );
  document.getElementById("screen").replaceChildren(
    toolbar(),
    el("nav", { class: "groups" }, ...Object.values(groups), filter, view.shown),
    view.dead,
    view.connecting,
    el("div", { class: "stage" }, view.table.node, view.details.node),
    el("footer", { class: "disclaimer" }, t("fleet_disclaimer"), el("span", { class: "keys" }, ` · ${t("fleet_keys")}`)),
  );
  document.title = `vitalwire · ${t("fleet_title")}`;
  if (chosen.box) view.details.open(chosen.box);
  refresh();
}

function toolbar() {
  const change = () => {
    setLanguage(otherLanguage());
    build();
  };
  return el(
    "header",
    { class: "toolbar" },
    el("h1", { class: "brand" }, el("b", {}, "vitalwire"), el("span", {}, t("fleet_title"))),
    el("span", { class: "spring" }),
    view.signIn,
    view.signedIn.node,
    el(
      "button",
      { type: "button", "data-testid": "language-switch", title: t("language_hint"), lang: language() === "zh" ? "en" : "zh-CN", onclick: change },
      t("language"),
    ),
    view.clock,
  );
}

function choose(group) {
  chosen.group = group;
  refreshSoon();
}

function open(id) {
  chosen.box = id;
  view.details.open(id);
  refresh();
}

function close() {
  const id = chosen.box;
  chosen.box = null;
  view.details.close();
  refresh();
  view.table.focus(id);
}

/** Many messages in one turn are one refresh. */
function refreshSoon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, 50);
}

function refresh() {
  clearTimeout(timer);
  timer = setTimeout(refresh, REFRESH_MS);
  const nowMs = performance.now();
  const dead = link.isDead(nowMs);
  const nowUs = boxes.serverUs(nowMs);
  const all = [...boxes.rows.values()].map((row) => ({ row, troubles: troublesOf(row, nowUs) }));
  const words = wordsOf(chosen.text);
  const shown = arranged(all, nowMs).filter((box) => matches(box, chosen.group, words));
  view.table.show(shown, { nowUs, dead, all: all.length, openId: chosen.box });
  view.details.update(boxes.rows.get(chosen.box), nowUs, dead);
  showCounts(countGroups(all), shown.length);
  setText(view.clock, clockText(nowUs));
  view.signedIn.update(boxes.hello);
  setHidden(view.signIn, !boxes.hello?.auto_sign_in);
  setHidden(view.dead, !dead);
  setAttribute(document.body, "data-dead", dead ? "true" : null);
  const age = ageText(link.silentMs(nowMs));
  setText(view.deadSince, t("since", { time: clockText(nowUs - link.silentMs(nowMs) * 1000), age }));
  setHidden(view.connecting, boxes.hello !== null);
  setText(view.connecting, t(isRefused ? "fleet_refused" : "connecting"));
  setHidden(view.table.node, boxes.hello === null);
  timing.lastMs = performance.now() - nowMs;
  timing.worstMs = Math.max(timing.worstMs, timing.lastMs);
  timing.refreshes += 1;
}

/** By trouble, sorted anew only now and then; a box that is new stands where it belongs at once. */
function arranged(all, nowMs) {
  const isNew = all.length !== order.size || all.some(({ row }) => !order.has(row.gateway_id));
  if (isNew || nowMs - orderedMs >= REORDER_MS) {
    orderedMs = nowMs;
    all.sort(byTrouble);
    order = new Map(all.map(({ row }, place) => [row.gateway_id, place]));
    return all;
  }
  return all.sort((one, other) => order.get(one.row.gateway_id) - order.get(other.row.gateway_id));
}

function showCounts(counts, shown) {
  for (const group of GROUPS) {
    setText(view.counts[group], String(counts[group]));
    setAttribute(view.groups[group], "aria-pressed", String(group === chosen.group));
    setAttribute(view.groups[group], "data-some", counts[group] > 0 ? "true" : null);
  }
  setText(view.shown, t("shown_of", { n: shown, all: counts.all }));
}

/** A handshake that is refused tells a page nothing: ask plainly once. */
async function explain() {
  if (boxes.hello !== null) return;
  try {
    const answer = await fetch("/api/v1/fleet", { signal: AbortSignal.timeout(10_000) });
    isRefused = answer.status === 401 || answer.status === 403;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
  }
  refreshSoon();
}

function onKey(event) {
  const isTyping = event.target === view.filter;
  if (event.key === "Escape" && chosen.box) close();
  else if (event.key === "Escape" && isTyping) {
    view.filter.value = chosen.text = "";
    refreshSoon();
    view.table.focus();
  } else if (event.key === "/" && !isTyping) view.filter.focus();
  else if ((event.key === "ArrowDown" || event.key === "Enter") && isTyping) view.table.focus();
  else return;
  event.preventDefault();
}

window.vitalwire = {
  stats: () => ({ ...timing, boxes: boxes.rows.size }),
  resetStats: () => Object.assign(timing, { refreshes: 0, worstMs: 0 }),
};
startLanguage();
build();
link.start();
setTimeout(explain, EXPLAIN_MS);
document.addEventListener("keydown", onKey);
