// The emergency room's screen: composes link, store and views; decides only what is on the stage.
import { AlarmBanner } from "../parts/alarm_banner.js";
import { isActive } from "../parts/alarm_words.js";
import { el, setHidden, setText } from "../parts/dom.js";
import { LiveLink } from "../parts/live.js";
import { requireSignIn } from "../parts/signed_in.js";
import { patientSilence } from "../parts/silence.js";
import { Store } from "../parts/store.js";
import { both, startLanguage, t } from "../parts/strings.js";
import { ageText, clockText } from "../parts/time_text.js";
import { BreakGlass } from "./break_glass.js";
import { Cards } from "./cards.js";
import { FrameMeter } from "./frame_meter.js";
import { refusal } from "./refusal.js";
import { Settings } from "./settings.js";
import { Stage, WALL_MAX } from "./stage.js";
import { Toolbar } from "./toolbar.js";

const REFRESH_MS = 250;
const VOCABULARY_RETRY_MS = 2000;

const store = new Store();
const settings = new Settings();
const meter = new FrameMeter();
const query = new URLSearchParams(location.search);
const chosen = { selected: query.get("session"), wall: query.get("view") === "wall", pinned: new Set(), unpinned: new Set(), awaited: null };
const link = new LiveLink(`${location.origin.replace(/^http/, "ws")}/api/v1/live`, {
  onMessage: (message, nowMs) => store.apply(message, nowMs),
  onBlock: (frame, block) => store.applyBlock(frame, block, frame.heardMs),
  onRefused: explain,
});
const breakGlass = new BreakGlass({
  store,
  onOpened: ({ session_id, expires_us }, label) => {
    store.grants.set(session_id, expires_us);
    chosen.awaited = session_id;
    setText(said, t("break_glass_done", { label, time: clockText(expires_us).slice(0, 5) }));
  },
});
// Beside the screen: what it says is not lost when the screen is built anew.
const said = el("p", { class: "sr-only", role: "status" });
let refused = null; // who is here and may see no patient
let view = null;
let refreshedMs = -Infinity;

function build() {
  view?.stage.dispose();
  const open = (id) => id && (Object.assign(chosen, { selected: id, wall: false }), refreshSoon());
  view = {
    toolbar: new Toolbar({
      settings,
      onView: (wall) => ((chosen.wall = wall), refreshSoon()),
      onLanguage: build,
      onBreakGlass: () => breakGlass.open(),
    }),
    cards: new Cards({ onOpen: open, onPin: pin }),
    alarms: new AlarmBanner({ onOpen: open }),
    stage: new Stage({ store, settings, onOpen: open }),
    deadSince: el("span", {}),
    connecting: el("p", { class: "connecting" }, t("connecting")),
  };
  view.dead = el(
    "div",
    { class: "screen-dead", "data-testid": "screen-dead", role: "alert", hidden: true },
    el("strong", {}, both("screen_dead")),
    el("span", {}, t("screen_dead_hint")),
    view.deadSince,
  );
  const disclaimer = el("footer", { class: "disclaimer", "data-testid": "disclaimer" }, both("disclaimer"));
  if (refused) {
    document.getElementById("screen").replaceChildren(view.toolbar.node, refusal(refused), disclaimer);
    return;
  }
  const parts = [view.toolbar, view.cards, view.alarms, view.stage].map(({ node }) => node);
  document.getElementById("screen").replaceChildren(parts[0], parts[1], view.dead, parts[2], view.connecting, parts[3], disclaimer);
  document.title = `vitalwire · ${t("title")}`;
  refreshSoon();
}

/** A refused handshake tells a page nothing: whoever is here and may see no patient is told so, and asked no more. */
async function explain() {
  const me = await requireSignIn();
  if (refused || !me?.name || me.sees_patients) return;
  refused = me;
  link.stop();
  build();
}

function refreshSoon() {
  refreshedMs = -Infinity;
}

function pin(id) {
  const isPinned = chosen.pinned.has(id);
  (isPinned ? chosen.unpinned : chosen.pinned).add(id);
  (isPinned ? chosen.pinned : chosen.unpinned).delete(id);
  refreshSoon();
}

/** New patients join the wall by themselves while it has room; one taken off stays off. */
function choose() {
  const ids = [...store.patients.keys()];
  for (const id of chosen.pinned) if (!store.patients.has(id)) chosen.pinned.delete(id);
  for (const id of ids) if (chosen.pinned.size < WALL_MAX && !chosen.unpinned.has(id)) chosen.pinned.add(id);
  // What break-glass opened comes with the next snapshot, and is what somebody waits for.
  if (store.patients.has(chosen.awaited)) Object.assign(chosen, { selected: chosen.awaited, wall: false, awaited: null });
  if (!store.patients.has(chosen.selected)) chosen.selected = ids[0] ?? null;
  if (chosen.wall) return ids.filter((id) => chosen.pinned.has(id)).slice(0, WALL_MAX);
  return chosen.selected ? [chosen.selected] : [];
}

