// The alarm band: every active alarm of every patient, most urgent first, in IEC 60601-1-8 colours and words.
import { byUrgency, conditionWords, evidenceWords, stars } from "./alarm_words.js";
import { el, setAttribute, setHidden, setText } from "./dom.js";
import { t } from "./strings.js";
import { clockText } from "./time_text.js";

// Two rows: the rest is one touch away. An alarm this wide shows its condition unabridged.
const ROWS = 2;
const ALARM_PX = 394;
const MARGIN_PX = 90; // the band's own, and the button for the rest

export class AlarmBanner {
  constructor({ onOpen }) {
    this.onOpen = onOpen;
    this.expanded = false;
    this.rows = new Map();
    this.announced = new Set();
    this.quiet = el("p", { class: "alarm-none" });
    this.list = el("ul", { class: "alarm-list" });
    this.more = el("button", { class: "alarm-more", type: "button", onclick: () => this.#toggle() });
    this.polite = el("div", { class: "sr-only", "aria-live": "polite", role: "status" });
    this.assertive = el("div", { class: "sr-only", "aria-live": "assertive", role: "alert" });
    this.node = el(
      "section",
      { class: "alarm-band", "data-testid": "alarm-band" },
      this.quiet,
      this.list,
      this.more,
      this.polite,
      this.assertive,
    );
  }

  /** alarms: [{key, sessionId, label, alert}]; only active ones. */
  update(alarms, vocabulary) {
    const sorted = [...alarms].sort((a, b) => byUrgency(a.alert, b.alert));
    const room = ROWS * Math.max(1, Math.floor((this.node.clientWidth - MARGIN_PX) / ALARM_PX));
    const shown = this.expanded ? sorted : sorted.slice(0, room);
    setAttribute(this.node, "aria-label", t("alarms"));
    setHidden(this.quiet, sorted.length > 0);
    setText(this.quiet, t("no_alarms"));
    const hiddenCount = sorted.length - shown.length;
    setHidden(this.more, sorted.length <= room);
    setText(this.more, hiddenCount ? t("more_alarms", { n: hiddenCount }) : t("fewer_alarms"));
    this.#render(shown, vocabulary);
    this.#announce(sorted, vocabulary);
  }

  #toggle() {
    this.expanded = !this.expanded;
    this.node.classList.toggle("expanded", this.expanded);
  }

  #render(shown, vocabulary) {
    const keep = new Set(shown.map(({ key }) => key));
    for (const [key, row] of this.rows) {
      if (keep.has(key)) continue;
      row.item.remove();
      this.rows.delete(key);
    }
    shown.forEach((alarm, at) => {
      const row = this.rows.get(alarm.key) ?? this.#newRow(alarm);
      fillRow(row, alarm, vocabulary);
      if (this.list.children[at] !== row.item) this.list.insertBefore(row.item, this.list.children[at] ?? null);
    });
  }

  #newRow({ key, sessionId }) {
    const row = {
      stars: el("span", { class: "alarm-stars" }),
      words: el("span", { class: "alarm-words" }),
      label: el("span", { class: "alarm-label" }),
      evidence: el("span", { class: "alarm-evidence" }),
      detail: el("span", { class: "alarm-detail" }),
      delayed: el("span", { class: "alarm-delayed" }),
    };
    const button = el(
      "button",
      { class: "alarm", type: "button", "data-testid": "alarm-banner", onclick: () => this.onOpen(sessionId) },
      el("span", { class: "alarm-line" }, row.stars, row.words, row.label),
      el("span", { class: "alarm-line" }, row.evidence),
      el("span", { class: "alarm-line" }, row.detail, row.delayed),
    );
    row.item = el("li", {}, button);
    row.button = button;
    this.rows.set(key, row);
    return row;
  }

  #announce(sorted, vocabulary) {
    const current = new Set();
    for (const { key, label, alert } of sorted) {
      const id = `${key}/${alert.priority}`;
      current.add(id);
      if (this.announced.has(id)) continue;
      const words = `${t(`priority_${alert.priority}`)}${t("colon")}${label}, ${conditionWords(alert.condition, vocabulary)}`;
      setText(alert.priority === 3 ? this.assertive : this.polite, words);
    }
    this.announced = current;
  }
}

function fillRow(row, { label, alert, note }, vocabulary) {
  setAttribute(row.button, "data-priority", alert.priority);
  setAttribute(row.button, "data-condition", alert.condition);
  setAttribute(row.button, "data-kind", alert.kind);
  setText(row.stars, stars(alert.priority));
  setText(row.words, conditionWords(alert.condition, vocabulary));
  setText(row.label, label);
  setText(row.evidence, note ?? (alert.evidence ?? []).map((item) => evidenceWords(item, vocabulary)).join("; "));
  const onset = alert.placed === false ? t("onset_unknown") : t("onset", { time: clockText(alert.onset_us) });
  const detail = [t(alert.kind), onset];
  if (alert.phase === "escalated") detail.push(t("escalated"));
  if (alert.algorithm) detail.push(`${alert.algorithm} ${alert.version}`.trim());
  setText(row.detail, detail.join(" · "));
  setHidden(row.delayed, !alert.delayed);
  setText(row.delayed, t("delayed"));
}
