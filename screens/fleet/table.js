// The list of boxes, trouble first: rows are made once and only what changed in them is written.
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { t } from "../parts/strings.js";
import { COLUMNS, rowWords } from "./row_words.js";
import { troubleWords } from "./troubles.js";

const MOST_TROUBLES_SHOWN = 3;
// Rows this far out of sight are kept up to date: a quick scroll still finds words of now.
const SIGHT_MARGIN = "400px";

export class Table {
  /** `onSeen`: rows came into sight and want to be brought up to date. */
  constructor({ onOpen, onSeen }) {
    this.onOpen = onOpen;
    this.onSeen = onSeen;
    this.views = new Map();
    this.order = [];
    this.current = null; // the box the keyboard stands on
    this.body = el("div", { class: "boxes", role: "rowgroup", "data-testid": "boxes" });
    this.empty = el("p", { class: "nothing", "data-testid": "nothing", hidden: true });
    this.node = el(
      "main",
      { class: "fleet-table" },
      el("div", { class: "box-grid heads", role: "row" }, ...COLUMNS.map((name) => this.#head(name))),
      this.body,
      this.empty,
    );
    this.node.setAttribute("role", "table");
    this.sight = new IntersectionObserver((entries) => this.#sighted(entries), { root: this.node, rootMargin: SIGHT_MARGIN });
    this.body.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** `boxes`: [{row, troubles}] in the order to be shown. */
  show(boxes, { nowUs, dead, all, openId }) {
    const ids = boxes.map(({ row }) => row.gateway_id);
    const kept = new Set(ids);
    for (const [id, view] of this.views) {
      if (kept.has(id)) continue;
      this.sight.unobserve(view.node);
      view.node.remove();
      this.views.delete(id);
    }
    for (const box of boxes) this.#fill(this.#view(box.row.gateway_id), box, nowUs, dead);
    this.#arrange(ids);
    if (!kept.has(this.current)) this.current = ids[0] ?? null;
    for (const [id, view] of this.views) {
      setAttribute(view.open, "tabindex", id === this.current ? "0" : "-1");
      setAttribute(view.node, "aria-current", id === openId ? "true" : null);
    }
    setHidden(this.empty, ids.length > 0);
    setText(this.empty, t(all === 0 ? "no_boxes" : "no_match"));
  }

  focus(id = this.current) {
    this.current = id;
    this.views.get(id)?.open.focus();
  }

  #head(name) {
    const key = { box: "box", state: "state", trouble: "trouble" }[name] ?? `${name}_column`;
    return el("span", { class: `cell cell-${name}`, role: "columnheader", title: name === "backlog" ? t("lanes_hint") : null }, t(key));
  }

  #view(id) {
    let view = this.views.get(id);
    if (view) return view;
    const open = el("button", { type: "button", class: "box-open", tabindex: "-1", onclick: () => this.#open(id) });
    const cells = {};
    const node = el("div", { class: "box-grid box", role: "row", "data-testid": "box", "data-id": id });
    for (const name of COLUMNS) {
      const line = name === "box" ? open : el("span", { class: "line" });
      const quiet = el("span", { class: "quiet-line" });
      cells[name] = { line, quiet };
      const key = ["box", "state", "trouble"].includes(name) ? null : t(`${name}_column`);
      const cell = el("div", { class: `cell cell-${name}`, role: "cell", "data-head": key }, line, quiet);
      node.append(cell);
      if (name === "trouble") cells.trouble.list = cell;
    }
    node.addEventListener("click", ({ target }) => target !== open && this.#open(id));
    view = { node, open, cells, troubles: "", isInSight: true };
    this.views.set(id, view);
    this.sight.observe(node);
    return view;
  }

  #open(id) {
    this.current = id;
    this.onOpen(id);
  }

  #sighted(entries) {
    for (const { target, isIntersecting } of entries) {
      const view = this.views.get(target.dataset.id);
      if (view) view.isInSight = isIntersecting;
    }
    if (entries.some(({ isIntersecting }) => isIntersecting)) this.onSeen();
  }

  #fill(view, { row, troubles }, nowUs, dead) {
    if (!view.isInSight) return;
    const words = rowWords(row, nowUs, dead);
    for (const [name, [line, quiet]] of Object.entries(words)) {
      setText(view.cells[name].line, line);
      setText(view.cells[name].quiet, quiet);
    }
    setAttribute(view.node, "data-state", dead ? "unknown" : row.state);
    setAttribute(view.node, "data-level", troubles[0]?.level ?? 0);
    this.#fillTroubles(view, troubles);
  }

  #fillTroubles(view, troubles) {
    const shown = troubles.slice(0, MOST_TROUBLES_SHOWN).map((trouble) => [trouble.level, troubleWords(trouble)]);
    const more = troubles.length - shown.length;
    const stamp = JSON.stringify([shown, more]);
    if (view.troubles === stamp) return;
    view.troubles = stamp;
    const tags = shown.map(([level, words]) =>
      el("span", { class: "trouble", "data-level": level }, el("b", {}, t(`level_${level}`)), ` ${words}`),
    );
    if (more > 0) tags.push(el("span", { class: "trouble more" }, `+${more}`));
    if (shown.length === 0) tags.push(el("span", { class: "fine" }, t("no_trouble")));
    view.cells.trouble.list.replaceChildren(...tags);
  }

  /** Moves only the rows that stand elsewhere; a moved row that had the focus keeps it. */
  #arrange(ids) {
    if (ids.length === this.order.length && ids.every((id, at) => id === this.order[at])) return;
    this.order = ids;
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    let next = this.body.firstChild;
    for (const id of ids) {
      const { node } = this.views.get(id);
      if (node === next) next = next.nextSibling;
      else this.body.insertBefore(node, next);
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  #onKey(event) {
    const at = this.order.indexOf(this.current);
    const page = 10;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: Infinity }[event.key];
    if (to === undefined || this.order.length === 0) return;
    event.preventDefault();
    const id = this.order[Math.min(Math.max(to, 0), this.order.length - 1)];
    setAttribute(this.views.get(this.current)?.open ?? this.body, "tabindex", "-1");
    this.current = id;
    const { open, node } = this.views.get(id);
    setAttribute(open, "tabindex", "0");
    open.focus({ preventScroll: true });
    node.scrollIntoView({ block: "nearest" });
  }
}