/** What this screen itself has to report of a patient, as an alarm like any other. */
function ownAlarms(patient, linkState, nowMs) {
  const silence = patientSilence(store, patient, linkState, nowMs);
  if (!silence) return [];
  const age = ageText((store.serverUs(nowMs) - silence.sinceUs) / 1000);
  const reason = { screen: "because_screen", offline: "because_offline", silent: "because_silent" }[silence.reason];
  const name = silence.stream ? (store.vocabulary.waveforms[silence.stream.kind] ?? {}) : {};
  const title = name[document.documentElement.lang === "en" ? "en" : "zh"];
  return [
    {
      alert: {
        condition: "no_data",
        kind: "technical",
        priority: 2,
        phase: "raised",
        onset_us: silence.sinceUs,
        time_us: silence.sinceUs,
        algorithm: t("this_screen"),
        version: "",
      },
      own: true,
      note: [title, t(reason), age].filter(Boolean).join(" · "),
    },
  ];
}

function activeAlarms(linkState, nowMs) {
  const alarms = [];
  for (const [sessionId, patient] of store.patients) {
    const label = patient.session.label || sessionId;
    for (const alert of patient.alerts.values()) {
      if (isActive(alert)) alarms.push({ key: `${sessionId}/${alert.alert_id}`, sessionId, label, alert });
    }
    for (const own of ownAlarms(patient, linkState, nowMs)) {
      alarms.push({ key: `${sessionId}/screen`, sessionId, label, ...own });
    }
  }
  return alarms;
}

function refresh(nowMs) {
  store.sweep(nowMs);
  const linkState = { dead: link.isDead(nowMs), silentMs: link.silentMs(nowMs) };
  const nowUs = store.serverUs(nowMs);
  const shown = choose();
  const alarms = activeAlarms(linkState, nowMs);
  const alarmsOf = (id) => alarms.filter(({ sessionId }) => sessionId === id).map(({ alert }) => alert);
  view.toolbar.update({ wall: chosen.wall, hello: store.hello, nowUs });
  if (refused) return;
  view.cards.update(store, alarmsOf, chosen, linkState, nowMs);
  // Behind a dead link every patient is without data: the banner says it once, for all.
  view.alarms.update(linkState.dead ? alarms.filter(({ own }) => !own) : alarms, store.vocabulary);
  setHidden(view.dead, !linkState.dead);
  const deadAge = ageText(linkState.silentMs);
  setText(view.deadSince, t("since", { time: clockText(nowUs - linkState.silentMs * 1000), age: deadAge }));
  setHidden(view.connecting, store.hello !== null);
  setHidden(view.stage.node, store.hello === null);
  view.stage.show(shown, chosen.wall);
  view.stage.refresh(linkState, nowMs);
}

function frame(nowMs) {
  const startMs = performance.now();
  if (startMs - refreshedMs >= REFRESH_MS) {
    refreshedMs = startMs;
    refresh(startMs);
  }
  if (!refused) view.stage.paint(startMs);
  meter.frame(nowMs, performance.now() - startMs);
  requestAnimationFrame(frame);
}

function onKey({ key, target, ctrlKey, altKey, metaKey }) {
  if (ctrlKey || altKey || metaKey || /^(SELECT|INPUT)$/.test(target.tagName) || target.closest("dialog")) return;
  const number = Number(key);
  if (number >= 1 && number <= store.patients.size) {
    Object.assign(chosen, { selected: [...store.patients.keys()][number - 1], wall: false });
  } else if (key === "w") chosen.wall = !chosen.wall;
  else return;
  refreshSoon();
}

/** Titles and units; values wait for nothing: until it comes they show under their own names. */
async function loadVocabulary() {
  try {
    const answer = await fetch("/api/v1/vocabulary");
    if (!answer.ok) throw new TypeError(`vocabulary: ${answer.status}`);
    store.vocabulary = await answer.json();
    build();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    setTimeout(loadVocabulary, VOCABULARY_RETRY_MS);
  }
}

window.vitalwire = {
  stats: () => ({ ...meter.stats(), badFrames: link.badFrames, sessions: view.stage.stats() }),
  resetStats: () => meter.reset(),
};
startLanguage();
document.body.append(said);
build();
loadVocabulary();
link.start();
document.addEventListener("keydown", onKey);
requestAnimationFrame(frame);
