// The words of one grant, and what may be done with it. Pure but for the language in use.
import { t } from "../parts/strings.js";
import { clockText, dateText } from "../parts/time_text.js";

const KINDS = ["mission", "visit", "home"];

/** Who opened what, when; a home's label never comes. */
export function grantWords(grant, nowUs) {
  const { title, account, kind, label, opened_us, expires_us } = grant;
  const [when, end] = [dateText(opened_us), dateText(expires_us)];
  const until = end.slice(0, 10) === when.slice(0, 10) ? clockText(expires_us) : end;
  return {
    who: title === account ? account : `${title} (${account})`,
    hospital: grant.hospital,
    session: [label || t("label_withheld"), t(KINDS.includes(kind) ? kind : "kind_unknown")].join(" · "),
    when,
    until: expires_us > nowUs ? `${until} · ${t("review_open")}` : until,
    reason: grant.reason,
  };
}

/** What the reader may do: `review` it, nothing since it is `own`, or nothing since it is `done`. */
export function stateOf(grant, reader) {
  if (!grant.to_review) return "done";
  return grant.account === reader ? "own" : "review";
}

export function countGrants(grants) {
  const waiting = grants.filter(({ to_review }) => to_review).length;
  return { waiting, done: grants.length - waiting };
}
